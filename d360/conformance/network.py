"""Chapter 4: what holds for the network as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.charset import python_encoding

from d360 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from d360.config import DICOM, options
from d360.conformance.facts import (
    FIND,
    GET,
    MOVE,
    REQUESTED,
    SERVICES,
    STORAGE,
    VERIFICATION,
    WORKLIST,
    nameOf,
)
from d360.conformance.rst import bullets, heading, paragraph, table
from d360.dimse.opener import CONNECT_TIMEOUT, MAX_CONTEXTS
from d360.dimse.operation import MAX_ELEMENTS
from d360.metrics.exposition import REASONS
from d360.model import APPLICATION_CONTEXT
from d360.services.answering import MAX_IDENTIFIER_LENGTH
from d360.services.delivery import RELEASE_TIMEOUT
from d360.services.matching import (
    MAX_KEY_LENGTH,
    MAX_KEYS,
    MAX_PATTERNS,
    MAX_VALUES,
)
from d360.services.records import MAX_INDEXED_LENGTH
from d360.services.verification import PATIENCE
from d360.ul.framing import LONGEST_SENT

_DEFAULTS = DICOM()


def network() -> Iterator[str]:
    """The chapter."""
    yield heading(0, "4. Network conformance statement")
    yield from _model()
    yield from _sopClasses()
    yield from _policies()
    yield from _communication()
    yield from _configuration()
    yield from _characterSets()
    yield heading(1, "4.6. Security")
    yield paragraph(
        """D360 has no DICOM security profile: it is meant for a network to which only
        those have access who may use it. With ``dicom.require_known_callers`` it
        rejects calling AE titles that are not among its remote AEs."""
    )


def _model() -> Iterator[str]:
    yield heading(1, "4.1. Implementation model")
    yield paragraph(
        """D360 is one process with one AE. It serves any number of associations side
        by side; on each, one operation after the other."""
    )
    yield bullets(
        [
            "Verification: it answers C-ECHO, and sends it to a remote AE when an "
            "administrator asks.",
            "Modality Worklist: it answers a C-FIND with the scheduled procedure steps "
            "that match.",
            "Storage: it answers a C-STORE with success after the instance is durable "
            "on the disk and its entry in the index is committed. The data set stays "
            "as it was received.",
            "Query: it answers a C-FIND with what matches in the index.",
            "Move: it sends instances to a remote AE, over associations of its own, as "
            "SCU of Storage.",
            "Get: it sends instances to the requestor, over the requestor's "
            "association, as SCU of Storage.",
        ]
    )


def _table(sopClasses: Iterable[str]) -> str:
    ours = {uid for service in SERVICES for uid in service.sopClasses}
    rows = [
        (nameOf(uid), uid, _yesOrNo(uid in REQUESTED), _yesOrNo(uid in ours))
        for uid in sorted(sopClasses, key=nameOf)
    ]
    return table(("SOP class", "UID", "SCU", "SCP"), rows, (55, 35, 5, 5))


def _yesOrNo(flag: bool) -> str:
    return "Yes" if flag else "No"


def _sopClasses() -> Iterator[str]:
    yield heading(1, "4.2. SOP classes and associations")
    yield heading(2, "4.2.1. SOP classes")
    for number, words, service in (
        (1, "Verification", VERIFICATION),
        (2, "Modality Worklist", WORKLIST),
        (3, "Storage", STORAGE),
        (4, "Query", FIND),
        (5, "Move", MOVE),
        (6, "Get", GET),
    ):
        yield heading(3, f"4.2.1.{number}. {words}")
        yield _table(service.sopClasses)
        if service is STORAGE:
            yield paragraph(
                """D360 is the SCU of these classes as far as it has instances of them
                to send. With ``dicom.accept_unknown_storage`` it is the SCP of every
                other storage SOP class too: those of the standard, and private ones."""
            )
        elif service in (MOVE, GET):
            yield paragraph(
                "The sub-operations are those of Storage, with D360 as the SCU: see "
                "4.2.1.3."
            )


def _policies() -> Iterator[str]:
    yield heading(2, "4.2.2. Association policies")
    yield table(
        ("Item", "Value"),
        [
            ("Application Context Name", APPLICATION_CONTEXT),
            ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
            ("Implementation Version Name", IMPLEMENTATION_VERSION),
            ("Maximum PDU length received", str(_DEFAULTS.maxPDULength)),
            (
                "Maximum PDU length sent",
                f"what the peer receives, {LONGEST_SENT} at most",
            ),
            (
                "Associations at the same time",
                f"{_DEFAULTS.maxAssociations}, as configured",
            ),
            (
                "Asynchronous operations",
                "not offered; a peer that sends further requests all the same has "
                "them served in turn",
            ),
            ("Presentation contexts in a request of ours", f"{MAX_CONTEXTS} at most"),
        ],
        (40, 60),
    )
    yield heading(2, "4.2.3. Association initiation policy")
    yield paragraph(
        """D360 opens associations only with remote AEs that are in its list: to send
        the instances of a C-MOVE, to send a study on behalf of an administrator, and
        to verify the remote AE. Each stored transfer syntax of each SOP class is
        proposed in a presentation context of its own; those that the instances can
        be brought to follow in a further one. The association is released when all
        is sent. The remote AE has the time of ``dicom.response_timeout`` to answer
        each of our requests."""
    )
    yield heading(2, "4.2.4. Association acceptance policy")
    yield paragraph(
        """An association is accepted from whoever calls the AE title of D360. Of the
        transfer syntaxes proposed in a presentation context, the first one that D360
        supports is accepted. The same abstract syntax may be proposed in several
        contexts. An association of which no context was accepted is still accepted.
        An association is rejected as follows (PS3.8 Table 9-21)."""
    )
    yield table(
        ("Result", "Source", "Reason", "Because of"),
        [(*map(str, triple), words) for triple, words in sorted(REASONS.items())],
        (10, 10, 10, 70),
    )
    yield heading(2, "4.2.5. Extended negotiation")
    yield bullets(
        [
            "SCP/SCU Role Selection (PS3.7 D.3.3.4): the requestor may be the SCP of "
            "storage SOP classes, which C-GET needs.",
            "Asynchronous operations window, SOP class extended negotiation, SOP class "
            "common extended negotiation and user identity are not answered, which "
            "means that they are not used.",
        ]
    )


def _communication() -> Iterator[str]:
    yield heading(1, "4.3. Communication profiles")
    yield paragraph(
        """TCP/IP, over any medium. D360 listens on an IPv4 or an IPv6 address. A remote
        AE is given by an address of either kind or by a host name, which the
        system's resolver looks up."""
    )


def _configuration() -> Iterator[str]:
    yield heading(1, "4.4. Configuration")
    yield paragraph(
        """AE title, address and port are options of the configuration file and of the
        command line. Remote AEs are added and removed by d360ctl and by HTTP, with
        effect from the next association on; see administration.rst."""
    )
    yield table(
        ("Parameter", "Default"),
        [
            (f"``{key}``", f"``{_shown(value)}``")
            for key, value in options().items()
            if key.startswith("dicom.")
        ],
        (60, 40),
    )
    yield heading(2, "Time-outs and limits that cannot be configured")
    yield table(
        ("What", "Value"),
        [
            ("Opening a connection", f"{CONNECT_TIMEOUT:.0f} s"),
            ("Response to a C-ECHO of ours", f"{PATIENCE:.0f} s"),
            (
                "Release by the receiver of a C-MOVE, which is aborted after that",
                f"{RELEASE_TIMEOUT:.0f} s",
            ),
            ("Length of an identifier", f"{MAX_IDENTIFIER_LENGTH} bytes"),
            ("Elements of an identifier", f"{min(MAX_ELEMENTS, MAX_KEYS)}"),
            ("Values of one key", f"{MAX_VALUES}"),
            (
                "Values of one key that are names or have wild cards",
                f"{MAX_PATTERNS}",
            ),
            (
                "Length of one key, other than a list of UIDs",
                f"{MAX_KEY_LENGTH} characters",
            ),
            (
                "Length of a value in the index and in answers",
                f"{MAX_INDEXED_LENGTH} characters",
            ),
            ("Length of a data set", "no limit"),
        ],
        (70, 30),
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "value", value))


def _characterSets() -> Iterator[str]:
    yield heading(1, "4.5. Character sets")
    yield paragraph(
        """Stored data sets keep their character sets. For the index and for queries
        these are read (Specific Character Set, with and without code extensions):"""
    )
    yield paragraph(", ".join(term for term in python_encoding if term) + ".")
    yield paragraph(
        """Text whose character set is missing or wrong is read as UTF-8 if it can be,
        else as ISO_IR 100. Answers are in ISO_IR 100; an answer with a character that
        ISO_IR 100 does not have is in ISO_IR 192."""
    )
