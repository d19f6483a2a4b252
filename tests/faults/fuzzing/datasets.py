"""Data sets of strangers: headers, files, texts, identifiers."""

from __future__ import annotations

import zlib
from functools import cache
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from d360.attributes import Level
from d360.dimse.operation import _Gathering
from d360.errors import DIMSEError
from d360.model import Match, Query, ScheduledStep, WorklistItem
from d360.services import transfersyntaxes
from d360.services.answering import MAX_IDENTIFIER_LENGTH
from d360.services.find import encoderFor
from d360.services.header import MAX_DEPTH, HeaderError, HeaderScanner
from d360.services.matching import Question, Root, readQuestion
from d360.services.part10 import encodeHead, readHead
from d360.services.records import readHeader
from d360.services.reindex import readInstance
from d360.services.selection import readSelection
from d360.services.text import decodeText, encodingsOf
from d360.services.worklistanswers import AnswerEncoder
from d360.services.worklistitems import readKeywords
from d360.services.worklistquestions import readWorklistQuestion
from tests.faults.fuzzing.conversations import identifiers, worklistIdentifier
from tests.faults.fuzzing.target import Target, allowing, check
from tests.services.datasets import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    encode,
    instance,
    part10Files,
)

_SYNTAXES = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.10008.1.2.4.70")
_QUERIES = (IMPLICIT, EXPLICIT, BIG_ENDIAN)

_HEAD = encodeHead("1.2", "1.2.3", EXPLICIT, "CALLING", "CALLED")


# --- headers -----------------------------------------------------------------


def _scanned(syntax: str, data: bytes, size: int) -> tuple[object, ...]:
    scanner = HeaderScanner(syntax)
    for place in range(0, len(data), size):
        scanner.write(memoryview(data)[place : place + size])
        while scanner.isBehind:
            scanner.goOn()
        check(len(scanner._carry) < 32, "more is kept than a header")
        check(len(scanner._containers) <= MAX_DEPTH, "deeper than is allowed")
    try:
        scanner.finish()
    except HeaderError as error:
        check(bool(str(error)), "an error without a word")
        return (str(error),)
    header: object = None
    with allowing(HeaderError):
        header = readHeader(scanner.values)
    return scanner.values, header


def scanHeader(data: bytes) -> None:
    """The first byte chooses the transfer syntax; however it is cut."""
    if not data:
        return
    syntax = _SYNTAXES[data[0] % len(_SYNTAXES)]
    body = data[1:]
    whole = _scanned(syntax, body, max(len(body), 1))
    if not transfersyntaxes.isDeflated(syntax):
        check(_scanned(syntax, body, 1 + data[0] // 8) == whole, "pieces differ")


def _realHeads(longest: int) -> list[bytes]:
    """The beginnings of some of pydicom's files."""
    found = []
    for path in part10Files()[::6]:
        with path.open("rb") as file:
            found.append(file.read(longest))
    return found


@cache
def _bodies() -> tuple[tuple[int, bytes], ...]:
    """Data sets with the number of their transfer syntax."""
    found = [
        (number, encode(dataset, syntax))
        for number, syntax in enumerate(_SYNTAXES[:3])
        for dataset in (*identifiers(), instance())
    ]
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(encode(instance())) + deflater.flush()
    found.append((3, deflated))
    for data in _realHeads(3500):
        file = BytesIO(data)
        with allowing(HeaderError):
            head = readHead(file)
            number = 1
            if head.transferSyntax in _SYNTAXES:
                number = _SYNTAXES.index(head.transferSyntax)
            found.append((number, file.read()))
    return tuple(found)


def _headerSeeds() -> list[bytes]:
    return [bytes([number + 40]) + body for number, body in _bodies()]


def readPart10(data: bytes) -> None:
    """As a rebuild of the index reads files."""
    with allowing(HeaderError):
        readInstance(BytesIO(data))


def _part10Seeds() -> list[bytes]:
    return [_HEAD + encode(instance()), *_realHeads(3900)]


# --- texts -------------------------------------------------------------------


def readText(data: bytes) -> None:
    """Specific Character Set, a line end, and a text, twice."""
    characterSet, _, value = data.partition(b"\n")
    encodings = encodingsOf(characterSet.decode("ascii", "replace"))
    for isName in (False, True):
        text = decodeText(value, encodings, isName)
        check("\0" not in text and "\x1b" not in text, "a control character is left")
        text.encode("utf-8")


def _textSeeds() -> list[bytes]:
    return [
        b"ISO_IR 100\nM\xfcller^J\xf6rg",
        b"\\ISO 2022 IR 87\nYamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        b"ISO 2022 IR 13\\ISO 2022 IR 87\n"
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J",
        b"\\ISO 2022 IR 149\nHong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        b"ISO_IR 192\nWang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1",
        b"GB18030\nWang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab",
        b"ISO 2022 IR 6\\ISO 2022 IR 100\\ISO 2022 IR 126\nA\x1b-F\xc4\xe9^B",
        b"ISO_IR 166\n\xb9\xd2\xc2",
        b"\\ISO 2022 IR 58\n\x1b$)A\xcd\xf5",
    ]


# --- identifiers -------------------------------------------------------------


def gathered(data: bytes, syntax: str) -> Dataset:
    """
    As an operation reads an identifier.

    @raise DIMSEError: likewise.
    """
    gathering = _Gathering(MAX_IDENTIFIER_LENGTH)
    gathering.write(data)
    return gathering.dataset(syntax)


def _readBack(answer: bytes, syntax: str) -> Dataset:
    """What a peer reads of an answer: all of its elements, in order."""
    uid = UID(syntax)
    file = BytesIO(answer)
    dataset = read_dataset(file, uid.is_implicit_VR, uid.is_little_endian)
    tags = list(dataset.keys())
    check(file.tell() == len(answer), "an answer goes on behind its end")
    check(tags == sorted(tags), "an answer is out of order")
    return dataset


#: Values of any length, in any script, empty, or several of them.
_VALUES = (
    "",
    "Rossi^Anna",
    "1.2.3",
    "M\xfcller^J\xf6rg",
    "\u5c71\u7530^\u592a",
    "A\\B",
)


def _checkAnswer(question: Question, syntax: str) -> None:
    encoder = encoderFor(question, "D360PACS", syntax)
    count = len(question.query.returned)
    values = tuple(_VALUES[n % len(_VALUES)] for n in range(count))
    answer = _readBack(encoder.encode(Match(values).values), syntax)
    for key in question.asked:
        check(key.tag in answer, "a key is not answered")


def askQuestion(data: bytes) -> None:
    """The identifier of a C-FIND, C-MOVE or C-GET, and an answer to it."""
    if not data:
        return
    syntax = _QUERIES[data[0] % len(_QUERIES)]
    root = (Root.PATIENT, Root.STUDY)[data[0] // 3 % 2]
    with allowing(DIMSEError):
        question = readQuestion(gathered(data[1:], syntax), root)
        check(question.query.level in Level, "no level")
        _checkAnswer(question, syntax)
    with allowing(DIMSEError):
        check(isinstance(readSelection(gathered(data[1:], syntax), root), Query), "")


def _identifierSeeds() -> list[bytes]:
    return [bytes([number]) + body for number, body in _bodies() if number < 3]


@cache
def _step() -> ScheduledStep:
    attributes = readKeywords(
        {
            "PatientName": "Rossi^Anna=\u5c71\u7530",
            "PatientID": "P1",
            "PatientWeight": 71.5,
            "ScheduledProcedureStepSequence": [
                {
                    "Modality": "CT",
                    "ScheduledStationAETitle": "CT01",
                    "ScheduledProcedureStepStartDate": "20260101",
                    "ScheduledProcedureStepDescription": "Thorax",
                }
            ],
        }
    )
    return ScheduledStep(WorklistItem("1", 1, attributes), 0)


def askWorklist(data: bytes) -> None:
    """The identifier of a query of the worklist, and an answer to it."""
    if not data:
        return
    syntax = _QUERIES[data[0] % len(_QUERIES)]
    with allowing(DIMSEError):
        question = readWorklistQuestion(gathered(data[1:], syntax))
        answer = AnswerEncoder(question.asked, syntax).encode(_step())
        read = _readBack(answer, syntax)
        for asked in question.asked:
            check(asked.tag in read, "a key is not answered")


def _worklistSeeds() -> list[bytes]:
    return [
        bytes([number]) + encode(worklistIdentifier(), syntax)
        for number, syntax in enumerate(_QUERIES)
    ] + _identifierSeeds()


TARGETS = (
    Target("header", scanHeader, _headerSeeds, 120),
    Target("part10", readPart10, _part10Seeds, 60),
    Target("text", readText, _textSeeds, 80, longest=1024),
    Target("identifiers", askQuestion, _identifierSeeds, 30),
    Target("worklist", askWorklist, _worklistSeeds, 20),
)
