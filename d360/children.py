"""How processes of ours are started, wherever D360 is and whoever starts it."""

from __future__ import annotations

import os
import sys

import d360


def commandOf(module: str, *arguments: str) -> list[str]:
    """
    The command that runs a module of ours. The working directory is no place for
    modules: what is in it is not ours.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    """Its environment: ours, in which it finds this D360."""
    above = os.path.dirname(os.path.dirname(d360.__file__))
    path = [above, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}
