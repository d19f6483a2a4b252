"""What is counted and kept of the server's own work, for who watches it."""
