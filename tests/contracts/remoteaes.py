"""What every L{IRemoteAEs} does, whatever it keeps them in."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import gatherResults

from d360.interfaces import IRemoteAEs
from d360.model import ALL_PERMISSIONS, Permission, RemoteAE
from tests.contracts.instances import assertSameSignatures

WS1 = RemoteAE("WS1", "127.0.0.1", 11113)


class RemoteAEsContract:
    """
    Mix into a trial C{TestCase}; C{setUp} puts an empty registry into
    C{remoteAEs}.
    """

    def test_signatures(self: Any) -> None:
        assertSameSignatures(self, IRemoteAEs, self.remoteAEs)

    async def test_empty(self: Any) -> None:
        self.assertEqual(await self.remoteAEs.all(), ())
        self.assertIsNone(await self.remoteAEs.get("WS1"))
        self.assertIs(await self.remoteAEs.remove("WS1"), False)

    async def test_put(self: Any) -> None:
        """A new one, the same again, another of its title."""
        self.assertIs(await self.remoteAEs.put(WS1), True)
        self.assertEqual(await self.remoteAEs.get("WS1"), WS1)
        self.assertIs(await self.remoteAEs.put(WS1), False)
        moved = RemoteAE("WS1", "2001:db8::7", 104)
        self.assertIs(await self.remoteAEs.put(moved), False)
        self.assertEqual(await self.remoteAEs.get("WS1"), moved)
        self.assertEqual(await self.remoteAEs.all(), (moved,))

    async def test_permissions(self: Any) -> None:
        """A set, all of it if nothing is said; it may be empty."""
        await self.remoteAEs.put(WS1)
        kept = await self.remoteAEs.get("WS1")
        self.assertEqual(kept.permissions, ALL_PERMISSIONS)
        for permissions in (
            frozenset(),
            frozenset({Permission.QUERY}),
            frozenset({Permission.WORKLIST, Permission.STORE}),
            ALL_PERMISSIONS,
        ):
            restricted = evolve(WS1, permissions=permissions)
            self.assertIs(await self.remoteAEs.put(restricted), False)
            self.assertEqual(await self.remoteAEs.get("WS1"), restricted)
            self.assertEqual(await self.remoteAEs.all(), (restricted,))

    async def test_security(self: Any) -> None:
        """TLS, and the certificate that it has to show; replaced with the rest."""
        secured = evolve(WS1, tls=True, certificate="0123456789abcdef" * 4)
        await self.remoteAEs.put(secured)
        self.assertEqual(await self.remoteAEs.get("WS1"), secured)
        await self.remoteAEs.put(WS1)
        self.assertEqual(await self.remoteAEs.get("WS1"), WS1)

    async def test_remove(self: Any) -> None:
        """One goes, the others stay; then it is new again."""
        other = RemoteAE("WS2", "ws2.example.org", 104)
        for remote in (WS1, other):
            await self.remoteAEs.put(remote)
        self.assertIs(await self.remoteAEs.remove("WS1"), True)
        self.assertIsNone(await self.remoteAEs.get("WS1"))
        self.assertEqual(await self.remoteAEs.all(), (other,))
        self.assertIs(await self.remoteAEs.remove("WS1"), False)
        self.assertIs(await self.remoteAEs.put(WS1), True)

    async def test_titles(self: Any) -> None:
        """Letter by letter, sorted by code point."""
        titles = ["a", "B", "A B", "A", "%", "O'N", '"', "ABCDEFGHIJKLMNOP", "_", "~"]
        for title in titles:
            await self.remoteAEs.put(RemoteAE(title, "127.0.0.1", 104))
        found = [remote.title for remote in await self.remoteAEs.all()]
        self.assertEqual(found, sorted(titles))
        for title in titles:
            self.assertEqual((await self.remoteAEs.get(title)).title, title)
        self.assertIs(await self.remoteAEs.remove("_"), True)
        for title in ("b", "A ", " A", "", "*", "_", "A\0", "\0A", "\ud800", "Ä" * 99):
            self.assertIsNone(await self.remoteAEs.get(title))
            self.assertIs(await self.remoteAEs.remove(title), False)

    async def test_limits(self: Any) -> None:
        """The longest and largest there are."""
        largest = RemoteAE("X" * 16, "h" * 63 + ("." + "h" * 63) * 2 + ".x", 65535)
        await self.remoteAEs.put(largest)
        self.assertEqual(await self.remoteAEs.get("X" * 16), largest)

    async def test_atTheSameTime(self: Any) -> None:
        """Of several of one title, one is new, and one of them stays."""
        remotes = [RemoteAE("WS1", "127.0.0.1", 1000 + n) for n in range(20)]
        new = await gatherResults([self.remoteAEs.put(one) for one in remotes])
        self.assertEqual(sorted(new), [False] * 19 + [True])
        (kept,) = await self.remoteAEs.all()
        self.assertIn(kept, remotes)
