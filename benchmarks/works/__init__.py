"""What is measured: each kind of work in a module."""
