"""The page's view of storage commitments that nobody was told of, in a browser."""

from __future__ import annotations

from typing import Any

from tests.interop.pagecase import PageTestCase
from tests.interop.running import HOST, freePort
from tests.interop.test_commitment import TITLE, Modality, asked, request

CT = "1.2.840.10008.5.1.4.1.1.2"


class CommitmentsTests(PageTestCase):
    """Listed, told, dropped."""

    def setUp(self) -> None:
        super().setUp()
        self.modality = Modality()
        self.modality.port = freePort()
        self.addCleanup(self.modality.close)

    def ask(self, transaction: str) -> None:
        """One that cannot be told of, for nobody listens there."""
        place = {"host": HOST, "port": self.modality.port}
        self.call("PUT", f"/api/aes/{TITLE}", place)
        self.addCleanup(self.forget, TITLE)
        association = self.modality.associate(self.server)
        references = [(CT, "1.2.3.4"), (CT, "1.2.3.5")]
        self.assertEqual(request(association, asked(transaction, references)), 0)
        association.release()

    def pending(self) -> list[Any]:
        return list(self.server.get("/api/commitments")["commitments"])

    def test_told(self) -> None:
        """Why it waits is seen; and it is told when a person says so."""
        self.visit("#/commitments")
        self.browser.sees("None waits: everybody was told.")
        uid = f"1.2.9.{'1234567890' * 5}.1"
        self.ask(uid)
        self.browser.until("it was tried", lambda: self.pending()[0]["error"])
        self.browser.nudge()
        self.browser.sees(TITLE, "Could not be told", "Connection refused", uid)
        self.assertEqual(self.browser.column("Instances"), ["2"])
        for width in (360, 1280):
            self.browser.appear(width, 800, "light")
            wide = self.browser.run("return document.documentElement.scrollWidth")
            self.assertLessEqual(wide, width)
            self.keepPicture(f"waiting-{width}")
        self.modality.listen(self.modality.port)
        self.browser.press(f"Tell now: {uid} of {TITLE}")
        self.browser.sees(f"{TITLE} is told now, if it can be.")
        event, told = self.modality.wait()
        self.assertEqual((event, told.TransactionUID), (2, uid))
        self.browser.until("it is gone", lambda: not self.pending())
        self.browser.nudge()
        self.browser.sees("None waits: everybody was told.")

    def test_dropped(self) -> None:
        """Not without a question; nobody is told of it any more."""
        self.ask("1.2.9.2")
        self.browser.until("it was tried", lambda: self.pending()[0]["error"])
        self.visit("#/commitments")
        self.browser.press(f"Drop 1.2.9.2 of {TITLE}")
        self.browser.sees("2 instances", "It may ask again", within="dialog")
        self.assertEqual(self.browser.focused(), "Cancel")
        self.browser.press("Drop it", "dialog")
        self.browser.sees("It is dropped.")
        self.browser.sees("None waits: everybody was told.")
        self.assertEqual(self.pending(), [])
