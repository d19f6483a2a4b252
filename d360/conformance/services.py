"""Chapters 5 to 10, one for each service, and what is new in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from d360.attributes import REGISTRY, Attribute, Level
from d360.conformance import facts
from d360.conformance.rst import bullets, heading, paragraph, table
from d360.conformance.statuses import STATUSES
from d360.dimse import status
from d360.interfaces import IServiceClass
from d360.services import transfersyntaxes
from d360.services.commitment import MAX_REFERENCES
from d360.services.committing import FIRST_DELAY, GIVE_UP, LAST_DELAY
from d360.services.matching import ANSWERED_ALWAYS, Root
from d360.transcoding import syntaxes
from d360.worklistattributes import WORKLIST


def _acceptable(chapter: int, service: IServiceClass) -> Iterator[str]:
    yield heading(1, f"{chapter}.2. Acceptable presentation contexts")
    yield paragraph(
        "All SOP classes of the service, each with any of these transfer syntaxes:"
    )
    yield table(
        ("Transfer syntax", "UID", "Role"),
        [(facts.nameOf(uid), uid, "SCP") for uid in facts.transferSyntaxesOf(service)],
        (60, 30, 10),
    )


def _statuses(section: str, service: str) -> Iterator[str]:
    yield heading(1, f"{section}. Statuses of {service} responses")
    yield table(
        ("Status", "Class", "Meaning"),
        [(one.code, one.kind, one.meaning) for one in STATUSES[service]],
        (10, 15, 75),
    )


def _attributes(attributes: Iterable[Attribute]) -> str:
    return table(
        ("Attribute", "Tag", "VR", "Matching"),
        [
            (
                facts.descriptionOf(one),
                facts.tagOf(one),
                one.vr,
                facts.matchingOf(one) if one.matched else "returned only",
            )
            for one in sorted(attributes, key=lambda one: one.tag)
        ],
        (50, 20, 5, 25),
    )


def _matching() -> Iterator[str]:
    yield bullets(
        [
            "Text is matched by wild cards (``*``, ``?``) in every key of a VR that "
            "may have them, by single value otherwise.",
            "Names are matched without regard to case, accents and repeated spaces, in "
            "any of their component groups. Other text is matched as it is.",
            "Dates and times are matched by range, or as single values.",
            "Several values, separated by backslashes, match where one of them does.",
            "An empty key matches everything and is returned. So is a key that D360 "
            "does not know; then matches are pending with FF01.",
        ]
    )


def worklist() -> Iterator[str]:
    """Chapter 5."""
    yield heading(0, "5. Modality Worklist")
    yield heading(1, "5.1. Description")
    yield paragraph(
        """A requested procedure has one or more scheduled procedure steps; each step
        that matches is one answer. Items are added, changed and removed by d360ctl and
        by HTTP, and found by the next query."""
    )
    yield from _acceptable(5, facts.WORKLIST)
    yield heading(1, "5.2.2. Search keys and return attributes")
    yield from _matching()
    yield bullets(
        [
            "Keys in the Scheduled Procedure Step Sequence match together in one step; "
            "the sequence has at most one item.",
            "Start date and start time, both given as ranges, are one range from the "
            "first day's time to the last day's.",
        ]
    )
    for words, levels in (
        ("Patient", (Level.PATIENT,)),
        ("Visit, imaging service request and requested procedure", (Level.STUDY,)),
        ("Scheduled Procedure Step Sequence", (Level.SERIES,)),
    ):
        yield heading(2, words)
        yield _attributes(a for a in WORKLIST.attributes if a.level in levels)
    yield from _statuses("5.2.3", "C-FIND")


def storage() -> Iterator[str]:
    """Chapter 6."""
    yield heading(0, "6. Storage")
    yield heading(1, "6.1. Description")
    yield paragraph(
        """Data sets are kept byte for byte, in the transfer syntax in which they
        were received, each in one DICOM file. No element is coerced, removed or
        added; only Study, Series and SOP Instance UID must be there and be valid. An
        instance that is sent again with the same bytes changes nothing and is
        answered with success; with other bytes it replaces the older one, or, with
        ``dicom.duplicates`` set to ``keep``, is not kept. The level of support is 2
        (full); digital signatures are kept and not checked."""
    )
    yield from _acceptable(6, facts.STORAGE)
    yield from _statuses("6.2.1.2", "C-STORE")


def query() -> Iterator[str]:
    """Chapter 7."""
    yield heading(0, "7. Query")
    yield heading(1, "7.1. Description")
    yield paragraph(
        """Hierarchical queries in these information models; at each level all keys of
        that level and of the levels above it are supported. Relational queries are
        not negotiated."""
    )
    yield table(
        ("Information model", "Levels"),
        [
            (facts.nameOf(root.value), ", ".join(level.name for level in root.levels))
            for root in Root
        ],
        (70, 30),
    )
    yield from _acceptable(7, facts.FIND)
    yield heading(1, "7.2.2. Search keys and return attributes")
    yield from _matching()
    always = ", ".join(
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in sorted(ANSWERED_ALWAYS)
    )
    yield paragraph(
        f"""Each answer has Query/Retrieve Level, Retrieve AE Title and Instance
        Availability, {always}, and Specific Character Set where it holds text."""
    )
    for level in Level:
        yield heading(2, f"{level.name} level")
        required = facts.requiredForFind(level)
        if required:
            names = ", ".join(map(facts.descriptionOf, required))
            yield paragraph(f"{names} is required at this level.")
        yield _attributes(a for a in REGISTRY.attributes if a.level is level)
    yield from _statuses("7.2.2.3", "C-FIND")


def _sent() -> Iterator[str]:
    """In which transfer syntaxes instances are sent."""
    yield paragraph(
        """Instances are sent in the transfer syntax in which they are stored, which may
        be any of 6.2, where the receiver takes it. Where it does not, these are
        brought to another one:"""
    )
    stored = sorted(syntaxes.SOURCES, key=facts.orderOf)
    yield table(
        ("Stored", "UID"), [(facts.nameOf(uid), uid) for uid in stored], (70, 30)
    )
    yield paragraph("namely to the first of these that the receiver takes:")
    yield table(
        ("Sent", "UID"),
        [(facts.nameOf(uid), uid) for uid in syntaxes.TARGETS],
        (70, 30),
    )


def _keys() -> Iterator[str]:
    """What selects the instances of a retrieve."""
    yield paragraph(
        """The keys of a level select together. UIDs may be lists; wild cards are not
        taken. At the levels SERIES and IMAGE one UID at least must be given."""
    )
    rows = [
        (
            level.name,
            facts.descriptionOf(attribute),
            facts.tagOf(attribute),
            facts.LIST_OF_UID if attribute.vr == "UI" else facts.SINGLE_VALUE,
            "R" if isRequired else "O",
        )
        for level in Level
        for attribute, isRequired in facts.keysOfRetrieve(level).items()
    ]
    header = ("Level", "Attribute", "Tag", "Matching", "Type")
    yield table(header, rows, (15, 35, 15, 30, 5))


def move() -> Iterator[str]:
    """Chapter 8."""
    yield heading(0, "8. Move")
    yield heading(1, "8.1. Description")
    yield paragraph(
        """The Move Destination must be one of the remote AEs. The requestor is told of
        the progress; the UIDs of what was not sent are in the Failed SOP Instance UID
        List of the final response. A C-CANCEL ends it after the instance that is
        under way."""
    )
    yield from _acceptable(8, facts.MOVE)
    yield heading(2, "8.2.1. Transfer syntaxes of the sub-operations")
    yield from _sent()
    yield heading(1, "8.2.2. Search keys")
    yield from _keys()
    yield from _statuses("8.2.2.2", "C-MOVE")


def get() -> Iterator[str]:
    """Chapter 9."""
    yield heading(0, "9. Get")
    yield heading(1, "9.1. Description")
    yield paragraph(
        """The requestor proposes the storage SOP classes that it wants to receive, with
        itself as their SCP, by SCP/SCU Role Selection. The search keys, and the
        transfer syntaxes of the sub-operations, are those of Move."""
    )
    yield from _acceptable(9, facts.GET)
    yield from _statuses("9.2.2.2", "C-GET")


def commitment() -> Iterator[str]:
    """Chapter 10."""
    yield heading(0, "10. Storage Commitment")
    yield heading(1, "10.1. Description")
    yield paragraph(
        """D360 is the SCP of the Push Model. A request is kept until its requestor was
        told, also if D360 is stopped or crashes meanwhile. Each instance is looked up,
        and its file is read and compared with the digest of what was received. What is
        kept is kept for good: D360 removes no instance by itself. If the requestor is
        told later than the files were read, D360 looks again whether the instances are
        there, and reads their files again after a day."""
    )
    yield paragraph(
        f"""The N-EVENT-REPORT is sent over the association of the N-ACTION, if that is
        open and idle when all is checked. Else D360 opens an association with the
        remote AE that has the requestor's AE title, and proposes to be the SCP by
        SCP/SCU Role Selection. A remote AE that accepts the presentation context and
        does not answer the proposed role is told all the same, although it is then the
        SCP by default (PS3.7 D.3.3.4): those that do not mean it answer with a failure
        or an A-ABORT. One that refuses the role is not told. There is one such
        association with a remote AE at a time. What cannot be told is tried again,
        first after {FIRST_DELAY:.0f} seconds and then at ever longer intervals of up to
        {LAST_DELAY / 60:.0f} minutes, for {GIVE_UP / 86400:.0f} days. It may be told
        more than once: where the response to a report was lost, where somebody else
        took over, or after the database was restored from a backup. A request with
        the Transaction UID of one that is not told of yet takes its place. It has
        {MAX_REFERENCES} instances at most. The Storage Media File-Set is not used."""
    )
    yield table(
        ("Failure Reason", "Meaning"),
        [
            (f"{code:04X}", meaning)
            for code, meaning in (
                (status.PROCESSING_FAILURE, "The file is gone, damaged or unreadable."),
                (status.NO_SUCH_SOP_INSTANCE, "There is no such instance."),
                (
                    status.CLASS_INSTANCE_CONFLICT,
                    "The instance is of another SOP class.",
                ),
            )
        ],
        (20, 80),
    )
    yield from _acceptable(10, facts.COMMITMENT)
    yield from _statuses("10.2.3", "N-ACTION")


def differences() -> Iterator[str]:
    """What is not in the statement of D360 Server 3.6, and what only was there."""
    yield heading(0, "11. Differences from the statement of D360 Server 3.6")
    yield paragraph("Beyond that statement:")
    beyond = sorted(transfersyntaxes.STORAGE_BEYOND, key=facts.orderOf)
    yield bullets(
        [
            "D360 is an SCU of Verification, and an SCP of Storage Commitment.",
            "Instances are stored in these transfer syntaxes too: "
            + ", ".join(map(facts.nameOf, beyond))
            + ".",
            "Storage SOP classes that the statement does not list are accepted if so "
            "configured.",
            "Wild cards and several values are matched in keys for which the statement "
            "has single values, and single values match names without regard to case "
            "and accents.",
            "Further keys and attributes: Issuer of Patient ID, Referring Physician's "
            "Name, all attributes of the series and image levels as keys, and those "
            "of upper levels at the levels below; in the worklist those of the "
            "standard's table K.6-1.",
            "Instances are retrieved in any transfer syntax in which they are stored, "
            "not only in four.",
            "Any character set is read; answers may be in ISO_IR 192.",
            "IPv6, and host names for remote AEs.",
            "SCP/SCU Role Selection, without which there is no C-GET.",
            "Status 0211 for operations that a SOP class does not have, 0124 for those "
            "that the requestor is not permitted, and 0110 for an error of D360 in a "
            "C-ECHO.",
        ]
    )
    yield paragraph("Only in that statement:")
    yield bullets(
        [
            "The statuses B000, B006 and B007 of C-STORE, because D360 neither coerces "
            "nor discards elements, and answers a data set that does not match its "
            "SOP class with A900.",
        ]
    )
