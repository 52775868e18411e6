"""JSON Schemas of every record emstore writes."""
