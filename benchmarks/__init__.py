"""Measures D360 side by side with other servers."""
