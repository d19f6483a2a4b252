"""
The PDUs that open and end an association, between bytes and the values of
L{d360.model} (PS3.8 9.3.2 to 9.3.8, PS3.7 Annex D).

They are encoded by pynetdicom. They are decoded here: what a peer sends is
damaged, hostile or merely newer than any list of items, and a request with
128 contexts must not hold up all other associations for 20 ms.

Reserved fields are never tested, and items and sub-items of an unknown type
are skipped, as the standard wants it (PS3.8 9.3.1). All else that is not as it
should be is a L{PDUError}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from struct import Struct

from pynetdicom import pdu as codec

from d360.errors import AssociationAborted, AssociationRejected, PDUError
from d360.model import (
    APPLICATION_CONTEXT,
    AssociationAcceptance,
    AssociationRequest,
    ContextResult,
    ProposedContext,
    RoleSelection,
)
from d360.ul.framing import A_ASSOCIATE_AC, A_ASSOCIATE_RQ

#: There are no more odd numbers in a byte.
MAX_CONTEXTS = 128
#: DICOM defines some sixty, retired ones included.
MAX_TRANSFER_SYNTAXES = 128
#: One for each context at most can have an effect.
MAX_ROLES = 128
#: Of any kind, side by side: each context and each kind of user information
#: for each SOP class are a fraction of it.
MAX_ITEMS = 1024
#: PS3.5 9.1
_MAX_UID = 64
#: PS3.7 D.3.3.2.2
_MAX_VERSION_NAME = 16

_APPLICATION_CONTEXT = 0x10
_PRESENTATION_CONTEXT_RQ = 0x20
_PRESENTATION_CONTEXT_AC = 0x21
_ABSTRACT_SYNTAX = 0x30
_TRANSFER_SYNTAX = 0x40
_USER_INFORMATION = 0x50
_MAXIMUM_LENGTH = 0x51
_IMPLEMENTATION_CLASS_UID = 0x52
_ROLE_SELECTION = 0x54
_IMPLEMENTATION_VERSION_NAME = 0x55

#: Protocol version, reserved, called and calling AE title, reserved; the
#: items follow (PS3.8 Table 9-11).
_FIXED = Struct(">H2x16s16s32x")
_ITEM = Struct(">BxH")
_LENGTH = Struct(">H")
_MAXIMUM = Struct(">I")
_FOUR = Struct("4B")
_PDU = Struct(">BxI")
#: Context ID and, in an A-ASSOCIATE-AC, result.
_CONTEXT = Struct(">BxBx")


def _invalid(why: str) -> PDUError:
    return PDUError(PDUError.INVALID_PARAMETER, why)


def _walk(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, begin and end of the value of each item between two places."""
    found = 0
    while at < end:
        found += 1
        if found > MAX_ITEMS:
            raise _invalid(f"more than {MAX_ITEMS} items side by side")
        if end - at < _ITEM.size:
            raise _invalid("bytes after the last item")
        itemType, length = _ITEM.unpack_from(data, at)
        begin = at + _ITEM.size
        at = begin + length
        if at > end:
            raise _invalid(f"item {itemType:02X}H reaches beyond what holds it")
        yield itemType, begin, at


def _uid(value: bytes) -> str:
    """
    A UID without the padding that some peers add. One that no services know
    is refused later; here it must merely be fit to be looked up and logged.
    """
    uid = value.strip(b"\0 ").decode("latin-1")
    if not 0 < len(uid) <= _MAX_UID:
        raise _invalid(f"a UID of {len(uid)} bytes")
    if not (uid.isascii() and uid.isprintable()):
        raise _invalid("a UID with other than ASCII characters")
    return uid


def _text(value: bytes) -> str:
    """
    Text for people and for comparison, one character a byte; whether it is
    one that DICOM allows is for negotiation to say.
    """
    return value.decode("latin-1").strip(" ")


# --- decoding ---------------------------------------------------------------


def decodeRequest(body: bytes, peer: str = "") -> AssociationRequest:
    """
    Decode an A-ASSOCIATE-RQ (PS3.8 9.3.2).

    @param body: what follows the PDU's header.
    @param peer: the remote host.
    @raise PDUError: it is malformed.
    """
    version, calledAETitle, callingAETitle = _fixed(body)
    applicationContext = None
    information = None
    contexts: dict[int, ProposedContext] = {}
    for itemType, begin, end in _walk(body, _FIXED.size, len(body)):
        if itemType == _PRESENTATION_CONTEXT_RQ:
            context = _proposedContext(body, begin, end)
            if context.contextID in contexts:
                raise _invalid(f"presentation context {context.contextID} twice")
            contexts[context.contextID] = context
        elif itemType == _APPLICATION_CONTEXT:
            if applicationContext is not None:
                raise PDUError(PDUError.UNEXPECTED_PARAMETER, "item 10H twice")
            applicationContext = _uid(body[begin:end])
        elif itemType == _USER_INFORMATION:
            if information is not None:
                raise PDUError(PDUError.UNEXPECTED_PARAMETER, "item 50H twice")
            information = _userInformation(body, begin, end)
    maxPDULength, classUID, versionName, roles = information or (0, "", "", ())
    return AssociationRequest(
        callingAETitle=_text(callingAETitle),
        calledAETitle=_text(calledAETitle),
        contexts=tuple(contexts.values()),
        roles=roles,
        maxPDULength=maxPDULength,
        implementationClassUID=classUID,
        implementationVersion=versionName,
        applicationContext=applicationContext or "",
        protocolVersion=version,
        peer=peer,
    )


def decodeAcceptance(body: bytes) -> AssociationAcceptance:
    """
    Decode an A-ASSOCIATE-AC (PS3.8 9.3.3). Its AE titles are reserved fields.

    @raise PDUError: it is malformed.
    """
    _fixed(body)
    information = None
    results: dict[int, ContextResult] = {}
    for itemType, begin, end in _walk(body, _FIXED.size, len(body)):
        if itemType == _PRESENTATION_CONTEXT_AC:
            result = _contextResult(body, begin, end)
            if result.contextID in results:
                raise _invalid(f"presentation context {result.contextID} twice")
            results[result.contextID] = result
        elif itemType == _USER_INFORMATION:
            if information is not None:
                raise PDUError(PDUError.UNEXPECTED_PARAMETER, "item 50H twice")
            information = _userInformation(body, begin, end)
    maxPDULength, classUID, versionName, roles = information or (0, "", "", ())
    return AssociationAcceptance(
        results=tuple(results.values()),
        roles=roles,
        maxPDULength=maxPDULength,
        implementationClassUID=classUID,
        implementationVersion=versionName,
    )


def decodeRejection(body: bytes) -> AssociationRejected:
    """Decode an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    _reserved, result, source, reason = _four(body)
    return AssociationRejected(result, source, reason, "by the peer")


def decodeAbort(body: bytes) -> AssociationAborted:
    """Decode an A-ABORT (PS3.8 9.3.8)."""
    _reserved, _reservedToo, source, reason = _four(body)
    return AssociationAborted(source, reason, "by the peer")


def _four(body: bytes) -> tuple[int, int, int, int]:
    if len(body) != _FOUR.size:
        raise _invalid(f"a body of {len(body)} bytes")
    first, second, third, fourth = _FOUR.unpack(body)
    return first, second, third, fourth


def _fixed(body: bytes) -> tuple[int, bytes, bytes]:
    if len(body) < _FIXED.size:
        raise _invalid(f"a body of {len(body)} bytes")
    version, calledAETitle, callingAETitle = _FIXED.unpack_from(body)
    return version, calledAETitle, callingAETitle


def _contextID(body: bytes, begin: int, end: int) -> int:
    if end - begin < 4:
        raise _invalid(f"a presentation context of {end - begin} bytes")
    contextID = body[begin]
    if not contextID & 1:
        raise _invalid(f"presentation context {contextID} is even")
    return contextID


def _proposedContext(body: bytes, begin: int, end: int) -> ProposedContext:
    """PS3.8 9.3.2.2"""
    contextID = _contextID(body, begin, end)
    abstractSyntax = ""
    transferSyntaxes: list[str] = []
    for itemType, valueBegin, valueEnd in _walk(body, begin + 4, end):
        if itemType == _TRANSFER_SYNTAX:
            if len(transferSyntaxes) == MAX_TRANSFER_SYNTAXES:
                raise _invalid(
                    f"more than {MAX_TRANSFER_SYNTAXES} transfer syntaxes in one "
                    "context"
                )
            transferSyntaxes.append(_uid(body[valueBegin:valueEnd]))
        elif itemType == _ABSTRACT_SYNTAX:
            if abstractSyntax:
                raise PDUError(PDUError.UNEXPECTED_PARAMETER, "item 30H twice")
            abstractSyntax = _uid(body[valueBegin:valueEnd])
    if not abstractSyntax or not transferSyntaxes:
        raise _invalid(f"presentation context {contextID} has no syntax")
    return ProposedContext(contextID, abstractSyntax, tuple(transferSyntaxes))


def _contextResult(body: bytes, begin: int, end: int) -> ContextResult:
    """PS3.8 9.3.3.2: unless accepted, the transfer syntax is not tested."""
    contextID = _contextID(body, begin, end)
    result = body[begin + 2]
    transferSyntax = ""
    if result == 0:
        for itemType, valueBegin, valueEnd in _walk(body, begin + 4, end):
            if itemType == _TRANSFER_SYNTAX and not transferSyntax:
                transferSyntax = _uid(body[valueBegin:valueEnd])
        if not transferSyntax:
            raise _invalid(f"presentation context {contextID} has no syntax")
    return ContextResult(contextID, result, transferSyntax)


def _userInformation(
    body: bytes, begin: int, end: int
) -> tuple[int, str, str, tuple[RoleSelection, ...]]:
    """PS3.8 9.3.2.3, PS3.7 D.3.3; all that is not listed here is ignored."""
    maxPDULength = 0
    classUID = ""
    versionName = ""
    roles: dict[str, RoleSelection] = {}
    for itemType, valueBegin, valueEnd in _walk(body, begin, end):
        value = body[valueBegin:valueEnd]
        if itemType == _MAXIMUM_LENGTH:
            if len(value) != _MAXIMUM.size:
                raise _invalid(f"a maximum length of {len(value)} bytes")
            (maxPDULength,) = _MAXIMUM.unpack(value)
        elif itemType == _IMPLEMENTATION_CLASS_UID:
            # Informative, and left empty by some: not worth an abort.
            classUID = _uid(value) if value.strip(b"\0 ") else ""
        elif itemType == _IMPLEMENTATION_VERSION_NAME:
            versionName = _versionName(value)
        elif itemType == _ROLE_SELECTION:
            role = _role(value)
            roles[role.sopClass] = role
            if len(roles) > MAX_ROLES:
                raise _invalid(f"more than {MAX_ROLES} role selections")
    return maxPDULength, classUID, versionName, tuple(roles.values())


def _versionName(value: bytes) -> str:
    """For the log: what could not be printed there is replaced."""
    text = _text(value[:_MAX_VERSION_NAME].rstrip(b"\0"))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _role(value: bytes) -> RoleSelection:
    """PS3.7 D.3.3.4.1"""
    if len(value) < 4:
        raise _invalid(f"a role selection of {len(value)} bytes")
    (length,) = _LENGTH.unpack_from(value)
    if len(value) != length + 4:
        raise _invalid(f"a role selection of {len(value)} bytes for {length}")
    return RoleSelection(
        _uid(value[2 : 2 + length]), value[2 + length] == 1, value[3 + length] == 1
    )


# --- encoding ---------------------------------------------------------------

_RELEASE_RQ = bytes(codec.A_RELEASE_RQ().encode())
_RELEASE_RP = bytes(codec.A_RELEASE_RP().encode())


def encodeRequest(request: AssociationRequest) -> bytes:
    """Encode an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    return _associate(
        A_ASSOCIATE_RQ,
        request.protocolVersion,
        request.calledAETitle,
        request.callingAETitle,
        (
            _uidItem(_APPLICATION_CONTEXT, request.applicationContext),
            *map(_proposedContextItem, request.contexts),
            _userInformationItem(
                request.maxPDULength,
                request.implementationClassUID,
                request.implementationVersion,
                request.roles,
            ),
        ),
    )


def encodeAcceptance(
    acceptance: AssociationAcceptance, request: AssociationRequest
) -> bytes:
    """
    Encode an A-ASSOCIATE-AC (PS3.8 9.3.3).

    @param request: what it answers; its AE titles go back.
    """
    return _associate(
        A_ASSOCIATE_AC,
        1,
        request.calledAETitle,
        request.callingAETitle,
        (
            _uidItem(_APPLICATION_CONTEXT, APPLICATION_CONTEXT),
            *map(_contextResultItem, acceptance.results),
            _userInformationItem(
                acceptance.maxPDULength,
                acceptance.implementationClassUID,
                acceptance.implementationVersion,
                acceptance.roles,
            ),
        ),
    )


def encodeRejection(rejection: AssociationRejected) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    pdu = codec.A_ASSOCIATE_RJ()
    pdu.result = rejection.result
    pdu.source = rejection.source
    pdu.reason_diagnostic = rejection.reason
    return bytes(pdu.encode())


def encodeReleaseRQ() -> bytes:
    """Encode an A-RELEASE-RQ (PS3.8 9.3.6)."""
    return _RELEASE_RQ


def encodeReleaseRP() -> bytes:
    """Encode an A-RELEASE-RP (PS3.8 9.3.7)."""
    return _RELEASE_RP


def encodeAbort(source: int, reason: int) -> bytes:
    """Encode an A-ABORT (PS3.8 9.3.8)."""
    pdu = codec.A_ABORT_RQ()
    pdu.source = source
    pdu.reason_diagnostic = reason
    return bytes(pdu.encode())


def _associate(
    pduType: int,
    version: int,
    calledAETitle: str,
    callingAETitle: str,
    items: Iterable[bytes],
) -> bytes:
    """What an A-ASSOCIATE-RQ and an -AC have in common (PS3.8 Table 9-11)."""
    body = b"".join(
        (
            _FIXED.pack(version, _title(calledAETitle), _title(callingAETitle)),
            *items,
        )
    )
    return _PDU.pack(pduType, len(body)) + body


def _title(text: str) -> bytes:
    return text.encode("latin-1", "replace")[:16].ljust(16)


def _item(itemType: int, value: bytes) -> bytes:
    return _ITEM.pack(itemType, len(value)) + value


@lru_cache(maxsize=1024)
def _uidItem(itemType: int, uid: str) -> bytes:
    """Of the same few, again and again."""
    return _item(itemType, uid.encode("ascii"))


def _proposedContextItem(context: ProposedContext) -> bytes:
    """PS3.8 9.3.2.2"""
    syntaxes = [_uidItem(_TRANSFER_SYNTAX, uid) for uid in context.transferSyntaxes]
    value = b"".join(
        (
            _CONTEXT.pack(context.contextID, 0),
            _uidItem(_ABSTRACT_SYNTAX, context.abstractSyntax),
            *syntaxes,
        )
    )
    return _item(_PRESENTATION_CONTEXT_RQ, value)


def _contextResultItem(result: ContextResult) -> bytes:
    """PS3.8 9.3.3.2"""
    value = _CONTEXT.pack(result.contextID, result.result)
    value += _uidItem(_TRANSFER_SYNTAX, result.transferSyntax)
    return _item(_PRESENTATION_CONTEXT_AC, value)


def _userInformationItem(
    maxPDULength: int, classUID: str, versionName: str, roles: Iterable[RoleSelection]
) -> bytes:
    """In the order of the item types, which some peers rely on."""
    user = [_item(_MAXIMUM_LENGTH, _MAXIMUM.pack(maxPDULength))]
    if classUID:
        user.append(_uidItem(_IMPLEMENTATION_CLASS_UID, classUID))
    for role in roles:
        uid = role.sopClass.encode("ascii")
        value = _LENGTH.pack(len(uid)) + uid + bytes((role.scu, role.scp))
        user.append(_item(_ROLE_SELECTION, value))
    if versionName:
        name = versionName.encode("ascii")
        user.append(_item(_IMPLEMENTATION_VERSION_NAME, name))
    return _item(_USER_INFORMATION, b"".join(user))
