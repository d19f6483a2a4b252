"""
What an association may carry (PS3.8 7.1.1, PS3.7 Annex D.3): pure decisions,
from a request and what the services support to an answer, and from both to
what was agreed.
"""

from __future__ import annotations

from d360.errors import AssociationRejected, PDUError
from d360.interfaces import ISupportedSyntaxes
from d360.model import (
    ALL_PERMISSIONS,
    APPLICATION_CONTEXT,
    AssociationAcceptance,
    AssociationRequest,
    ContextResult,
    EstablishedAssociation,
    Permission,
    PresentationContext,
    ProposedContext,
    RoleSelection,
)
from d360.ul.framing import SHORTEST_MAXIMUM

# PS3.8 Table 9-18.
_ACCEPTANCE = 0
_USER_REJECTION = 1
_ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
_TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


def refusal(request: AssociationRequest) -> AssociationRejected | None:
    """
    What the provider itself holds against a request (PS3.8 9.3.4, AE-6),
    whoever may be admitted; C{None} if nothing.
    """
    # PS3.8 9.3.1: of the version, only bit 0 is tested.
    if not request.protocolVersion & 1:
        return AssociationRejected(1, 2, 2, "protocol version not supported")
    if request.applicationContext != APPLICATION_CONTEXT:
        return AssociationRejected(1, 1, 2, "application context not supported")
    if not isAETitle(request.callingAETitle):
        return AssociationRejected(1, 1, 3, "the calling AE title is none")
    if not isAETitle(request.calledAETitle):
        return AssociationRejected(1, 1, 7, "the called AE title is none")
    if not _letsThrough(request.maxPDULength):
        return AssociationRejected(1, 1, 1, "its maximum PDU length is too short")
    return None


def isOfNames(rejection: AssociationRejected) -> bool:
    """
    Whether a requestor was rejected for who it is, or whom it calls (PS3.8 Table
    9-21: the calling or the called AE title is not recognized).
    """
    return (rejection.result, rejection.source) == (1, 1) and rejection.reason in (3, 7)


def isAETitle(title: str) -> bool:
    """
    Whether text without padding is an AE title: the default character
    repertoire without control characters and backslash (PS3.5 6.2).
    """
    return (
        0 < len(title) <= 16
        and title.isascii()
        and title.isprintable()
        and "\\" not in title
        and title == title.strip(" ")
    )


def _letsThrough(maxPDULength: int) -> bool:
    return maxPDULength == 0 or maxPDULength >= SHORTEST_MAXIMUM


def accept(
    request: AssociationRequest,
    supported: ISupportedSyntaxes,
    maxPDULength: int,
    implementationClassUID: str,
    implementationVersion: str,
    permissions: frozenset[Permission] | None = ALL_PERMISSIONS,
) -> AssociationAcceptance:
    """
    Answer each proposed context, in the order of the request.

    Asynchronous operations, extended negotiation and user identity are left
    unanswered, which means that they are not used (PS3.7 D.3.3.3, D.3.3.5,
    D.3.3.7).

    @param maxPDULength: the longest PDU that we receive.
    @param permissions: what the requestor may do; C{None} while that is not
        known, and everything is accepted.
    """
    permitted = ALL_PERMISSIONS if permissions is None else permissions
    proposed = {role.sopClass: role for role in request.roles}
    results = tuple(
        _answer(context, proposed.get(context.abstractSyntax), supported, permitted)
        for context in request.contexts
    )
    accepted = {
        context.abstractSyntax
        for context, result in zip(request.contexts, results, strict=True)
        if result.result == _ACCEPTANCE
    }
    return AssociationAcceptance(
        results=results,
        roles=tuple(
            _grant(role, supported, permitted)
            for role in request.roles
            if role.sopClass in accepted
        ),
        maxPDULength=maxPDULength,
        implementationClassUID=implementationClassUID,
        implementationVersion=implementationVersion,
        permissions=permissions,
    )


def _answer(
    context: ProposedContext,
    role: RoleSelection | None,
    supported: ISupportedSyntaxes,
    permissions: frozenset[Permission],
) -> ContextResult:
    """PS3.8 9.3.3.2: of what both know, the first that the requestor names."""
    ours = supported.transferSyntaxesFor(context.abstractSyntax)
    # Of no meaning in a refusal, but a field that must hold a UID.
    first = context.transferSyntaxes[0]
    if ours is None:
        return ContextResult(context.contextID, _ABSTRACT_SYNTAX_NOT_SUPPORTED, first)
    uid = context.abstractSyntax
    if not _mayUse(uid, role, supported, permissions) and _mayUse(
        uid, role, supported, ALL_PERMISSIONS
    ):
        return ContextResult(context.contextID, _USER_REJECTION, first)
    for transferSyntax in context.transferSyntaxes:
        if transferSyntax in ours:
            return ContextResult(context.contextID, _ACCEPTANCE, transferSyntax)
    return ContextResult(context.contextID, _TRANSFER_SYNTAXES_NOT_SUPPORTED, first)


def _grant(
    role: RoleSelection,
    supported: ISupportedSyntaxes,
    permissions: frozenset[Permission],
) -> RoleSelection:
    """PS3.7 D.3.3.4: a role that was not proposed cannot be granted."""
    return RoleSelection(
        role.sopClass,
        role.scu and supported.grantsSCURole(role.sopClass, permissions),
        role.scp and supported.grantsSCPRole(role.sopClass, permissions),
    )


def _mayUse(
    abstractSyntax: str,
    role: RoleSelection | None,
    supported: ISupportedSyntaxes,
    permissions: frozenset[Permission],
) -> bool:
    """In one of the roles that it wants; without a word, it wants the SCU's."""
    if role is None:
        return supported.grantsSCURole(abstractSyntax, permissions)
    granted = _grant(role, supported, permissions)
    return granted.scu or granted.scp


def refusedCount(acceptance: AssociationAcceptance) -> int:
    """How many contexts were refused because the requestor may not use them."""
    return sum(one.result == _USER_REJECTION for one in acceptance.results)


def establish(
    request: AssociationRequest, acceptance: AssociationAcceptance, requestor: bool
) -> EstablishedAssociation:
    """
    What a request and its answer come to.

    A result for a context that was not proposed, and an accepted transfer
    syntax that was not, give no context to use.

    @param requestor: we are the requestor.
    @raise PDUError: the acceptor takes no PDU that holds data.
    """
    peer = acceptance if requestor else request
    if not _letsThrough(peer.maxPDULength):
        raise PDUError(
            PDUError.INVALID_PARAMETER, f"a maximum length of {peer.maxPDULength}"
        )
    return EstablishedAssociation(
        requestor=requestor,
        callingAETitle=request.callingAETitle,
        calledAETitle=request.calledAETitle,
        peer=request.peer,
        peerMaxPDULength=peer.maxPDULength,
        contexts=_agreed(request, acceptance),
        peerImplementationClassUID=peer.implementationClassUID,
        peerImplementationVersion=peer.implementationVersion,
        permissions=acceptance.permissions,
    )


def _agreed(
    request: AssociationRequest, acceptance: AssociationAcceptance
) -> dict[int, PresentationContext]:
    """The presentation contexts that both sides have, by their IDs."""
    proposed = {context.contextID: context for context in request.contexts}
    proposedRoles = {role.sopClass: role for role in request.roles}
    answeredRoles = {role.sopClass: role for role in acceptance.roles}
    contexts = {}
    for result in acceptance.results:
        context = proposed.get(result.contextID)
        if (
            context is None
            or result.result != _ACCEPTANCE
            or result.transferSyntax not in context.transferSyntaxes
        ):
            continue
        scu, scp = _roles(
            proposedRoles.get(context.abstractSyntax),
            answeredRoles.get(context.abstractSyntax),
        )
        contexts[result.contextID] = PresentationContext(
            result.contextID, context.abstractSyntax, result.transferSyntax, scu, scp
        )
    return contexts


def _roles(
    proposed: RoleSelection | None, answered: RoleSelection | None
) -> tuple[bool, bool]:
    """
    Whether the requestor may be SCU, and SCP: by default the SCU only, unless
    both sides spoke of it (PS3.7 D.3.3.4).
    """
    if proposed is None or answered is None:
        return True, False
    return proposed.scu and answered.scu, proposed.scp and answered.scp
