"""Tests for L{benchmarks}."""
