"""What comes over HTTP, the forms of worklist items, and the configuration."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from d360.admin.aes import RemoteAEsResource
from d360.admin.site import ReindexResource, makeSite
from d360.admin.studies import JobsResource, StudiesResource
from d360.admin.worklist import WorklistResource
from d360.config import load
from d360.errors import ConfigurationError
from d360.interfaces import IVerification
from d360.model import WorklistItem
from d360.services.part10 import encodeHead
from d360.services.worklistitems import (
    ItemError,
    WorklistForms,
    asKeywords,
    asModel,
    readFile,
    readKeywords,
    readModel,
)
from tests.admin.test_site import Reindex
from tests.admin.test_worklist import ITEM, MODEL
from tests.contracts.memoryremoteaes import MemoryRemoteAEs
from tests.contracts.memoryworklist import MemoryWorklist
from tests.faults.fuzzing.archive import filled, studiesOf
from tests.faults.fuzzing.conversations import worklistIdentifier
from tests.faults.fuzzing.target import Target, allowing, check
from tests.services.datasets import EXPLICIT, encode, instance

_LOST = Failure(ConnectionLost())

_TOKEN = "secret"


@implementer(IVerification)
class _Verification:
    def verify(self, remote: Any) -> Any:
        return succeed(0.001)


class _Sending:
    """See L{d360.interfaces.ISending}: nothing is sent."""

    def jobs(self) -> tuple[Any, ...]:
        return ()

    def cancel(self, identifier: str) -> bool:
        return False


def serve(data: bytes) -> None:
    """
    Bytes on a connection. None of the answers is an error of ours, and each is
    whole. Who says something of a token needs the right one.
    """
    stores = filled()
    remoteAEs, worklist = MemoryRemoteAEs(), MemoryWorklist()
    site = makeSite(
        {
            b"worklist": WorklistResource(worklist, WorklistForms()),
            b"aes": RemoteAEsResource(remoteAEs, _Verification(), "D360PACS"),
            b"studies": StudiesResource(studiesOf(stores), remoteAEs, _Sending()),
            b"jobs": JobsResource(_Sending()),
            b"reindex": ReindexResource(Reindex()),
        },
        _TOKEN if b"Authorization" in data else "",
    )
    # Its timers are Twisted's own, and the global reactor's.
    site.timeOut = None
    protocol = site.buildProtocol(None)
    transport = StringTransport()
    protocol.makeConnection(transport)
    half = len(data) // 2
    for piece in (data[:half], data[half:]):
        if not transport.disconnecting:
            protocol.dataReceived(piece)
    said = transport.value()
    check(b"HTTP/1.1 500" not in said, "an internal error")
    if not transport.disconnecting:
        protocol.connectionLost(_LOST)


def _request(
    method: str,
    path: str,
    body: bytes = b"",
    kind: str = "application/json",
    *more: str,
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *more]
    if body:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _file() -> bytes:
    dataset = worklistIdentifier()
    dataset.PatientName, dataset.PatientID = "Rossi^Anna", "1"
    step = dataset.ScheduledProcedureStepSequence[0]
    step.ScheduledProcedureStepStartDate = "20260101"
    return encodeHead("1.2", "1.2.3", EXPLICIT, "", "") + encode(dataset)


def _webSeeds() -> list[bytes]:
    item, model = json.dumps(ITEM).encode(), json.dumps(MODEL).encode()
    return [
        _request("GET", "/api/studies?PatientName=Ro*&StudyDate=2026-&limit=2"),
        _request("GET", "/api/studies/1.2.3/series/1.2.3.4"),
        _request("DELETE", "/api/studies/1.2.3"),
        _request("POST", "/api/studies/1.2.3/send", b'{"aet": "WS1"}'),
        _request("PUT", "/api/aes/WS1", b'{"host": "ws1.example", "port": 104}')
        + _request("POST", "/api/aes/WS1/echo")
        + _request("GET", "/api/aes"),
        _request("POST", "/api/worklist", item)
        + _request("GET", "/api/worklist?Modality=CT&limit=1"),
        _request("POST", "/api/worklist", model, "application/dicom+json"),
        _request("POST", "/api/worklist", _file(), "application/dicom"),
        _request("POST", "/api/reindex", b'{"full": true}')
        + _request("DELETE", "/api/reindex"),
        _request("GET", "/api/jobs/1") + _request("DELETE", "/api/jobs/1"),
        _request("GET", "/api/jobs", b"", "", f"Authorization: Bearer {_TOKEN}"),
        _request("GET", "/api/jobs", b"", "", "Authorization: Basic c2VjcmV0") * 20,
        b"POST /api/worklist HTTP/1.1\r\nHost: [::1]:1\r\nTransfer-Encoding: chunked"
        b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET /api/worklist/a HTTP/1.0\r\nAccept: a/b;q=0.5,*/*;q=1\r\n"
        b'If-None-Match: W/"1", *\r\nOrigin: http://x\r\n\r\n',
    ]


def readItem(data: bytes) -> None:
    """An item in one of its forms; what comes out goes in again."""
    if not data:
        return
    kind, body = data[0] % 3, data[1:]
    with allowing(ItemError):
        if kind == 2:
            attributes = readFile(body)
        else:
            try:
                given = json.loads(body)
            except (ValueError, RecursionError):
                return
            if not isinstance(given, dict):
                return
            attributes = (readKeywords, readModel)[kind](given)
        item = WorklistItem("1", 1, attributes)
        json.dumps(attributes, allow_nan=False, ensure_ascii=False).encode()
        check(readModel(asModel(item)) == attributes, "the model says something else")
        check(
            readKeywords(asKeywords(item)) == attributes,
            "by keyword, it says something else",
        )


def _itemSeeds() -> list[bytes]:
    rich = ITEM | {
        "PatientWeight": 71.25,
        "PatientAge": "042Y",
        "PatientBirthDate": "19700101",
        "OtherPatientIDs": ["1", "2"],
        "RequestedProcedureCodeSequence": [{"CodeValue": "1", "CodeMeaning": "x"}],
        "PregnancyStatus": 4,
    }
    return [
        b"\0" + json.dumps(rich).encode(),
        b"\1" + json.dumps(MODEL).encode(),
        b"\2" + _file(),
        b"\2" + encodeHead("1.2", "1.2.3", EXPLICIT, "", "") + encode(instance()),
    ]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="d360-fuzz-")


def configure(data: bytes) -> None:
    """A configuration file."""
    path = Path(_folder().name, "d360.toml")
    path.write_bytes(data)
    with allowing(ConfigurationError):
        load(path, {})


def _configurationSeeds() -> list[bytes]:
    example = Path(__file__).parents[3] / "etc" / "d360.toml"
    text = example.read_bytes().replace(b"\n# ", b"\n").replace(b"\n#", b"\n")
    return [
        b'data_directory = "~/x"\nworkers = 2\n[dicom]\nport = 11112\n'
        b'[web]\ntoken = "x"\n[database]\nurl = "postgresql://x"\n',
        text[:4000],
    ]


TARGETS = (
    Target("http", serve, _webSeeds, 12, collects=True),
    Target("items", readItem, _itemSeeds, 30),
    Target("configuration", configure, _configurationSeeds, 10, longest=2048),
)
