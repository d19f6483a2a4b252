"""
Part 10 files (PS3.10 chapter 7): the head that D360 writes before the bytes of
a data set, and what it reads back from one.
"""

from __future__ import annotations

from struct import pack, unpack_from
from typing import BinaryIO

from attrs import frozen

from d360 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from d360.services import transfersyntaxes
from d360.services.header import HeaderError, HeaderScanner
from d360.services.uids import cleanUID, isUID

_PREAMBLE = bytes(128) + b"DICM"

#: The File Meta Information of no sane file is longer.
MAX_META_LENGTH = 65536

_GROUP = 0x0002
_MEDIA_STORAGE_SOP_CLASS = 0x0002
_MEDIA_STORAGE_SOP_INSTANCE = 0x0003
_TRANSFER_SYNTAX = 0x0010
_IMPLEMENTATION_CLASS = 0x0012
_IMPLEMENTATION_VERSION = 0x0013
_SOURCE_AE_TITLE = 0x0016
_SENDING_AE_TITLE = 0x0017
_RECEIVING_AE_TITLE = 0x0018


def _element(element: int, vr: bytes, text: str, padding: bytes) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += padding
    return pack("<HH2sH", _GROUP, element, vr, len(value)) + value


def encodeHead(
    sopClass: str,
    sopInstance: str,
    transferSyntax: str,
    callingAETitle: str,
    calledAETitle: str,
) -> bytes:
    """
    What stands before the data set: preamble, prefix and File Meta Information
    (PS3.10 Table 7.1-1).

    @param callingAETitle: who sent it: Source and Sending AE Title.
    @param calledAETitle: who it was sent to: Receiving AE Title.
    @raise ValueError: a text is not ASCII, or too long.
    """
    texts = (sopClass, sopInstance, transferSyntax, callingAETitle, calledAETitle)
    if any(len(text) > 64 for text in texts):
        raise ValueError("too long for File Meta Information")
    parts = [
        pack("<HH2sHLH", _GROUP, 0x0001, b"OB", 0, 2, 0x0100),
        _element(_MEDIA_STORAGE_SOP_CLASS, b"UI", sopClass, b"\0"),
        _element(_MEDIA_STORAGE_SOP_INSTANCE, b"UI", sopInstance, b"\0"),
        _element(_TRANSFER_SYNTAX, b"UI", transferSyntax, b"\0"),
        _element(_IMPLEMENTATION_CLASS, b"UI", IMPLEMENTATION_CLASS_UID, b"\0"),
        _element(_IMPLEMENTATION_VERSION, b"SH", IMPLEMENTATION_VERSION, b" "),
    ]
    if callingAETitle:
        parts.append(_element(_SOURCE_AE_TITLE, b"AE", callingAETitle, b" "))
        parts.append(_element(_SENDING_AE_TITLE, b"AE", callingAETitle, b" "))
    if calledAETitle:
        parts.append(_element(_RECEIVING_AE_TITLE, b"AE", calledAETitle, b" "))
    meta = b"".join(parts)
    return _PREAMBLE + pack("<HH2sHL", _GROUP, 0, b"UL", 4, len(meta)) + meta


@frozen
class Head:
    """
    What the head of a file says.

    @ivar dataSetOffset: where in the file the data set begins, in bytes.
    """

    transferSyntax: str
    dataSetOffset: int
    sopClass: str = ""
    sopInstance: str = ""
    callingAETitle: str = ""
    calledAETitle: str = ""


_META_WANTED = frozenset(
    _GROUP << 16 | element
    for element in (
        _MEDIA_STORAGE_SOP_CLASS,
        _MEDIA_STORAGE_SOP_INSTANCE,
        _TRANSFER_SYNTAX,
        _SOURCE_AE_TITLE,
        _SENDING_AE_TITLE,
        _RECEIVING_AE_TITLE,
    )
)


def readHead(file: BinaryIO) -> Head:
    """
    Read the head of a Part 10 file, ours or another's, and leave the file at
    its data set.

    @raise HeaderError: it is no Part 10 file.
    """
    start = file.read(len(_PREAMBLE) + 12)
    if len(start) < len(_PREAMBLE) + 12 or start[128:132] != b"DICM":
        raise HeaderError("Not a DICOM Part 10 file")
    group, element, vr, size, length = unpack_from("<HH2sHL", start, 132)
    if (group, element, vr, size) != (_GROUP, 0, b"UL", 4):
        raise HeaderError("File Meta Information without its group length")
    if length > MAX_META_LENGTH:
        raise HeaderError("File Meta Information is too long")
    scanner = HeaderScanner(
        transfersyntaxes.EXPLICIT_VR_LITTLE_ENDIAN, _META_WANTED, 1024
    )
    scanner.write(file.read(length))
    scanner.finish()
    values = {
        tag & 0xFFFF: value.decode("ascii", "replace")
        for tag, value in scanner.values.items()
    }
    transferSyntax = cleanUID(values.get(_TRANSFER_SYNTAX, ""))
    if not isUID(transferSyntax):
        raise HeaderError("File Meta Information without a Transfer Syntax UID")
    calling = values.get(_SENDING_AE_TITLE) or values.get(_SOURCE_AE_TITLE, "")
    return Head(
        transferSyntax=transferSyntax,
        dataSetOffset=len(start) + length,
        sopClass=cleanUID(values.get(_MEDIA_STORAGE_SOP_CLASS, "")),
        sopInstance=cleanUID(values.get(_MEDIA_STORAGE_SOP_INSTANCE, "")),
        callingAETitle=calling.strip("\0 "),
        calledAETitle=values.get(_RECEIVING_AE_TITLE, "").strip("\0 "),
    )
