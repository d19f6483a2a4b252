"""By what a file is known to be what was received."""

from __future__ import annotations

from hashlib import sha256

from twisted.trial.unittest import SynchronousTestCase

from d360.digests import digestOf, newDigest, sameKind


class DigestTests(SynchronousTestCase):
    """Two kinds, told apart by the digest itself."""

    def test_new(self) -> None:
        """BLAKE3, of which this is the published test vector of no bytes."""
        self.assertEqual(
            "03af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            newDigest().digest().hex(),
        )

    def test_pieces(self) -> None:
        """Piece by piece it is the same."""
        data = bytes(range(256)) * 1000
        for length in (1, 7, 65528, len(data)):
            digest = newDigest()
            for start in range(0, len(data), length):
                digest.update(memoryview(data)[start : start + length])
            self.assertEqual(digestOf(data), digest.digest())

    def test_sameKind(self) -> None:
        """What was stored with SHA-256 is compared with SHA-256."""
        for known in (sha256(b"data").digest(), digestOf(b"data")):
            for data, isSame in ((b"data", True), (b"dat", False)):
                digest = sameKind(known)
                digest.update(data)
                self.assertEqual(isSame, digest.digest() == known)

    def test_none(self) -> None:
        """What is no digest is nobody's."""
        for known in (b"", b"x" * 33):
            digest = sameKind(known)
            self.assertNotEqual(known, digest.digest())
