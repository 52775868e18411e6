"""Carrying an operation out: cut a result into blocks within a memory budget, make them, write whole shards, in any executor."""
