"""
How an application entity is named and found, how it shows who it is, and what it
may do: as people write them. Each function returns the value as it is kept, or
raises L{ValueError} with what would be right.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from d360.model import Permission

#: RFC 1123 2.1, and underscores, which machines have in their names all the
#: same; whatever ends in digits alone is an address, or a slip in one.
_HOST_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"(?![0-9]+\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST_HOST = 253

#: SHA-256 in hexadecimal digits; openssl puts colons between the bytes.
_FINGERPRINT = re.compile(r"[0-9a-f]{64}|[0-9a-f]{2}(?::[0-9a-f]{2}){31}", re.ASCII)

#: Ports of syslog: RFC 5426 3.3, RFC 6587 3.2 (none is registered for plain TCP;
#: this is the usual one), RFC 5425 4.1.
_SYSLOG_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}


def readAETitle(value: Any) -> str:
    """
    An AE title without its padding: of the default character repertoire,
    without control characters and backslash (PS3.5 6.2).
    """
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    title = value.strip(" ")
    printable = all(" " <= c <= "~" and c != "\\" for c in title)
    if not 1 <= len(title) <= 16 or not printable:
        raise ValueError("1 to 16 characters of ASCII without a backslash")
    return title


def readHost(value: Any) -> str:
    """A host name by RFC 1123, underscores allowed, or an IP address."""
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    if len(value) <= _LONGEST_HOST:
        if _HOST_NAME.fullmatch(value):
            return value
        # A zone belongs to one machine's interfaces, and is of any text.
        if "%" not in value:
            try:
                return str(ipaddress.ip_address(value))
            except ValueError:
                pass
    raise ValueError(
        'a host name or an IP address, such as "ws1.example.org" or "192.0.2.7"'
    )


def readPort(value: Any) -> int:
    """A port to connect to."""
    # In Python true is a number; in JSON and TOML it is none.
    if type(value) is not int or not 1 <= value <= 65535:
        raise ValueError("a whole number from 1 to 65535")
    return value


def readFlag(value: Any) -> bool:
    """Yes or no, as TOML and JSON have it."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def readPermissions(value: Any) -> frozenset[Permission]:
    """What it may do, as a list of names; an empty one for nothing."""
    names = [permission.value for permission in Permission]
    if not isinstance(value, list) or not all(name in names for name in value):
        known = ", ".join(f'"{name}"' for name in names)
        raise ValueError(f"a list of {known}, or of some or none of them")
    return frozenset(map(Permission, value))


def namesOf(permissions: frozenset[Permission]) -> list[str]:
    """The inverse of L{readPermissions}, always in the same order."""
    return [one.value for one in Permission if one in permissions]


def readCertificate(value: Any) -> str:
    """
    The SHA-256 fingerprint of a certificate, in lower case and without colons;
    empty for none.
    """
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    fingerprint = value.strip().lower()
    if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(
            "its SHA-256 fingerprint, 64 hexadecimal digits, as openssl x509 "
            "-noout -fingerprint -sha256 shows it"
        )
    return fingerprint.replace(":", "")


def readSyslog(value: Any) -> tuple[str, str, int]:
    """
    A receiver of syslog as transport, host and port, of a URL such as
    C{"tls://log.example.org:6514"}.
    """
    right = 'such as "udp://log.example.org:514", or with tcp:// or tls://'
    if not isinstance(value, str):
        raise ValueError(f"a text in quotes, {right}")
    try:
        parts = urlsplit(value)
        usual = _SYSLOG_PORTS[parts.scheme]
        # urlsplit takes what it has no use for.
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            raise ValueError
        host = readHost(parts.hostname or "")
        port = usual if parts.port is None else readPort(parts.port)
    except (KeyError, ValueError):
        raise ValueError(f"a URL, {right}") from None
    return parts.scheme, host, port
