"""C{d360ctl verify} against a running server, while it is at work."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.findset import many, send
from tests.interop.running import PATIENCE, RunningServer


class RegularTests(SynchronousTestCase):
    """C{archive.verify_days}."""

    def test_regular(self) -> None:
        """It is done by itself, and once."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        path = folder / "d360.toml"
        path.write_text("[archive]\nverify_days = 30\n")
        server = RunningServer(folder, f"--config={path}")
        self.addCleanup(server.stop)
        server.start()
        self.assertEqual(set(send(server, many("VERIFY", 0, 5))), {0})
        server.stop()
        notes = folder / "data" / "verify.json"
        self.assertTrue(json.loads(notes.read_text())["complete"])
        # As if that were long ago.
        notes.write_text(json.dumps({"begunAt": 0, "position": 5, "complete": True}))
        next(iter(server.archived())).unlink()
        server.start()
        deadline = time.monotonic() + PATIENCE
        while True:
            regular = server.get("/api/verify")["regular"]
            if regular is not None and not regular["running"]:
                break
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertEqual((regular["intact"], regular["missing"]), (4, 1))
        self.assertEqual(server.stop(), 0)
        self.assertIn("is missing: the file is gone", server.logged())
        self.assertTrue(json.loads(notes.read_text())["complete"])


class VerifyTests(SynchronousTestCase):
    """The files are compared with what was stored."""

    def setUp(self) -> None:
        self.server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(self.server.stop)
        self.server.start()

    def store(self, first: int, count: int) -> None:
        self.assertEqual(set(send(self.server, many("VERIFY", first, count))), {0})

    def delete(self, path: str) -> None:
        """An HTTP DELETE."""
        request = urllib.request.Request(self.server.web + path, method="DELETE")
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass

    def verify(self, *options: str, status: int = 0) -> dict[str, Any]:
        """The progress at the end."""
        answer = self.server.ctl("verify", "--json", *options)
        self.assertEqual(answer.status, status, answer.output)
        progress: dict[str, Any] = json.loads(answer.output.splitlines()[0])
        return progress

    def test_notIntact(self) -> None:
        """
        Damage, loss and what cannot be read are found and told apart, in the
        answer and in the log; a copy from the backup makes it right again.
        """
        self.store(0, 20)
        self.assertEqual(self.verify()["intact"], 20)
        backup = self.server.folder / "backup"
        archive = self.server.folder / "data" / "archive"
        shutil.copytree(archive, backup)
        damaged, short, gone, odd, *_ = self.server.archived()
        data = bytearray(damaged.read_bytes())
        data[-10] ^= 4
        damaged.write_bytes(data)
        short.write_bytes(short.read_bytes()[:-2])
        gone.unlink()
        odd.unlink()
        odd.symlink_to(odd)
        progress = self.verify("--rate", "0", status=1)
        counts = [progress[k] for k in ("intact", "damaged", "missing", "unreadable")]
        self.assertEqual(counts, [16, 2, 1, 1])
        names = {str(path.relative_to(archive)) for path in (damaged, short, gone, odd)}
        self.assertEqual({one["path"] for one in progress["findings"]}, names)
        answer = self.server.ctl("verify")
        self.assertEqual(answer.status, 1)
        self.assertEqual(
            self.notIntact(), {"damaged": 2, "missing": 1, "unreadable": 1}
        )
        log = self.server.logged()
        for name in names:
            self.assertIn(name, answer.output)
            self.assertIn(name, log)
        self.assertNotIn("Many^Studies", log)
        self.assertNotIn("Traceback", log)
        self.assertEqual(len(damaged.read_bytes()), len(data), "it is left as it was")

        odd.unlink()
        for path in (damaged, short, gone, odd):
            shutil.copy2(backup / path.relative_to(archive), path)
        self.assertEqual(self.verify()["intact"], 20)
        self.assertEqual(
            self.notIntact(), {"damaged": 0, "missing": 0, "unreadable": 0}
        )

    def notIntact(self) -> dict[str, int]:
        """What Prometheus reads, by state."""
        with urllib.request.urlopen(self.server.web + "/metrics") as response:
            text = response.read().decode()
        pattern = r'(?m)^d360_files_not_intact\{state="(\w+)"\} ([\d.]+)$'
        return {state: int(float(count)) for state, count in re.findall(pattern, text)}

    def test_sentAgain(self) -> None:
        """An instance whose file was found damaged is kept anew."""
        self.store(0, 2)
        path = next(iter(self.server.archived()))
        state = path.stat()
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        # As a disk does it, of itself: no time tells of it.
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        self.verify(status=1)
        self.store(0, 2)
        self.assertEqual(self.verify()["intact"], 2)

    def test_studyAndAfter(self) -> None:
        """One study; or what comes behind a position."""
        self.store(0, 10)
        position = self.verify()["position"]
        self.assertEqual(self.verify("--after", str(position))["done"], 0)
        self.store(10, 1)
        self.assertEqual(self.verify("--after", str(position))["done"], 1)
        (one,) = many("VERIFY", 3, 1)
        progress = self.verify("--study", one.StudyInstanceUID)
        self.assertEqual((progress["intact"], progress["total"]), (1, 1))
        self.assertIn("no study", self.server.ctl("verify", "--study", "1.9").output)

    def test_interrupted(self) -> None:
        """Ctrl-C ends it and says where it was; there it goes on."""
        self.store(0, 60)
        process = subprocess.Popen(
            self.server.ctlCommand("verify", "--rate", "0.005"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.addCleanup(process.wait, PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            progress = self.server.get("/api/verify")["progress"]
            if progress is not None and progress["position"] > 3:
                break
            self.assertLess(time.monotonic(), deadline)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1)
        self.assertRegex(output, r"stopped; d360ctl verify --after \d+ goes on")
        position = output.split("--after ")[1].split()[0]
        rest = self.verify("--after", position, "--rate", "0")
        self.assertEqual(rest["intact"], 60 - int(position))

    def test_serverEnds(self) -> None:
        """It does not hold the server up, and says where it was."""
        self.store(0, 30)
        process = subprocess.Popen(
            # So slowly that nobody would wait for its end.
            self.server.ctlCommand("verify", "--rate", "0.0001"),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait, PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self.server.get("/api/verify")["progress"] is None:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        # So that d360ctl has seen it, too.
        time.sleep(1.0)
        web = self.server.web.rsplit(":", 1)[1]
        self.assertEqual(self.server.stop(), 0)
        self.server = RunningServer(self.server.folder, f"--web-port={web}")
        self.addCleanup(self.server.stop)
        self.server.start()
        _, errors = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1)
        self.assertNotIn("Traceback", errors)
        self.assertRegex(
            errors.splitlines()[-1], "(started again|stopped).*(again|goes)"
        )

    def test_meanwhile(self) -> None:
        """
        What is stored, sent again changed, and deleted while it goes on is not
        called damaged.
        """
        self.store(0, 60)
        self.running = True
        failures: list[Exception] = []

        def work() -> None:
            try:
                number = 60
                while self.running:
                    self.store(number, 10)
                    changed = many("VERIFY", number - 40, 10)
                    for dataset in changed:
                        dataset.StudyDescription = "changed"
                    self.assertEqual(set(send(self.server, changed)), {0})
                    study = changed[0].StudyInstanceUID
                    self.delete(f"/api/studies/{study}")
                    number += 10
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 5
        runs = 0
        try:
            while time.monotonic() < deadline or runs < 3:
                self.verify("--rate", "0")
                runs += 1
        finally:
            self.running = False
            thread.join(PATIENCE)
        self.assertEqual(failures, [])
        self.assertEqual(self.verify()["changed"], 0)
