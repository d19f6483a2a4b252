"""The archive: one Part 10 file an instance."""
