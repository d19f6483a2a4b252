"""Writes the statement to the standard output."""

from __future__ import annotations

import sys

from d360.conformance.document import statement

if __name__ == "__main__":
    sys.stdout.write(statement())
