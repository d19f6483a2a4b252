"""A transcoder for unit tests: it writes what it was asked for."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from d360.errors import TranscodingError
from d360.interfaces import IDatasetReader, ITranscoder
from d360.model import Location
from tests.contracts.memoryarchive import MemoryReader

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@implementer(ITranscoder)
class FakeTranscoder:
    """
    See L{ITranscoder}.

    @ivar targets: what each transfer syntax can be brought to.
    @ivar broken: paths of files that cannot be decoded.
    @ivar waiter: what each call waits for first, if anything.
    """

    def __init__(self) -> None:
        self.targets: dict[str, tuple[str, ...]] = {}
        self.broken: set[str] = set()
        self.waiter: Deferred[None] | None = None
        self.readers: list[MemoryReader] = []

    def targetsOf(self, transferSyntax: str) -> tuple[str, ...]:
        return self.targets.get(transferSyntax, (EXPLICIT, IMPLICIT))

    def transcode(
        self, location: Location, transferSyntax: str, target: str
    ) -> Deferred[IDatasetReader]:
        if self.waiter is not None:
            return self.waiter.addCallback(
                lambda _: self._transcode(location, transferSyntax, target)
            )
        return self._transcode(location, transferSyntax, target)

    def _transcode(
        self, location: Location, transferSyntax: str, target: str
    ) -> Deferred[IDatasetReader]:
        if location.path in self.broken:
            return fail(TranscodingError("it cannot be decoded"))
        reader = MemoryReader(f"{location.path} in {target}".encode())
        self.readers.append(reader)
        return succeed(reader)
