"""
The description of the calls, held against a running server by schemathesis: it
makes requests of its own, good and bad ones, and checks each answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.files import makeCT
from tests.interop.running import HOST, PATIENCE, RunningServer, freePort

#: Nothing that the server answers may be otherwise than it is described.
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
)

#: Seconds for one run; it takes a tenth.
_TIME = 600

ITEM = {
    "PatientName": "Rossi^Anna",
    "PatientID": "1",
    "ScheduledProcedureStepSequence": [
        {
            "Modality": "CT",
            "ScheduledStationAETitle": "CT01",
            "ScheduledProcedureStepStartDate": "20260101",
        }
    ],
}


class DescriptionTests(SynchronousTestCase):
    """C{GET /api/openapi.json} is true: no 5xx, and only what is described."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.server = RunningServer(self.folder)
        self.addCleanup(self.server.stop)
        self.server.start()

    def call(self, method: str, path: str, body: Any) -> Any:
        """An HTTP call that succeeds."""
        data = json.dumps(body).encode()
        request = Request(self.server.web + path, data, method=method)
        with urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def configure(self, **values: str) -> None:
        """The parameters of paths."""
        lines = [f'"path.{name}" = "{value}"' for name, value in values.items()]
        path = self.folder / "schemathesis.toml"
        path.write_text("\n".join(["[parameters]", *lines, ""]))

    def check(self, examples: int, *options: str) -> None:
        """Have schemathesis look at it."""
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "--config-file=schemathesis.toml",
                "run",
                f"{self.server.web}/api/openapi.json",
                f"--checks={','.join(_CHECKS)}",
                "--phases=examples,coverage,fuzzing",
                "--generation-deterministic",
                "--continue-on-failure",
                "--no-color",
                f"--max-examples={examples}",
                *options,
            ],
            capture_output=True,
            text=True,
            timeout=_TIME,
            cwd=self.folder,
            env=os.environ | {"PYTHONUTF8": "1", "COLUMNS": "100"},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("Traceback", self.server.logged())

    def test_whatever(self) -> None:
        """With parameters that it thinks of."""
        self.configure()
        self.check(30)

    def test_existing(self) -> None:
        """With the names of what is there."""
        (path,) = makeCT(self.folder / "files", 1)
        self.assertEqual(self.server.store(str(path)).status, 0)
        (study,) = self.server.get("/api/studies")["studies"]
        uid = study["StudyInstanceUID"]
        (series,) = self.server.get(f"/api/studies/{uid}")["series"]
        place = {"host": HOST, "port": freePort()}
        self.call("PUT", "/api/aes/WS1", place)
        values = {
            "aet": "WS1",
            "study": uid,
            "series": series["SeriesInstanceUID"],
            "id": self.call("POST", "/api/worklist", ITEM)["id"],
        }
        self.configure(**values)
        # What one call removes another one would not find.
        self.check(10, "--exclude-method=DELETE")
