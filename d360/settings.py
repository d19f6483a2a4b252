"""The configuration in effect, as it may be shown."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import fields

from d360.config import Configuration, options

HIDDEN = "***"


def settingsInEffect(configuration: Configuration) -> dict[str, Any]:
    """Each key with its value, as JSON has it; a secret is hidden."""
    return dict(zip(options(), _values(configuration), strict=True))


def _values(section: Any) -> Iterator[Any]:
    """In the order of L{options}."""
    for option in fields(type(section)):
        value = getattr(section, option.name)
        if "read" not in option.metadata:
            yield from _values(value)
        elif option.metadata["secret"] and value:
            yield HIDDEN
        elif isinstance(value, enum.Enum):
            yield value.value
        else:
            yield str(value) if isinstance(value, Path) else value
