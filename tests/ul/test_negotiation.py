from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from d360.errors import PDUError
from d360.model import (
    ALL_PERMISSIONS,
    AssociationAcceptance,
    AssociationRequest,
    ContextResult,
    Permission,
    PresentationContext,
    ProposedContext,
    RoleSelection,
)
from d360.ul import negotiation
from tests.ul.association import (
    CT,
    EXPLICIT,
    IMPLICIT,
    PROPOSAL,
    VERIFICATION,
    Supported,
)

JPEG = "1.2.840.10008.1.2.4.50"
MR = "1.2.840.10008.5.1.4.1.1.4"


class AcceptorTests(SynchronousTestCase):
    """PS3.8 9.3.3.2, PS3.7 D.3.3: each proposed context is answered."""

    def accept(self, *contexts, roles=(), permissions=ALL_PERMISSIONS):
        request = AssociationRequest("A", "B", contexts, roles)
        return negotiation.accept(
            request, Supported(), 65534, "1.2.3", "NAME", permissions
        )

    def test_results(self):
        acceptance = self.accept(
            ProposedContext(1, MR, (IMPLICIT,)),
            ProposedContext(3, CT, (JPEG,)),
            ProposedContext(5, CT, (JPEG, EXPLICIT, IMPLICIT)),
            ProposedContext(7, CT, (IMPLICIT, EXPLICIT)),
        )
        self.assertEqual(
            acceptance.results,
            (
                ContextResult(1, 3, IMPLICIT),
                ContextResult(3, 4, JPEG),
                ContextResult(5, 0, EXPLICIT),
                ContextResult(7, 0, IMPLICIT),
            ),
        )
        self.assertEqual(acceptance.maxPDULength, 65534)
        self.assertEqual(acceptance.implementationClassUID, "1.2.3")
        self.assertEqual(acceptance.implementationVersion, "NAME")

    def test_roles(self):
        """PS3.7 D.3.3.4: as proposed and supported, and only then."""
        acceptance = self.accept(
            ProposedContext(1, CT, (IMPLICIT,)),
            ProposedContext(3, VERIFICATION, (IMPLICIT,)),
            roles=(
                RoleSelection(CT, False, True),
                RoleSelection(VERIFICATION, True, True),
                RoleSelection(MR, True, True),
            ),
        )
        self.assertEqual(
            acceptance.roles,
            (
                RoleSelection(CT, False, True),
                RoleSelection(VERIFICATION, True, False),
            ),
        )

    def test_permissions(self):
        """PS3.8 Table 9-18: 1, a user rejection, of what it may not use."""
        contexts = (
            ProposedContext(1, CT, (EXPLICIT,)),
            ProposedContext(3, VERIFICATION, (IMPLICIT,)),
            ProposedContext(5, MR, (IMPLICIT,)),
            ProposedContext(7, CT, (JPEG,)),
        )
        both = RoleSelection(CT, True, True)
        toReceive = RoleSelection(CT, False, True)
        for permissions, role, results, granted in (
            ({Permission.STORE}, None, (0, 0, 3, 4), None),
            ({Permission.RETRIEVE}, None, (1, 0, 3, 1), None),
            (set(), None, (1, 0, 3, 1), None),
            # PS3.7 D.3.3.4: of the roles, those that it may have.
            (ALL_PERMISSIONS, both, (0, 0, 3, 4), both),
            ({Permission.RETRIEVE}, both, (0, 0, 3, 4), toReceive),
            ({Permission.RETRIEVE}, toReceive, (0, 0, 3, 4), toReceive),
            ({Permission.STORE}, both, (0, 0, 3, 4), RoleSelection(CT, True, False)),
            ({Permission.STORE}, toReceive, (1, 0, 3, 1), None),
            ({Permission.QUERY}, both, (1, 0, 3, 1), None),
            # Not known yet: each operation is looked at.
            (None, both, (0, 0, 3, 4), both),
        ):
            permissions = permissions if permissions is None else frozenset(permissions)
            acceptance = self.accept(
                *contexts, roles=(role,) if role else (), permissions=permissions
            )
            found = tuple(one.result for one in acceptance.results)
            self.assertEqual(found, results, (permissions, role))
            self.assertEqual(negotiation.refusedCount(acceptance), results.count(1))
            self.assertEqual(acceptance.roles, (granted,) if granted else ())
            self.assertEqual(acceptance.permissions, permissions)

    def test_noRole(self):
        """Who asks for no role, or for one that nobody has, is no other than before."""
        for role in (
            RoleSelection(CT, False, False),
            RoleSelection(VERIFICATION, False, True),
        ):
            for permissions in (ALL_PERMISSIONS, frozenset()):
                acceptance = self.accept(
                    ProposedContext(1, role.sopClass, (IMPLICIT,)),
                    roles=(role,),
                    permissions=permissions,
                )
                self.assertEqual(acceptance.results, (ContextResult(1, 0, IMPLICIT),))
                self.assertEqual(
                    acceptance.roles, (RoleSelection(role.sopClass, False, False),)
                )

    def test_refusal(self):
        """PS3.8 Table 9-21"""
        for change, values in (
            ({}, None),
            ({"protocolVersion": 0xFFFF}, None),
            ({"protocolVersion": 2}, (1, 2, 2)),
            ({"applicationContext": "1.2.3"}, (1, 1, 2)),
            ({"callingAETitle": ""}, (1, 1, 3)),
            ({"callingAETitle": "A\\B"}, (1, 1, 3)),
            ({"callingAETitle": "A\nB"}, (1, 1, 3)),
            ({"callingAETitle": "\xc4"}, (1, 1, 3)),
            ({"calledAETitle": ""}, (1, 1, 7)),
            ({"calledAETitle": "A\0"}, (1, 1, 7)),
            ({"calledAETitle": "A B"}, None),
            ({"maxPDULength": 7}, (1, 1, 1)),
            ({"maxPDULength": 8}, None),
        ):
            refusal = negotiation.refusal(evolve(PROPOSAL, **change))
            found = refusal and (refusal.result, refusal.source, refusal.reason)
            self.assertEqual(found, values, change)


class EstablishedTests(SynchronousTestCase):
    request = AssociationRequest(
        "A",
        "B",
        (
            ProposedContext(1, CT, (EXPLICIT, IMPLICIT)),
            ProposedContext(3, VERIFICATION, (IMPLICIT,)),
        ),
        (RoleSelection(CT, True, True),),
        16384,
        "1.2",
        "REQUESTOR",
        peer="host",
    )
    acceptance = AssociationAcceptance(
        (ContextResult(1, 0, IMPLICIT), ContextResult(3, 3, "")),
        (RoleSelection(CT, True, True),),
        32768,
        "1.3",
        "ACCEPTOR",
    )

    def test_bothSides(self):
        """Each side sees the other's limit and name, and the same contexts."""
        contexts = {1: PresentationContext(1, CT, IMPLICIT, True, True)}
        requestor = negotiation.establish(self.request, self.acceptance, True)
        acceptor = negotiation.establish(self.request, self.acceptance, False)
        self.assertEqual(requestor.contexts, contexts)
        self.assertEqual(acceptor.contexts, contexts)
        self.assertEqual(requestor.peerMaxPDULength, 32768)
        self.assertEqual(acceptor.peerMaxPDULength, 16384)
        self.assertEqual(requestor.peerImplementationVersion, "ACCEPTOR")
        self.assertEqual(acceptor.peerImplementationVersion, "REQUESTOR")
        self.assertEqual(acceptor.peer, "host")

    def test_permissions(self):
        """What the acceptor lets the requestor do goes along."""
        for permissions in (None, frozenset(), frozenset({Permission.QUERY})):
            acceptance = evolve(self.acceptance, permissions=permissions)
            established = negotiation.establish(self.request, acceptance, False)
            self.assertEqual(established.permissions, permissions)

    def test_notProposed(self):
        """What the acceptor makes up is not used."""
        acceptance = evolve(
            self.acceptance,
            results=(ContextResult(1, 0, JPEG), ContextResult(5, 0, IMPLICIT)),
        )
        established = negotiation.establish(self.request, acceptance, True)
        self.assertEqual(established.contexts, {})

    def test_rolesByDefault(self):
        """Unanswered, or not proposed, the requestor is SCU only."""
        for request, acceptance in (
            (self.request, evolve(self.acceptance, roles=())),
            (evolve(self.request, roles=()), self.acceptance),
        ):
            context = negotiation.establish(request, acceptance, True).contexts[1]
            self.assertEqual((context.scu, context.scp), (True, False))

    def test_tooShort(self):
        acceptance = evolve(self.acceptance, maxPDULength=6)
        self.assertRaises(
            PDUError, negotiation.establish, self.request, acceptance, True
        )
