"""The second port: administration over HTTP, and its command line client."""
