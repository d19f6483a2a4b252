"""
The configuration: a TOML file into frozen values. Whatever is not known or not
right is an error that names the line's key and says what would be right.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, field, fields, frozen, has

from d360.addresses import readAETitle, readPermissions, readSyslog
from d360.errors import ConfigurationError
from d360.model import ALL_PERMISSIONS, Duplicates, Permission
from d360.tls.profiles import PROFILES

T = TypeVar("T")

#: How a value of the file becomes one of ours; raises L{ValueError} with what
#: would be right.
Reader = Callable[[Any], Any]


def _option(default: Any, read: Reader, secret: bool = False) -> Any:
    return field(default=default, metadata={"read": read, "secret": secret})


def _section(kind: type) -> Any:
    return field(factory=kind)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text in quotes")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _number(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return value

    return read


def _oneOf(*words: str) -> Reader:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(" or ".join(f'"{word}"' for word in words))
        return str(value)

    return read


def _address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(_text(value)))
    except ValueError:
        raise ValueError(
            'an IP address, such as "127.0.0.1", or "0.0.0.0" for all'
        ) from None


def _token(value: Any) -> str:
    token = _text(value)
    if token != token.strip() or not token.isprintable():
        # No header of HTTP could carry it.
        raise ValueError("a text on one line, without spaces at its ends")
    return token


def _duplicates(value: Any) -> Duplicates:
    return Duplicates(_oneOf("replace", "keep")(value))


def _databaseURL(value: Any) -> str:
    url = _text(value)
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError('"postgresql://user@host/database", or "" for the embedded')
    return url


def _syslog(value: Any) -> str:
    if value != "":
        readSyslog(value)
    return str(value)


def _path(value: Any) -> Path:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError("a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path; the user behind ~ is not known here") from None


def _file(value: Any) -> str:
    """Relative to the working directory, which may be another one later."""
    text = _text(value)
    if "\0" in text:
        raise ValueError("a path")
    return str(Path.cwd() / Path(text).expanduser()) if text else ""


@frozen
class DICOM:
    """
    The DICOM side: section C{[dicom]}; times in seconds, C{minRate} in bytes a
    second, C{maxInstanceSize} in MiB.

    @ivar maxAssociationsPerHost: 0 for three quarters of all.
    @ivar maxInstanceSize: 0 for any.
    """

    aeTitle: str = _option("D360PACS", readAETitle)
    address: str = _option("127.0.0.1", _address)
    port: int = _option(104, _number(0, 65535))
    plain: bool = _option(True, _boolean)
    maxPDULength: int = _option(65534, _number(4096, 1048576))
    acceptAnyCalledAE: bool = _option(False, _boolean)
    requireKnownCallers: bool = _option(False, _boolean)
    defaultPermissions: frozenset[Permission] = _option(
        ALL_PERMISSIONS, readPermissions
    )
    acceptUnknownStorage: bool = _option(False, _boolean)
    duplicates: Duplicates = _option(Duplicates.REPLACE, _duplicates)
    maxAssociations: int = _option(2000, _number(1, 100000))
    maxAssociationsPerHost: int = _option(0, _number(0, 100000))
    maxInstanceSize: int = _option(65536, _number(0, 1 << 30))
    artimTimeout: int = _option(30, _number(1, 3600))
    idleTimeout: int = _option(600, _number(0, 86400))
    minRate: int = _option(100, _number(0, 1000000))
    shutdownTimeout: int = _option(30, _number(0, 3600))
    responseTimeout: int = _option(60, _number(1, 3600))
    parallelMoves: int = _option(1, _number(1, 16))


@frozen
class TLS:
    """
    DICOM over TLS: section C{[tls]}. The files are PEM, empty for none.

    @ivar port: 0 for none.
    @ivar clientCA: of the certificates that clients show.
    @ivar ca: of the servers that we connect to.
    """

    port: int = _option(0, _number(0, 65535))
    address: str = _option("127.0.0.1", _address)
    certificate: str = _option("", _file)
    key: str = _option("", _file)
    clientCA: str = _option("", _file)
    requireClientCertificate: bool = _option(False, _boolean)
    ca: str = _option("", _file)
    profile: str = _option("bcp195", _oneOf(*PROFILES))


@frozen
class Web:
    """
    The second port: section C{[web]}; with TLS, if there is a certificate;
    C{requestTimeout} in seconds.
    """

    address: str = _option("127.0.0.1", _address)
    port: int = _option(8360, _number(0, 65535))
    token: str = _option("", _token, secret=True)
    monitoringToken: str = _option("", _token, secret=True)
    certificate: str = _option("", _file)
    key: str = _option("", _file)
    requestTimeout: int = _option(60, _number(1, 3600))
    maxConnections: int = _option(200, _number(1, 100000))


@frozen
class Database:
    """The index: section C{[database]}."""

    url: str = _option("", _databaseURL, secret=True)
    account: str = _option("nobody", _text)
    connections: int = _option(8, _number(2, 64))


@frozen
class Archive:
    """The files: section C{[archive]}."""

    verifyDays: int = _option(0, _number(0, 3650))


@frozen
class Worklist:
    """The modality worklist: section C{[worklist]}."""

    removeArrived: bool = _option(False, _boolean)
    removeAfterDays: int = _option(0, _number(0, 36500))


@frozen
class Transcoding:
    """
    Data sets brought to another transfer syntax: section C{[transcoding]};
    C{timeout} in seconds, C{maxMemory} in MiB, of each worker.
    """

    workers: int = _option(2, _number(1, 64))
    timeout: int = _option(300, _number(1, 86400))
    maxMemory: int = _option(2048, _number(256, 1048576))


@frozen
class Log:
    """The log file: section C{[log]}; C{maxSize} in MiB."""

    file: str = _option("", _text)
    level: str = _option("info", _oneOf("debug", "info", "warn", "error"))
    maxSize: int = _option(50, _number(1, 10240))
    keep: int = _option(10, _number(1, 1000))


@frozen
class Audit:
    """The audit trail: section C{[audit]}; C{maxSize} in MiB."""

    file: str = _option("audit/audit.log", _text)
    maxSize: int = _option(50, _number(1, 10240))
    keep: int = _option(20, _number(0, 100000))
    syslog: str = _option("", _syslog)
    ca: str = _option("", _text)
    sourceID: str = _option("", _text)
    enterpriseSiteID: str = _option("", _text)


@frozen
class Configuration:
    """
    Everything that can be configured, see C{etc/d360.toml}.

    @ivar minFreeSpace: MiB; with less, nothing is stored. 0 for no such mark.
    @ivar workers: processes that serve associations; 0 for as many as suit the
        machine.
    """

    dataDirectory: Path = _option(Path("d360-data"), _path)
    minFreeSpace: int = _option(1024, _number(0, 1 << 30))
    workers: int = _option(0, _number(0, 64))
    dicom: DICOM = _section(DICOM)
    tls: TLS = _section(TLS)
    web: Web = _section(Web)
    database: Database = _section(Database)
    archive: Archive = _section(Archive)
    worklist: Worklist = _section(Worklist)
    transcoding: Transcoding = _section(Transcoding)
    log: Log = _section(Log)
    audit: Audit = _section(Audit)

    @property
    def logFile(self) -> Path:
        """Where the log goes."""
        if self.log.file:
            return self.dataDirectory / self.log.file
        return self.dataDirectory / "log" / "d360.log"

    @property
    def auditFile(self) -> Path | None:
        """Where the audit trail goes; C{None} for no file."""
        if self.audit.file:
            return self.dataDirectory / self.audit.file
        return None


#: Characters of a value in an error.
_LONGEST_SHOWN = 200

#: Words whose capitals are not those of a plain camelCase name.
_ACRONYMS = {"ae": "AE", "ca": "CA", "id": "ID", "pdu": "PDU"}


def _name(key: str) -> str:
    """C{max_pdu_length} as C{maxPDULength}."""
    first, *rest = key.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


def _key(name: str) -> str:
    """The inverse of L{_name}."""
    for word in _ACRONYMS.values():
        name = name.replace(word, word.capitalize())
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _shown(value: Any) -> str:
    """A value as an error shows it."""
    try:
        text = repr(value)
    except ValueError:
        # Python refuses to write a number of thousands of digits.
        return "..."
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _read(kind: type[T], table: dict[str, Any], prefix: str) -> T:
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        option = known.get(_name(key))
        if option is None or _key(option.name) != key:
            keys = ", ".join(sorted(prefix + _key(name) for name in known))
            raise ConfigurationError(
                f"unknown key {prefix + key!r}; known here: {keys}"
            )
        if "read" in option.metadata:
            try:
                values[option.name] = option.metadata["read"](value)
            except ValueError as error:
                # Errors end up in logs; a password does not.
                shown = "" if option.metadata["secret"] else f" = {_shown(value)}"
                raise ConfigurationError(
                    f"{prefix + key}{shown} is not right: give {error}"
                ) from None
        elif isinstance(value, dict):
            section = option.default.factory
            values[option.name] = _read(section, value, f"{prefix}{key}.")
        else:
            raise ConfigurationError(f"{key!r} is a section: write [{key}]")
    return kind(**values)


def _checkCertificates(configuration: Configuration) -> None:
    dicom, tls, web = configuration.dicom, configuration.tls, configuration.web
    for name, section in (("tls", tls), ("web", web)):
        if bool(section.certificate) != bool(section.key):
            raise ConfigurationError(
                f"{name}.certificate and {name}.key belong together: give both; one "
                "file may have both in it"
            )
    if tls.port and not tls.certificate:
        raise ConfigurationError(
            "tls.port needs tls.certificate and tls.key; see docs/administration.rst "
            "for how they are made"
        )
    if tls.requireClientCertificate and not tls.clientCA:
        raise ConfigurationError(
            "tls.require_client_certificate needs tls.client_ca: whose certificates "
            "are good"
        )
    if not dicom.plain and not tls.port:
        raise ConfigurationError(
            "dicom.plain = false leaves no port for DICOM: set tls.port, such as 2762"
        )


def _check(configuration: Configuration) -> Configuration:
    _checkCertificates(configuration)
    web = configuration.web
    if not ipaddress.ip_address(web.address).is_loopback and not web.token:
        raise ConfigurationError(
            f"web.address {web.address} can be reached from other machines: "
            "set web.token to a long secret, or use 127.0.0.1"
        )
    if web.monitoringToken and web.monitoringToken == web.token:
        raise ConfigurationError(
            "web.monitoring_token is web.token, so that who has it may change "
            "everything: give another one"
        )
    if web.monitoringToken and not web.token:
        raise ConfigurationError(
            "web.monitoring_token is of no use while nobody needs a token: set "
            "web.token too"
        )
    return evolve(configuration, dataDirectory=Path.cwd() / configuration.dataDirectory)


def load(path: Path | None, overrides: dict[str, Any]) -> Configuration:
    """
    Read the file, if one is given, and let the options of the command line
    win.

    @param overrides: values by C{"section.key"} or C{"key"}, as the file
        would have them.
    @raise ConfigurationError: with the one line to show.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the configuration file {path}: {error.strerror}"
            ) from None
        except (ValueError, RecursionError) as error:
            # Beside its own, tomllib lets out what Python says of numbers that
            # are too long, and of brackets that are too deep.
            raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    try:
        for name, value in overrides.items():
            *sections, key = name.split(".")
            place = table
            for section in sections:
                place = place.setdefault(section, {})
                if not isinstance(place, dict):
                    raise ConfigurationError(
                        f"{section!r} is a section: write [{section}]"
                    )
            place[key] = value
        return _check(_read(Configuration, table, ""))
    except ConfigurationError as error:
        where = f"{path}: " if path is not None else ""
        raise ConfigurationError(f"{where}{error}") from None


def options(kind: type = Configuration, prefix: str = "") -> dict[str, Any]:
    """Each key with its default, C{"section.key"} to value."""
    found: dict[str, Any] = {}
    for option in fields(kind):
        if "read" in option.metadata:
            found[prefix + _key(option.name)] = option.default
        elif option.default is not None and has(option.default.factory):
            found |= options(option.default.factory, f"{_key(option.name)}.")
    return found
