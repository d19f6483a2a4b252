"""Chapter 4: what holds for the network as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.charset import python_encoding

from d360 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from d360.addresses import namesOf
from d360.audit import codes
from d360.audit.events import MAX_INSTANCES
from d360.audit.syslog import FACILITY, MAX_DATAGRAM, MESSAGE_ID
from d360.config import DICOM, options
from d360.conformance.facts import (
    COMMITMENT,
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
from d360.conformance.security import transport
from d360.dimse import status
from d360.dimse.opener import CONNECT_TIMEOUT, MAX_CONTEXTS
from d360.dimse.operation import MAX_ELEMENTS
from d360.metrics.exposition import REASONS
from d360.model import APPLICATION_CONTEXT, Permission
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
    yield from _security()


def _permissions() -> dict[Permission, list[str]]:
    """What each of them is needed for."""
    found: dict[Permission, list[str]] = {one: [] for one in Permission}
    for words, service in (
        ("Storage", STORAGE),
        ("Query", FIND),
        ("Modality Worklist", WORKLIST),
        ("Move", MOVE),
        ("Get", GET),
        ("Storage Commitment", COMMITMENT),
    ):
        if service.permission is not None:
            found[service.permission].append(words)
    return found


def _model() -> Iterator[str]:
    yield heading(1, "4.1. Implementation model")
    yield paragraph(
        """D360 is one AE, however many processes serve it: any number of associations
        side by side; on each, one operation after the other."""
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
            "Storage Commitment: it checks the instances of an N-ACTION, and sends an "
            "N-EVENT-REPORT.",
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
        (7, "Storage Commitment", COMMITMENT),
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
                f"{_DEFAULTS.maxAssociations}, as configured, of which one host may "
                "have three quarters, or as configured",
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
        the instances of a C-MOVE, to send a study on behalf of an administrator, to
        tell of a storage commitment, and to verify the remote AE. Each stored
        transfer syntax of each SOP class is proposed in a presentation context of its
        own; those that the instances can be brought to follow in a further one. The
        association is released when all
        is sent. The remote AE has the time of ``dicom.response_timeout`` to answer
        each of our requests."""
    )
    yield heading(2, "4.2.4. Association acceptance policy")
    yield paragraph(
        """An association is accepted from whoever calls the AE title of D360. Of the
        transfer syntaxes proposed in a presentation context, the first one that D360
        supports is accepted. The same abstract syntax may be proposed in several
        contexts; those of what the requestor may not do are refused (see 4.6). An
        association of which no context was accepted is still accepted.
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
            "SCP/SCU Role Selection (PS3.7 D.3.3.4): a requestor that may retrieve may "
            "be the SCP of storage SOP classes, which C-GET needs.",
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
            if key.startswith(("dicom.", "tls."))
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


#: What becomes an audit message, by its Event ID.
_AUDITED = (
    (codes.APPLICATION_ACTIVITY, "Start and stop of the server"),
    (codes.BEGIN_TRANSFERRING, "C-MOVE, C-GET, sending on behalf of a user"),
    (
        codes.INSTANCES_TRANSFERRED,
        "C-STORE received, refused or failed; sub-operations of C-MOVE and C-GET; "
        "sending on behalf of a user",
    ),
    (codes.STUDY_DELETED, "Deletion over HTTP"),
    (
        codes.QUERY,
        "C-FIND of studies and so on and of the worklist; searches over HTTP",
    ),
    (codes.PROCEDURE_RECORD, "Worklist items used over HTTP"),
    (
        codes.SECURITY_ALERT,
        "Associations rejected for their AE titles, wrong tokens over HTTP, "
        "operations that are not permitted, "
        "remote AEs entered and removed",
    ),
)


def _security() -> Iterator[str]:
    yield heading(1, "4.6. Security")
    yield paragraph(
        """D360 supports secure transport connections and the audit trail, and no other
        security profile. With ``dicom.require_known_callers`` it rejects calling AE
        titles that are not among its remote AEs. What each remote AE may do is
        configured with it, what others may by ``dicom.default_permissions``:"""
    )
    yield table(
        ("Permission", "SOP classes"),
        [
            (permission.value, ", ".join(words))
            for permission, words in _permissions().items()
        ],
        (20, 80),
    )
    yield paragraph(
        f"""Presentation contexts of what the requestor may not do are refused with
        result 1 (user rejection, PS3.8 Table 9-18). A storage SOP class of which it
        proposes to be the SCP is accepted if it may retrieve; if it may not store as
        well, it is refused the role of SCU, and a C-STORE is answered
        {status.NOT_AUTHORIZED:04X}. The requestor is asked for nothing more than its
        AE title and, if that is bound to one, its certificate; C-ECHO is permitted to
        each."""
    )
    yield from transport()
    yield heading(2, "4.6.2. Audit trail")
    yield paragraph(
        """D360 supports the Audit Trail Message Format Profile (PS3.15 A.5) and, for
        the messages that it sends to ``audit.syslog``, the transmission profiles
        SYSLOG-TLS (A.6) and SYSLOG-UDP (A.7); without syslog, messages are kept in a
        file. These messages are written:"""
    )
    yield table(
        ("Message", "Event ID", "Because of"),
        [(code.meaning, f"({code.value}, DCM)", words) for code, words in _AUDITED],
        (30, 20, 50),
    )
    yield bullets(
        [
            "User ID (A.5.2.1): D360 itself by the number of the process; a remote "
            "application by its AE title; who calls over HTTP by ``token@address`` or "
            "``anonymous@address``. Alternative User ID: AE titles.",
            "Instances are listed by SOP Instance UID, "
            f"{MAX_INSTANCES} in a message at most; more are several messages.",
            "Extensions of the schema, of codes or of message elements: none. A Query "
            "over HTTP has (12, RFC-3881, “URI”) as its ID type.",
            f"Syslog: facility {FACILITY}; severity 5, or 4 where the outcome is no "
            f"success; MSGID {MESSAGE_ID}; no STRUCTURED-DATA; the receiver and its "
            "port are configured. TLS 1.2 and later; no certificate of D360's own.",
            "Length of a message: up to 32768 octets, other than those of queries "
            f"with identifiers of up to {MAX_IDENTIFIER_LENGTH} bytes. Over UDP, what "
            f"is longer than {MAX_DATAGRAM} octets is not sent.",
        ]
    )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ", ".join(namesOf(value))
    return str(getattr(value, "value", value)) or "none"


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
