"""
Audit messages as a receiver reads them: each is checked against the schema of
PS3.15 A.5.1.1 and against the table of its kind in A.5.3.
"""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

from lxml import etree

SCHEMA = etree.RelaxNG(etree.parse(str(Path(__file__).with_name("auditmessage.rng"))))

#: PS3.15 A.5.3, by Event ID: the actions there are; whether there is an Event Type
#: Code; how many active participants at least and at most; how many objects of
#: each ID type, at least and at most.
TABLES: dict[str, tuple[str, bool, tuple[int, int], dict[str, tuple[int, int]]]] = {
    # A.5.3.1
    "110100": ("E", True, (1, 9), {}),
    # A.5.3.3
    "110102": ("E", False, (2, 9), {"110180": (1, 9), "2": (1, 1)}),
    # A.5.3.6
    "110103": ("CRUD", False, (1, 2), {"110180": (1, 9), "2": (1, 1)}),
    # A.5.3.7
    "110104": ("CRU", False, (2, 9), {"110180": (1, 9), "2": (1, 1)}),
    # A.5.3.8
    "110105": ("D", False, (1, 2), {"110180": (1, 9), "2": (1, 1)}),
    # A.5.3.10
    "110112": ("E", False, (2, 9), {"110181": (0, 1), "12": (0, 1)}),
    # A.5.3.11
    "110113": ("E", True, (1, 9), {"12": (0, 9), "110182": (0, 9)}),
    # A.5.3.15
    "110111": ("CRUD", False, (1, 2), {"110180": (0, 9), "2": (1, 1)}),
}

#: Object type and role of an ID type, for the kinds above.
ROLES = {
    "110180": {("2", "3")},
    "110181": {("2", "3")},
    "2": {("1", "1")},
    "12": {("2", "3"), ("2", "13")},
    "110182": {("2", "13")},
}

#: Kinds of which one participant sends and another receives (A.5.3.3 and so on).
_TWO_SIDED = {"110102", "110104", "110112"}


class Read:
    """
    A message, valid, with what tests ask for.

    @ivar kind: its Event ID.
    @ivar type: its Event Type Code, C{""} without one.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.root: Any = etree.fromstring(text)
        SCHEMA.assertValid(self.root)
        event = self.root.find("EventIdentification")
        self.kind = event.find("EventID").get("csd-code")
        self.name = event.find("EventID").get("originalText")
        self.action = event.get("EventActionCode")
        self.outcome = event.get("EventOutcomeIndicator")
        self.time = event.get("EventDateTime")
        self.why = event.findtext("EventOutcomeDescription", "")
        found = event.find("EventTypeCode")
        self.type = "" if found is None else found.get("csd-code")
        self._check()

    def _check(self) -> None:
        actions, hasType, (low, high), objects = TABLES[self.kind]
        if self.action not in actions or bool(self.type) != hasType:
            raise AssertionError(f"action or type: {self.text!r}")
        participants = self.root.findall("ActiveParticipant")
        if not low <= len(participants) <= high:
            raise AssertionError(f"participants: {self.text!r}")
        # A.5.2: one requestor at most.
        if sum(one.get("UserIsRequestor") == "true" for one in participants) > 1:
            raise AssertionError(f"several requestors: {self.text!r}")
        if self.kind in _TWO_SIDED:
            for role in ("110152", "110153"):
                self.participant(role)
        for kind, (low, high) in objects.items():
            if not low <= len(self.objects(kind)) <= high:
                raise AssertionError(f"objects of {kind}: {self.text!r}")
        for item in self.root.iter("ParticipantObjectIdentification"):
            kind = item.find("ParticipantObjectIDTypeCode").get("csd-code")
            role = (
                item.get("ParticipantObjectTypeCode"),
                item.get("ParticipantObjectTypeCodeRole"),
            )
            if kind not in objects or role not in ROLES[kind]:
                raise AssertionError(f"object of {kind}: {self.text!r}")
            # A.5.2: required with an Accession Number, and the like.
            has = {one.tag for one in item.iter()}
            if "Accession" in has and "SOPClass" not in has:
                raise AssertionError(f"no SOP class: {self.text!r}")

    def participant(self, role: str) -> Any:
        """The one active participant of a role."""
        (found,) = [
            one
            for one in self.root.findall("ActiveParticipant")
            if role in [code.get("csd-code") for code in one.findall("RoleIDCode")]
        ]
        return found

    @property
    def requestor(self) -> str:
        """The User ID of who has asked for it."""
        (found,) = self.root.xpath("ActiveParticipant[@UserIsRequestor='true']")
        return str(found.get("UserID"))

    def objects(self, kind: str) -> list[Any]:
        """The objects of an ID type."""
        path = f"ParticipantObjectIDTypeCode[@csd-code='{kind}']/.."
        return list(self.root.xpath(f"ParticipantObjectIdentification/{path}"))

    @property
    def study(self) -> str:
        """The Study Instance UID of the one study."""
        (found,) = self.objects("110180")
        return str(found.get("ParticipantObjectID"))

    @property
    def patient(self) -> tuple[str, str]:
        """Patient ID and Patient's Name."""
        (found,) = self.objects("2")
        name = found.findtext("ParticipantObjectName")
        return found.get("ParticipantObjectID"), name or ""

    @property
    def classes(self) -> dict[str, int]:
        """How many instances of each SOP class."""
        found = self.root.iter("SOPClass")
        return {one.get("UID"): int(one.get("NumberOfInstances")) for one in found}

    @property
    def instances(self) -> list[str]:
        """SOP Instance UIDs."""
        return [one.get("UID") for one in self.root.iter("Instance")]

    @property
    def accession(self) -> list[str]:
        """Accession Numbers."""
        return [one.get("Number") for one in self.root.iter("Accession")]

    @property
    def query(self) -> bytes:
        """What was asked."""
        return b64decode(self.root.findtext(".//ParticipantObjectQuery"))

    @property
    def details(self) -> dict[str, bytes]:
        """Participant Object Details, by type."""
        found = self.root.iter("ParticipantObjectDetail")
        return {one.get("type"): b64decode(one.get("value")) for one in found}


def readFile(path: Path) -> list[Read]:
    """All messages of a file; each is one line."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        raise AssertionError("the last line has no end")
    return [Read(line) for line in data.split(b"\n")[:-1]]
