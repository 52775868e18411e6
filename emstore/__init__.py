"""emstore: one place for all of an imaging lab's data."""
