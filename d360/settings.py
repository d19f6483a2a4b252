"""The configuration in effect, as plain values."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import fields

from d360.addresses import namesOf
from d360.config import Configuration, options

HIDDEN = "***"


def settingsInEffect(configuration: Configuration) -> dict[str, Any]:
    """Each key with its value, as JSON has it; a secret is hidden."""
    return dict(zip(options(), _values(configuration, False), strict=True))


def settingsWithSecrets(configuration: Configuration) -> dict[str, Any]:
    """
    Each key with its value: what L{d360.config.load} makes the same
    configuration of, in another process. Not to be shown.
    """
    return dict(zip(options(), _values(configuration, True), strict=True))


def _values(section: Any, withSecrets: bool) -> Iterator[Any]:
    """In the order of L{options}."""
    for option in fields(type(section)):
        value = getattr(section, option.name)
        if "read" not in option.metadata:
            yield from _values(value, withSecrets)
        elif option.metadata["secret"] and value and not withSecrets:
            yield HIDDEN
        elif isinstance(value, enum.Enum):
            yield value.value
        elif isinstance(value, frozenset):
            yield namesOf(value)
        else:
            yield str(value) if isinstance(value, Path) else value
