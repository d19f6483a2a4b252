"""Tests for L{d360.services.scanning}."""

from __future__ import annotations

import zlib

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.services.header import INFLATE_STEP, HeaderScanner
from d360.services.scanning import Scanning, SharedProducer
from tests.services.datasets import DEFLATED, encode, instance


@implementer(IPushProducer)
class Producer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class SharedProducerTests(SynchronousTestCase):
    """It goes on when both of those who pause it want it to."""

    def test_both(self) -> None:
        producer = Producer()
        shared = SharedProducer(producer)
        verifyObject(IPushProducer, shared)
        shared.pauseProducing()
        shared.pause("scanner")
        shared.resumeProducing()
        self.assertEqual(producer.told, ["pause"])
        shared.resume("scanner")
        shared.resume("scanner")
        self.assertEqual(producer.told, ["pause", "resume"])
        shared.stopProducing()
        self.assertEqual(producer.told[-1], "stop")


class ScanningTests(SynchronousTestCase):
    """What a few bytes become is inflated bit by bit."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.producer = Producer()
        self.scanner = HeaderScanner(DEFLATED)
        self.scanning = Scanning(self.scanner, self.clock)
        self.scanning.registerProducer(self.producer)
        # Private data before all that is wanted.
        length = 50 * INFLATE_STEP
        data = b"\x09\0\x10\x10OB\0\0" + length.to_bytes(4, "little") + bytes(length)
        deflater = zlib.compressobj(9, wbits=-15)
        dataset = encode(instance())
        data = dataset[: dataset.index(b"\x10\0\x10\0")] + data
        data += dataset[dataset.index(b"\x10\0\x10\0") :]
        self.data = deflater.compress(data) + deflater.flush()

    def test_waits(self) -> None:
        """The producer is paused until it has caught up."""
        self.scanner.write(self.data)
        self.scanning.goOn()
        self.assertEqual(self.producer.told, ["pause"])
        done = self.scanning.whenDone()
        self.assertNoResult(done)
        self.clock.pump([0] * 100)
        self.successResultOf(done)
        self.assertEqual(self.producer.told, ["pause", "resume"])
        self.scanner.finish()
        self.assertEqual(self.scanner.values[0x00100020], b"P1")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothingToWaitFor(self) -> None:
        """What is short is read at once."""
        deflater = zlib.compressobj(9, wbits=-15)
        self.scanner.write(deflater.compress(encode(instance())) + deflater.flush())
        self.scanning.goOn()
        self.successResultOf(self.scanning.whenDone())
        self.assertEqual(self.producer.told, [])

    def test_stop(self) -> None:
        """Given up, it leaves nothing behind."""
        self.scanner.write(self.data)
        self.scanning.goOn()
        done = self.scanning.whenDone()
        self.scanning.stop()
        self.successResultOf(done)
        self.assertEqual(self.producer.told, ["pause", "resume"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
