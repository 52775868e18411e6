"""Processing: versions in, one new version out. The second use case."""
