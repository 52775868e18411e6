"""Atomic columns: where they are, how precisely that can be known, and what follows from it."""
