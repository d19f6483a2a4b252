"""
C{python -m tests.faults NAME [...]}: the long form of one harness, which shows
how far it is, prints figures, and ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import tests.faults


def _harnesses() -> list[str]:
    """The modules here that have a long form."""
    found = [module.name for module in pkgutil.iter_modules(tests.faults.__path__)]
    return [
        name
        for name in found
        if not name.startswith(("_", "test_"))
        and hasattr(importlib.import_module(f"tests.faults.{name}"), "main")
    ]


def main(arguments: list[str]) -> int:
    """
    @return: the exit status.
    """
    names = _harnesses()
    if not arguments or arguments[0] not in names:
        known = ", ".join(names)
        print(f"usage: python -m tests.faults NAME [...]; NAME is one of: {known}")
        return 2
    module = importlib.import_module(f"tests.faults.{arguments[0]}")
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
