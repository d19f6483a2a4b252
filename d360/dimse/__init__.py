"""PS3.7: DIMSE messages and operations."""
