"""C{d360ctl verify}, and how what the server does in the background is followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from d360.admin import ctlarchive
from tests.admin.test_ctl import CtlTestCase

REINDEX = {
    "running": True,
    "counted": True,
    "total": 5,
    "done": 2,
    "added": 2,
    "unchanged": 0,
    "failed": 0,
    "missing": 0,
    "pruned": 0,
    "seconds": 61.5,
    "error": "",
}

VERIFY = {
    "running": False,
    "started": "2026-01-01T00:00:00Z",
    "rate": 50.0,
    "study": "",
    "position": 17,
    "total": 5,
    "done": 5,
    "size": 10 << 20,
    "intact": 5,
    "damaged": 0,
    "missing": 0,
    "unreadable": 0,
    "changed": 0,
    "seconds": 2.0,
    "findings": [],
    "error": "",
}

FINDING = {
    "state": "damaged",
    "SOPInstanceUID": "1.2.3",
    "path": "ab/1/2/3.dcm",
    "why": "its digest is not the stored one",
}


class FollowTests(CtlTestCase):
    """A server that ends, or starts again, while it is followed."""

    def answer(self, *answers: Any) -> None:
        for name in ("reindex", "verify"):
            self.connections.answers |= {
                f"POST /api/{name}": (202, {"progress": None}),
                f"GET /api/{name}": list(answers),
            }

    def progress(self, **values: Any) -> Any:
        return (200, {"progress": REINDEX | values})

    def verified(self, **values: Any) -> Any:
        return (200, {"progress": VERIFY | values})

    def test_startedAgain(self) -> None:
        """It knows nothing of what was begun: one line, and what to do."""
        self.answer(self.progress(), (200, {"progress": None}))
        status, output, errors = self.run_("reindex")
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(
            errors.splitlines()[-1],
            "d360ctl: the server was started again meanwhile; run it again to go on",
        )

    def test_startedAgainAtOnce(self) -> None:
        self.answer((200, {"progress": None}))
        self.assertIn("started again", self.refused("reindex"))

    def test_startedAgainByAnother(self) -> None:
        """What runs there now is somebody else's."""
        self.answer(self.progress(), self.progress(seconds=1.0))
        self.assertIn("started again", self.run_("reindex")[2])

    def test_noAnswerForAWhile(self) -> None:
        """A connection that is refused says nothing about what becomes of it."""
        away = ConnectionRefusedError(111, "Connection refused")
        self.answer(self.progress(), away, away, self.progress(running=False))
        self.assertEqual(self.run_("reindex")[0], 0)

    def test_noAnswerAnyMore(self) -> None:
        self.patch(ctlarchive, "_PATIENCE", -1.0)
        away = ConnectionRefusedError(111, "Connection refused")
        running = self.verified(running=True, position=7)
        self.answer(running, away)
        errors = self.run_("verify")[2]
        self.assertIn("no D360 answers", errors)
        self.assertIn("d360ctl verify --after 7 goes on", errors)

    def test_verifyGoesOn(self) -> None:
        """Where the last look has seen it."""
        running = self.verified(running=True, position=7)
        self.answer(running, (200, {"progress": None}))
        self.assertIn("d360ctl verify --after 7 goes on", self.run_("verify")[2])

    def test_refused(self) -> None:
        """An answer that says no is none to be waited for."""
        self.answer((401, {"error": "give the token"}))
        self.assertIn("give the token", self.refused("verify"))


class VerifyTests(CtlTestCase):
    """C{d360ctl verify}."""

    def answer(self, *progresses: Any) -> None:
        self.connections.answers |= {
            "POST /api/verify": (202, {"progress": None}),
            "GET /api/verify": [(200, {"progress": VERIFY | p}) for p in progresses],
            "DELETE /api/verify": (200, {"progress": VERIFY | {"position": 9}}),
        }

    def test_intact(self) -> None:
        """Progress goes to standard error, and the end is success."""
        self.answer({"running": True, "done": 1, "intact": 1, "seconds": 0.5}, {})
        status, output, errors = self.run_("verify")
        self.assertEqual((status, output), (0, ""))
        self.assertEqual(
            errors.splitlines(),
            [
                "1/5 files, 1 intact, 0 damaged, 0 missing, 0 unreadable, 10.0 MiB, "
                "00:00:00",
                "5/5 files, 5 intact, 0 damaged, 0 missing, 0 unreadable, 10.0 MiB "
                "at 5.0 MiB/s, 00:00:02",
            ],
        )
        self.assertEqual(self.connections.calls[0][:2], ("POST /api/verify", {}))

    def test_options(self) -> None:
        """What is not given is the server's to choose."""
        for arguments, body in (
            (("--rate", "0"), {"rate": 0}),
            (("--rate=7.5", "--after", "12"), {"rate": 7.5, "after": 12}),
            (("--study", "1.2"), {"study": "1.2"}),
        ):
            self.connections.calls.clear()
            self.answer({})
            self.assertEqual(self.run_("verify", *arguments)[0], 0)
            self.assertEqual(self.connections.calls[0][1], body)
        for wrong in ("fast", "nan", "inf"):
            self.assertIn("MiB a second", self.refused("verify", "--rate", wrong))
        self.assertIn("--after", self.refused("verify", "--after", "x"))

    def test_notIntact(self) -> None:
        """Each is named, and what to do; the exit status is 1."""
        for state in ("damaged", "missing", "unreadable"):
            finding = FINDING | {"state": state}
            self.answer({"intact": 4, state: 1, "findings": [finding]})
            status, output, errors = self.run_("verify")
            self.assertEqual(status, 1)
            self.assertEqual(
                output, f"{state}: ab/1/2/3.dcm: its digest is not the stored one\n"
            )
            self.assertIn("1 of 5 files are not intact. Restore", errors)

    def test_manyNotIntact(self) -> None:
        """The answer has the first of them; where the others are is said."""
        self.answer({"missing": 3, "findings": [FINDING]})
        self.assertIn("2 more are in the server's log", self.run_("verify")[2])

    def test_changed(self) -> None:
        """What was on its way or has gone is no fault."""
        self.answer({"intact": 3, "changed": 2})
        status, _, errors = self.run_("verify")
        self.assertEqual(status, 0)
        self.assertIn("2 changed", errors)

    def test_json(self) -> None:
        """Only the end, as JSON."""
        self.answer({"running": True}, {"damaged": 1, "findings": [FINDING]})
        status, output, errors = self.run_("verify", "--json")
        self.assertEqual(status, 1)
        self.assertEqual(json.loads(output)["findings"], [FINDING])
        self.assertEqual(len(errors.splitlines()), 1)

    def test_endedEarly(self) -> None:
        self.answer({"error": "stopped", "position": 9})
        errors = self.run_("verify")[2]
        self.assertIn("stopped; d360ctl verify --after 9 goes on", errors)
        self.answer({"error": "there is no study", "position": 0})
        self.assertIn("there is no study; run it again", self.run_("verify")[2])

    def test_interrupted(self) -> None:
        """Ctrl-C ends it on the server too, and says where it was."""
        self.answer()
        self.connections.answers["GET /api/verify"] = KeyboardInterrupt()
        line = self.refused("verify")
        self.assertIn("stopped; d360ctl verify --after 9 goes on", line)
        self.assertEqual(self.connections.calls[-1][0], "DELETE /api/verify")


class LoadTests(CtlTestCase):
    """C{d360ctl ae load}."""

    def write(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def test_load(self) -> None:
        """All that was listed, with whatever is said of each."""
        listed = {
            "aes": [
                {"aet": "WS1", "host": "h1", "port": 104},
                {"aet": "A/B C", "host": "h2", "port": 105, "later": ["x"]},
            ]
        }
        self.connections.answers |= {
            "PUT /api/aes/WS1": (201, {}),
            "PUT /api/aes/A%2FB%20C": (200, {}),
        }
        path = self.write(json.dumps(listed))
        self.assertEqual(
            self.run_("ae", "load", path), (0, "2 remote AEs are entered\n", "")
        )
        self.assertEqual(
            [call[1] for call in self.connections.calls],
            [{"host": "h1", "port": 104}, {"host": "h2", "port": 105, "later": ["x"]}],
        )

    def test_refused(self) -> None:
        """It is said how far it came."""
        aes = [{"aet": "WS1", "host": "h1"}, {"aet": "WS2", "host": "!"}]
        self.connections.answers |= {
            "PUT /api/aes/WS1": (201, {}),
            "PUT /api/aes/WS2": (400, {"error": "host '!' is not right"}),
        }
        line = self.refused("ae", "load", self.write(json.dumps({"aes": aes})))
        self.assertIn("'WS2': host '!' is not right; the 1 before it", line)

    def test_otherFiles(self) -> None:
        for text in ("[]", '{"aes": 1}', '{"aes": [1]}', '{"aes": [{"host": "h"}]}'):
            line = self.refused("ae", "load", self.write(text))
            self.assertIn("not what d360ctl ae list --json prints", line)
        self.assertIn("not valid JSON", self.refused("ae", "load", self.write("{")))
        self.assertIn("No such file", self.refused("ae", "load", "no-such-file"))
        self.assertEqual([], self.connections.calls)
