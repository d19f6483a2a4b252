import contextlib

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as oracle
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import AssociationRejected, PDUError
from d360.model import (
    AssociationAcceptance,
    AssociationRequest,
    ContextResult,
    ProposedContext,
    RoleSelection,
)
from d360.ul import pdus
from tests.ul.association import IMPLICIT, PROPOSAL, REQUEST, VERIFICATION

FIXED = REQUEST[6:74]
CONTEXT = REQUEST[99:149]

uids = st.lists(st.integers(1, 9999), min_size=2, max_size=8).map(
    lambda parts: ".".join(map(str, parts))
)
titles = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"),
    min_size=1,
    max_size=16,
)
odd = st.integers(0, 127).map(lambda number: 2 * number + 1)
syntaxes = st.lists(uids, min_size=1, max_size=4).map(tuple)
roles = st.lists(
    st.builds(RoleSelection, uids, st.booleans(), st.booleans()),
    max_size=3,
    unique_by=lambda role: role.sopClass,
).map(tuple)
requests = st.builds(
    AssociationRequest,
    titles,
    titles,
    st.lists(
        st.builds(ProposedContext, odd, uids, syntaxes),
        max_size=5,
        unique_by=lambda context: context.contextID,
    ).map(tuple),
    roles,
    st.integers(0, 2**32 - 1),
    uids,
    titles,
)
acceptances = st.builds(
    AssociationAcceptance,
    st.lists(
        st.builds(ContextResult, odd, st.just(0), uids),
        max_size=5,
        unique_by=lambda result: result.contextID,
    ).map(tuple),
    roles,
    st.integers(0, 2**32 - 1),
    uids,
    titles,
)


def item(itemType, value):
    return bytes([itemType, 0]) + len(value).to_bytes(2, "big") + value


class RequestTests(SynchronousTestCase):
    """PS3.8 9.3.2, PS3.7 D.3.3"""

    def refused(self, body, reason=PDUError.INVALID_PARAMETER):
        self.assertEqual(
            self.assertRaises(PDUError, pdus.decodeRequest, body).reason, reason
        )

    def test_literal(self):
        self.assertEqual(
            pdus.decodeRequest(REQUEST[6:], "host"),
            AssociationRequest(
                "ECHOSCU",
                "D360PACS",
                (ProposedContext(1, VERIFICATION, (IMPLICIT,)),),
                (),
                16384,
                "1.2.276.0.7230010.3.0.3.6.7",
                "OFFIS_DCMTK_367",
                peer="host",
            ),
        )

    def test_unknownItems(self):
        """PS3.8 9.3.1: unknown items, and sub-items, are skipped."""
        unknown = item(0x77, b"?" * 5)
        context = item(0x20, b"\1\xff\xff\xff" + unknown + CONTEXT[8:])
        information = item(
            0x50, unknown + item(0x51, bytes(4)) + item(0x58, b"identity")
        )
        request = pdus.decodeRequest(FIXED + unknown + context + information)
        self.assertEqual(
            request.contexts, (ProposedContext(1, VERIFICATION, (IMPLICIT,)),)
        )
        self.assertEqual(request.applicationContext, "")

    def test_padding(self):
        """Spaces around AE titles and padding of UIDs do not count."""
        body = FIXED.replace(b"ECHOSCU ", b" ECHOSCU") + item(
            0x20, b"\1\0\0\0" + item(0x30, b"1.2\0") + item(0x40, b" 1.3 ")
        )
        request = pdus.decodeRequest(body)
        self.assertEqual(request.callingAETitle, "ECHOSCU")
        self.assertEqual(request.contexts, (ProposedContext(1, "1.2", ("1.3",)),))

    def test_malformed(self):
        abstract, transfer = item(0x30, b"1.2"), item(0x40, b"1.3")
        for items in (
            CONTEXT + CONTEXT,
            item(0x20, b"\2\0\0\0" + abstract + transfer),
            item(0x20, b"\1\0\0\0" + abstract),
            item(0x20, b"\1\0\0\0" + transfer),
            item(0x20, b"\1\0\0"),
            item(0x20, b"\1\0\0\0" + abstract + 129 * transfer),
            item(0x20, b"\1\0\0\0" + abstract + item(0x40, b"1" * 65)),
            item(0x20, b"\1\0\0\0" + abstract + item(0x40, b"\xff")),
            item(0x20, b"\1\0\0\0" + abstract + item(0x40, b"")),
            item(0x20, b"\1\0\0\0" + abstract + transfer[:-1]),
            CONTEXT[:-1],
            CONTEXT + b"\x50\0\0",
            item(0x50, item(0x51, b"\0\0\0")),
            item(0x50, item(0x54, b"\0\5" + b"1.2" + b"\1\1")),
            item(0x50, item(0x54, b"\0")),
        ):
            self.refused(FIXED + items)
        self.refused(FIXED[:-1])
        self.refused(FIXED + 2 * item(0x50, b""), PDUError.UNEXPECTED_PARAMETER)
        self.refused(FIXED + 2 * item(0x10, b"1"), PDUError.UNEXPECTED_PARAMETER)

    def test_stopsAtTheLimit(self):
        """
        A request of 1 MiB can hold 200 000 items, and would hold all other
        associations up.
        """
        transfers = b"".join(item(0x40, b"1") for _ in range(5000))
        looked = []
        uid = pdus._uid
        self.patch(pdus, "_uid", lambda value: looked.append(value) or uid(value))
        context = item(0x20, b"\1\0\0\0" + item(0x30, b"1.2") + transfers)
        self.refused(FIXED + context)
        self.assertLess(len(looked), 140)
        many = (pdus.MAX_ITEMS + 1) * item(0xEE, b"")
        for items in (many, item(0x50, many), item(0x20, b"\1\0\0\0" + many)):
            self.refused(FIXED + items + CONTEXT)

    def test_tenThousandContexts(self):
        """There are 128 context IDs; the 129th repeats one."""
        self.refused(
            FIXED
            + b"".join(
                bytes([32, 0, 0, 46, n | 1]) + CONTEXT[5:]
                for n in (k % 256 for k in range(10000))
            )
        )

    @settings(max_examples=60, deadline=None)
    @given(requests)
    def test_roundTrip(self, request):
        """Ours and pynetdicom's decoder see the same."""
        encoded = pdus.encodeRequest(request)
        decoded = pdus.decodeRequest(encoded[6:])
        self.assertEqual(decoded, request)
        self.assertEqual(pdus.encodeRequest(decoded), encoded)
        theirs = oracle.A_ASSOCIATE_RQ()
        theirs.decode(encoded)
        self.assertEqual(theirs.encode(), encoded)
        self.assertEqual(theirs.called_ae_title, request.calledAETitle)
        self.assertEqual(
            [
                (each.context_id, each.abstract_syntax, tuple(each.transfer_syntax))
                for each in theirs.presentation_context
            ],
            [
                (each.contextID, each.abstractSyntax, each.transferSyntaxes)
                for each in decoded.contexts
            ],
        )
        information = theirs.user_information
        self.assertEqual(information.maximum_length, decoded.maxPDULength)
        self.assertEqual(
            {
                uid: (bool(each.scu), bool(each.scp))
                for uid, each in information.role_selection.items()
            },
            {each.sopClass: (each.scu, each.scp) for each in decoded.roles},
        )

    @settings(max_examples=200, deadline=None)
    @given(requests, st.data())
    def test_damaged(self, request, data):
        """Damage is either of no effect or a PDUError."""
        body = bytearray(pdus.encodeRequest(request)[6:])
        for _ in range(data.draw(st.integers(1, 4))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(
                st.integers(0, 255)
            )
        body = bytes(body[: data.draw(st.integers(0, len(body)))])
        for decode in (pdus.decodeRequest, pdus.decodeAcceptance):
            with contextlib.suppress(PDUError):
                decode(body)


class AcceptanceTests(SynchronousTestCase):
    """PS3.8 9.3.3"""

    def test_literal(self):
        encoded = pdus.encodeAcceptance(
            AssociationAcceptance(
                (ContextResult(1, 0, "1.2"), ContextResult(3, 4, "1.3")),
                (RoleSelection("1.4", False, True),),
                65534,
                "1.5",
                "NAME",
            ),
            PROPOSAL,
        )
        self.assertEqual(
            encoded,
            bytes.fromhex("02 00 000000A1 0001 0000")
            + b"STORE           D360PACS        "
            + bytes(32)
            + bytes.fromhex("10000015")
            + b"1.2.840.10008.3.1.1.1"
            + bytes.fromhex("2100000B 01000000 40000003 312E32")
            + bytes.fromhex("2100000B 03000400 40000003 312E33")
            + bytes.fromhex("50000022 51000004 0000FFFE 52000003 312E35")
            + bytes.fromhex("54000007 0003 312E34 00 01 55000004 4E414D45"),
        )

    def test_notTestedUnlessAccepted(self):
        """The transfer syntax of a refused context is not significant."""
        decoded = pdus.decodeAcceptance(
            FIXED
            + item(0x21, b"\1\0\3\0" + item(0x40, b"\xff"))
            + item(0x21, b"\3\0\4\0")
        )
        self.assertEqual(
            decoded.results, (ContextResult(1, 3, ""), ContextResult(3, 4, ""))
        )

    @settings(max_examples=60, deadline=None)
    @given(acceptances)
    def test_roundTrip(self, acceptance):
        encoded = pdus.encodeAcceptance(acceptance, PROPOSAL)
        self.assertEqual(pdus.decodeAcceptance(encoded[6:]), acceptance)
        theirs = oracle.A_ASSOCIATE_AC()
        theirs.decode(encoded)
        self.assertEqual(theirs.encode(), encoded)


class ShortTests(SynchronousTestCase):
    """PS3.8 9.3.4, 9.3.6 to 9.3.8"""

    def test_literal(self):
        for encoded, expected in (
            (
                pdus.encodeRejection(AssociationRejected(1, 2, 3)),
                "03000000000400010203",
            ),
            (pdus.encodeReleaseRQ(), "05000000000400000000"),
            (pdus.encodeReleaseRP(), "06000000000400000000"),
            (pdus.encodeAbort(2, 6), "07000000000400000206"),
        ):
            self.assertEqual(encoded.hex(), expected)

    def test_decoded(self):
        rejection = pdus.decodeRejection(b"\0\1\2\3")
        self.assertEqual(
            (rejection.result, rejection.source, rejection.reason), (1, 2, 3)
        )
        abort = pdus.decodeAbort(b"\0\0\2\6")
        self.assertEqual((abort.source, abort.reason), (2, 6))
        self.assertRaises(PDUError, pdus.decodeAbort, b"\0\0\2")

    def test_protocolVersion(self):
        body = b"\x80\x03" + REQUEST[8:]
        self.assertEqual(pdus.decodeRequest(body).protocolVersion, 0x8003)
        self.assertEqual(evolve(PROPOSAL).protocolVersion, 1)
