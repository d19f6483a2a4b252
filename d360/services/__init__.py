"""PS3.4: the service classes."""
