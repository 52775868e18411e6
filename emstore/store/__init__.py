"""Sealed, versioned storage of Volumes. The only room that knows zarr's format and object storage."""
