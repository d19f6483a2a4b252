"""The page's studies, in a real Chromium, of a running server."""

from __future__ import annotations

import re
from pathlib import Path

from selenium.webdriver.common.keys import Keys

from tests.interop.files import ct
from tests.interop.pagecase import HOSTILE, INSTANCES, OTHERS, PageTestCase
from tests.interop.running import HOST, freePort


class StudiesTests(PageTestCase):
    """Studies: found, opened, sent, deleted."""

    def test_search(self) -> None:
        """By what people know of a patient; the address names the search."""
        self.visit("#/studies")
        for control, text in (
            ("#PatientName", "rossi"),
            ("#PatientName", "Rossi, A"),
            ("#PatientID", "P001"),
            ("#AccessionNumber", "A001"),
        ):
            self.browser.fill(control, text)
            self.browser.press("Search")
            self.browser.until(
                "one patient",
                lambda: self.browser.column("Patient") == ["Rossi, Anna"],
            )
            self.browser.press("Clear")
            self.browser.sees("Show more")
        self.browser.fill("#from", "2026-01-01")
        self.browser.fill("#to", "2026-02-01")
        self.browser.fill("#ModalitiesInStudy", "ct")
        self.browser.press("Search")
        self.browser.sees("1 study")
        self.assertEqual(self.browser.column("Study date"), ["2026-01-31 10:15"])
        self.assertIn("StudyDate=20260101-20260201", self.browser.place)
        self.browser.fill("#PatientName", "Nobody")
        self.browser.press("Search")
        self.browser.sees("No study is found.")
        self.browser.driver.back()
        self.browser.sees("Rossi, Anna")
        self.assertEqual(self.browser.one("#from").get_attribute("value"), "2026-01-01")

    def test_pages(self) -> None:
        """A long list comes page by page, and the focus goes to what is new."""
        self.visit("#/studies?PatientName=Many")
        self.browser.sees("The first 50 studies")
        self.browser.press("Show more")
        self.browser.sees(f"{OTHERS} studies")
        self.assertEqual(len(set(self.browser.column("Patient"))), OTHERS)
        self.assertIn("Many, Number", self.browser.focused())

    def test_drillDown(self) -> None:
        """From the study to its series and instances, and back again."""
        self.visit("#/studies?PatientName=Rossi")
        self.browser.press("Rossi, Anna")
        self.browser.sees("1961-12-31", f"{INSTANCES} instances in 2 series")
        self.assertEqual(self.browser.column("Instances"), ["6", "6"])
        self.keepPicture("study")
        self.browser.press("Lung <b>1.0</b>")
        self.browser.sees("Explicit VR Little Endian", "6 instances")
        self.assertEqual(self.browser.column("No."), ["7", "8", "9", "10", "11", "12"])
        self.assertEqual(self.browser.column("Kind"), ["CT"] * 6)
        self.browser.driver.back()
        self.browser.sees("Topogram")
        self.browser.press("Studies", "main")
        self.browser.sees("1 study")
        self.assertEqual(self.browser.column("Patient"), ["Rossi, Anna"])

    def test_unknown(self) -> None:
        """A study that is gone."""
        self.visit("#/studies/1.2.3")
        self.browser.statuses = {404}
        self.browser.sees("There is no study", "Go back to the list")
        self.browser.press("Back to the studies")
        self.browser.sees("The first 50 studies")

    def test_hostile(self) -> None:
        """A name is text, whatever is in it."""
        self.visit("#/studies?StudyDate=20250101")
        shown = {name.replace("^", ", ") for name in HOSTILE}
        self.browser.until(
            "the names", lambda: set(self.browser.column("Patient")) == shown
        )
        for name in sorted(shown):
            self.browser.press(name)
            self.browser.until(
                "heading", lambda name=name: self.browser.one("h1").text == name
            )
            self.browser.press("Delete …")
            self.browser.sees(name, within="dialog")
            self.browser.keys(Keys.ESCAPE)
            self.browser.gone("dialog")
            self.browser.driver.back()
            self.browser.sees("3 studies")
        self.assertEqual(
            self.browser.run(
                "return document.querySelectorAll('main script, main b, "
                "main img, [onclick], [onerror]').length"
            ),
            0,
        )

    def test_send(self) -> None:
        """Sent to a remote AE, with all instances."""
        self.receiver("WS1")
        self.visit(f"#/studies/{self.study('PatientName=Rossi*')}")
        self.browser.press("Send …")
        self.browser.sees("WS1", within="dialog")
        self.browser.fill("#to", "WS1")
        self.browser.press("Send", "dialog")
        self.browser.sees(f"All {INSTANCES} instances sent")
        self.keepPicture("sent")
        self.browser.press("Overview")
        self.browser.sees("To WS1")

    def test_cancel(self) -> None:
        """Progress while it is sent; it goes on elsewhere, and is cancelled."""
        self.receiver("SLOW", "--sleep-after", "3")
        uid = self.study("PatientName=Rossi*")
        self.visit(f"#/studies/{uid}")
        self.browser.press("Send …")
        self.browser.fill("#to", "SLOW")
        self.browser.press("Send", "dialog")
        sent = re.compile(rf"\b[1-9]\d* of {INSTANCES} sent")
        self.browser.until(
            "progress", lambda: sent.search(self.browser.one("body").text)
        )
        self.keepPicture("progress")
        self.browser.driver.back()
        self.visit(f"#/studies/{uid}")
        self.browser.sees("To SLOW", f"of {INSTANCES} sent")
        self.browser.press("Cancel sending to SLOW")
        self.browser.sees("Cancelled:")
        self.browser.gone("progress")

    def test_sendFails(self) -> None:
        """Nobody listens: the reason, and what to do."""
        place = {"host": HOST, "port": freePort()}
        self.call("PUT", "/api/aes/NOBODY", place)
        self.addCleanup(self.forget, "NOBODY")
        self.visit(f"#/studies/{self.study('PatientName=Rossi*')}")
        self.browser.press("Send …")
        self.browser.fill("#to", "NOBODY")
        self.browser.press("Send", "dialog")
        self.browser.sees("Failed", "Test NOBODY under Remote AEs")

    def test_delete(self) -> None:
        """Only after its name is read and the word is typed."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        dataset = ct()
        dataset.PatientName = "Gone^Soon"
        dataset.save_as(folder / "gone.dcm")
        self.server.store(str(folder / "gone.dcm"))
        self.visit("#/studies?PatientName=Gone")
        self.browser.press("Gone, Soon")
        self.browser.press("Delete …")
        self.browser.sees("Gone, Soon", "1 in 1 series", within="dialog")
        go = self.browser.one("dialog .danger")
        self.assertFalse(go.is_enabled())
        self.browser.keys(Keys.ESCAPE)
        self.browser.gone("dialog")
        self.assertEqual(self.browser.focused(), "Delete …")
        self.browser.press("Delete …")
        self.browser.fill("#typed", "delete")
        self.keepPicture("dialog")
        self.browser.press("Delete the study", "dialog")
        self.browser.sees("The study of Gone, Soon is deleted: 1 instance")
        self.browser.sees("No study is found.")
        self.assertEqual(
            self.server.get("/api/studies?PatientName=Gone*")["studies"], []
        )
