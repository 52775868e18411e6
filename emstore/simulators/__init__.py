"""Data made from a description alone, with the truth beside it."""
