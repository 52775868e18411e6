"""Built-in exporters, one module per family of formats."""
