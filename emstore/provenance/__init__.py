"""How a version came to be."""
