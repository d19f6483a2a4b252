"""The page's worklist, in a real Chromium, of a running server."""

from __future__ import annotations

from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.interop.pagecase import ITEM, PageTestCase


class WorklistTests(PageTestCase):
    """The worklist: found, added, edited, removed."""

    def setUp(self) -> None:
        super().setUp()
        for item in self.items():
            self.call("DELETE", f"/api/worklist/{item['id']}")

    def items(self) -> list[Any]:
        """All there are."""
        items: list[Any] = self.server.get("/api/worklist")["items"]
        return items

    def added(self) -> str:
        """The identifier of a new item."""
        return str(self.call("POST", "/api/worklist", ITEM)["id"])

    def test_add(self) -> None:
        """By a form, with two steps; modalities find it."""
        self.visit("#/worklist")
        self.browser.sees("The worklist is empty.")
        self.browser.press("Add an item")
        for selector, text in (
            ("#PatientName", "Verdi, <i>Ugo</i>"),
            ("#PatientID", "W7"),
            ("#PatientBirthDate", "1950-03-04"),
            ("#PatientSex", "M"),
            ("#AccessionNumber", "ACC7"),
            ("#RequestedProcedureDescription", "Head"),
        ):
            self.browser.fill(selector, text)
        self.browser.press("Add a step")
        for number, modality in enumerate(("CT", "MR")):
            step = f"fieldset.step:nth-of-type({number + 1})"
            for keyword, text in (
                ("Modality", modality),
                ("ScheduledStationAETitle", f"{modality}01"),
                ("ScheduledProcedureStepStartDate", "2026-03-01"),
                ("ScheduledProcedureStepStartTime", f"1{number}:30"),
            ):
                self.browser.fill(f"{step} [id$='-{keyword}']", text)
        self.keepPicture("form")
        self.browser.press("Add the item")
        self.browser.sees("The worklist item is added.")
        self.browser.sees("Verdi, <i>Ugo</i>", "2026-03-01 11:30")
        self.keepPicture("list")
        (item,) = self.items()
        self.assertEqual(item["PatientName"], "Verdi^<i>Ugo</i>")
        self.assertEqual(item["PatientBirthDate"], "19500304")
        first, second = item["ScheduledProcedureStepSequence"]
        self.assertEqual((first["Modality"], second["Modality"]), ("CT", "MR"))
        self.assertEqual(second["ScheduledStationAETitle"], "MR01")
        found = self.server.client(
            "findscu", "-W", "-k", "PatientName", "-k", "PatientID=W7"
        )
        self.assertIn("Verdi^<i>Ugo</i>", found.output)

    def test_filter(self) -> None:
        """By patient, station, modality and day."""
        self.added()
        self.visit("#/worklist")
        for control, text, other in (
            ("#PatientName", "bianchi", "rossi"),
            ("#ScheduledStationAETitle", "CT01", "MR01"),
            ("#Modality", "ct", "mr"),
            ("#from", "2026-02-01", "2026-02-02"),
        ):
            self.browser.fill(control, text)
            self.browser.press("Search")
            self.browser.sees("Bianchi, Carla", "1 item")
            self.browser.fill(control, other)
            self.browser.press("Search")
            self.browser.sees("No item is found.")
            self.browser.press("Clear")
            self.browser.sees("Bianchi, Carla")

    def test_edit(self) -> None:
        """What is not touched stays, also what has no control of its own."""
        identifier = self.added()
        before = self.server.get(f"/api/worklist/{identifier}")
        self.visit("#/worklist")
        self.browser.press("Edit the item of Bianchi, Carla")
        self.browser.sees("Other attributes")
        self.browser.fill("#AccessionNumber", "W2")
        self.browser.press("Save")
        self.browser.sees("The worklist item is saved.", "W2")
        after = self.server.get(f"/api/worklist/{identifier}")
        self.assertEqual(after.pop("AccessionNumber"), "W2")
        self.assertNotEqual(after.pop("version"), before.pop("version"))
        del before["AccessionNumber"]
        self.assertEqual(after, before)

    def test_others(self) -> None:
        """Any attribute by its keyword; several values joined by a backslash."""
        identifier = self.added()
        self.visit(f"#/worklist/{identifier}")
        self.browser.fill("input[value='X1\\\\X2']", "X1\\X3\\X4")
        self.browser.press("Add an attribute of the item")
        self.browser.keys("PatientWeight", Keys.TAB, "70")
        self.browser.press("Remove the attribute ScheduledProcedureStepLocation")
        self.browser.press("Save")
        self.browser.sees("The worklist item is saved.")
        item = self.server.get(f"/api/worklist/{identifier}")
        self.assertEqual(item["OtherPatientIDs"], ["X1", "X3", "X4"])
        self.assertEqual(float(item["PatientWeight"]), 70)
        self.assertEqual(item["PatientComments"], ITEM["PatientComments"])
        (step,) = item["ScheduledProcedureStepSequence"]
        self.assertNotIn("ScheduledProcedureStepLocation", step)

    def test_conflict(self) -> None:
        """Someone else was faster: in words, and nothing is lost silently."""
        identifier = self.added()
        self.visit(f"#/worklist/{identifier}")
        self.browser.one("#PatientID")
        other = {**ITEM, "PatientID": "THEIRS"}
        self.call("PUT", f"/api/worklist/{identifier}", other)
        self.browser.fill("#AccessionNumber", "OURS")
        self.browser.statuses = {412}
        self.browser.press("Save")
        self.browser.sees("Someone else has changed this item", "Nothing was saved.")
        self.keepPicture("changed")
        self.browser.press("Load it as it is now")
        self.browser.until(
            "their value",
            lambda: self.browser.one("#PatientID").get_attribute("value") == "THEIRS",
        )
        self.browser.fill("#AccessionNumber", "OURS")
        self.browser.press("Save")
        self.browser.sees("The worklist item is saved.")
        (item,) = self.items()
        self.assertEqual(
            (item["PatientID"], item["AccessionNumber"]), ("THEIRS", "OURS")
        )

    def test_twice(self) -> None:
        """The Study Instance UID of another item."""
        self.added()
        (item,) = self.items()
        self.visit("#/worklist/new")
        for selector, text in (
            ("#PatientName", "Neri"),
            ("#PatientID", "W9"),
            ("#StudyInstanceUID", item["StudyInstanceUID"]),
            ("[id$='-Modality']", "CT"),
            ("[id$='-ScheduledStationAETitle']", "CT01"),
            ("[id$='-ScheduledProcedureStepStartDate']", "2026-03-01"),
            ("[id$='-ScheduledProcedureStepStartTime']", "10:00"),
        ):
            self.browser.fill(selector, text)
        self.browser.statuses = {409}
        self.browser.press("Add the item")
        self.browser.sees("This conflicts with another item", "Nothing was saved.")
        self.assertEqual(
            self.browser.one("#PatientName").get_attribute("value"), "Neri"
        )

    def test_refused(self) -> None:
        """What the server refuses is said with its keyword."""
        self.visit(f"#/worklist/{self.added()}")
        self.browser.fill("#StudyInstanceUID", "no uid")
        self.browser.statuses = {400}
        self.browser.press("Save")
        self.browser.sees(
            "StudyInstanceUID", "Correct what is named", within=".problem"
        )

    def test_remove(self) -> None:
        """After it was named."""
        self.added()
        self.visit("#/worklist")
        self.browser.press("Remove the item of Bianchi, Carla")
        self.browser.sees("Bianchi, Carla", "CT <i>Abdomen</i>", within="dialog")
        self.assertEqual(self.browser.focused(), "Cancel")
        self.browser.keys(Keys.ENTER)
        self.browser.gone("dialog")
        self.assertEqual(len(self.items()), 1)
        self.browser.press("Remove the item of Bianchi, Carla")
        self.browser.press("Remove the item", "dialog")
        self.browser.sees("is removed", "The worklist is empty.")
        self.assertEqual(self.items(), [])
