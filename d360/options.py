"""The options of the command line, C{twistd d360}."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from d360 import __version__
from d360.config import Configuration, load
from d360.errors import ConfigurationError


class Options(TwistedOptions):
    """
    The options of C{twistd d360}.

    @ivar configuration: what they and the file come to.
    """

    synopsis = "[options]"
    longdesc = (
        "A DICOM archive server (PACS). Options given here win over those of "
        "the configuration file, which has more of them: see etc/d360.toml."
    )
    optParameters = [
        ["config", "c", None, "Configuration file (TOML)."],
        ["port", "p", None, "DICOM port [default: 104]."],
        ["address", None, None, "IP address to listen on [default: 127.0.0.1]."],
        ["aet", "a", None, "AE title of this server [default: D360PACS]."],
        ["web-port", "w", None, "Port for administration by HTTP [default: 8360]."],
        ["data-directory", "d", None, "Where everything is kept [default: d360-data]."],
        [
            "database",
            None,
            None,
            "URL of a PostgreSQL server [default: an embedded one].",
        ],
    ]
    #: Which key of the file each of them stands for.
    _keyOf = {
        "port": "dicom.port",
        "address": "dicom.address",
        "aet": "dicom.ae_title",
        "web-port": "web.port",
        "data-directory": "data_directory",
        "database": "database.url",
    }

    configuration: Configuration

    def parseOptions(self, options: Any = None) -> None:
        """See L{TwistedOptions.parseOptions}; a mistake ends in one line."""
        try:
            super().parseOptions(options)
        except (UsageError, ConfigurationError) as error:
            raise SystemExit(f"twistd d360: {error}; see twistd d360 --help") from None

    def parseArgs(self, *arguments: str) -> None:
        """There are none."""
        if arguments:
            raise UsageError(f"unexpected argument {arguments[0]!r}")

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"D360 {__version__}\n")
        sys.exit(0)

    def postOptions(self) -> None:
        """Read the file and put the options over it."""
        overrides: dict[str, Any] = {}
        for option, key in self._keyOf.items():
            value = self[option]
            if value is None:
                continue
            if option.endswith("port"):
                if not value.isascii() or not value.isdigit():
                    raise UsageError(f"--{option} {value!r} is not a number")
                value = int(value)
            overrides[key] = value
        path = self["config"]
        self.configuration = load(None if path is None else Path(path), overrides)
