"""Tests for L{d360.admin.aes}: through a real Site, without a socket."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from d360.admin.aes import RemoteAEsResource
from d360.admin.site import MAX_BODY, makeSite
from d360.errors import AssociationRejected, ConnectionClosed, DIMSEError
from d360.interfaces import IVerification
from d360.model import RemoteAE
from tests.admin.test_site import SiteTestCase
from tests.contracts.memoryremoteaes import MemoryRemoteAEs

#: What is not said of one.
DEFAULTS = {
    "permissions": ["store", "query", "retrieve", "worklist"],
    "tls": False,
    "certificate": "",
}
WS1 = {"aet": "WS1", "host": "127.0.0.1", "port": 11113, **DEFAULTS}
PLACE = b'{"host": "127.0.0.1", "port": 11113}'


@implementer(IVerification)
class Verification:
    """See L{IVerification}."""

    def __init__(self) -> None:
        self.result: Deferred[float] = succeed(0.00314)
        self.asked: list[RemoteAE] = []

    def verify(self, remote: RemoteAE) -> Deferred[float]:
        self.asked.append(remote)
        return self.result


class RemoteAEsTestCase(SiteTestCase):
    """A site with the remote AEs."""

    def setUp(self) -> None:
        super().setUp()
        self.remoteAEs = MemoryRemoteAEs()
        self.verification = Verification()
        resource = RemoteAEsResource(self.remoteAEs, self.verification, "D360PACS")
        self.site = makeSite({b"aes": resource}, self.token)
        self.site.timeOut = None

    def kept(self) -> list[Any]:
        """All that are registered."""
        listed: list[Any] = self.call("GET", "/api/aes").json["aes"]
        return listed


class ListTests(RemoteAEsTestCase):
    """C{/api/aes}."""

    def test_list(self) -> None:
        """All, by title; none at first."""
        self.assertEqual(self.call("GET", "/api/aes").json, {"aes": []})
        for title in ("WS2", "CT", "a"):
            self.call("PUT", f"/api/aes/{title}", PLACE)
        answer = self.call("GET", "/api/aes")
        self.assertEqual(answer.code, 200)
        self.assertEqual(
            answer.json["aes"],
            [
                {"aet": title, "host": "127.0.0.1", "port": 11113, **DEFAULTS}
                for title in ("CT", "WS2", "a")
            ],
        )
        self.assertEqual(self.call("HEAD", "/api/aes").body, b"")

    def test_methods(self) -> None:
        """405 for what there is not, with what there is."""
        for method, path, allowed in (
            ("POST", "/api/aes", "get, head"),
            ("DELETE", "/api/aes", "get, head"),
            ("POST", "/api/aes/WS1", "delete, get, head, put"),
            ("GET", "/api/aes/WS1/echo", "post"),
            ("PUT", "/api/aes/WS1/echo", "post"),
        ):
            answer = self.call(method, path, b"{}")
            self.assertEqual((answer.code, answer.headers["allow"].lower()),
                             (405, allowed))  # fmt: skip

    def test_noSuchCall(self) -> None:
        """404 for what is below one."""
        for path in ("WS1/", "WS1/ping", "WS1/echo/", "WS1/echo/x", "A/B"):
            self.assertIn("no such call", self.refused(404, "GET", f"/api/aes/{path}"))

    def test_databaseAway(self) -> None:
        """503 for each of them."""
        self.remoteAEs.away = True
        for arguments in (
            ("GET", "/api/aes"),
            ("GET", "/api/aes/WS1"),
            ("PUT", "/api/aes/WS1", PLACE),
            ("DELETE", "/api/aes/WS1"),
            ("POST", "/api/aes/WS1/echo"),
        ):
            self.assertIn("database", self.refused(503, *arguments))


class RemoteAETests(RemoteAEsTestCase):
    """C{/api/aes/TITLE}."""

    def test_put(self) -> None:
        """201 for a new one, 200 for one in the place of another."""
        answer = self.call("PUT", "/api/aes/WS1", PLACE)
        self.assertEqual((answer.code, answer.json), (201, WS1))
        answer = self.call("PUT", "/api/aes/WS1", b'{"port": 104, "host": "ws1"}')
        expected = {"aet": "WS1", "host": "ws1", "port": 104, **DEFAULTS}
        self.assertEqual((answer.code, answer.json), (200, expected))
        self.assertEqual(self.call("GET", "/api/aes/WS1").json, expected)
        self.assertEqual(self.call("HEAD", "/api/aes/WS1").code, 200)
        self.assertEqual(self.kept(), [expected])

    def test_permissions(self) -> None:
        """What it may do and how it shows who it is; a PUT replaces all of it."""
        digits = "0123456789abcdef" * 4
        for given, kept in (
            ({"permissions": ["worklist", "store"]},
             {"permissions": ["store", "worklist"]}),
            ({"permissions": []}, {"permissions": []}),
            ({"tls": True}, {"tls": True}),
            ({"certificate": digits.upper()}, {"certificate": digits}),
            ({"certificate": ":".join([digits[:2]] * 32)},
             {"certificate": digits[:2] * 32}),
            ({"permissions": ["query"], "tls": True, "certificate": digits},) * 2,
            (DEFAULTS, DEFAULTS),
        ):  # fmt: skip
            body = json.dumps({"host": "127.0.0.1", "port": 11113, **given}).encode()
            answer = self.call("PUT", "/api/aes/WS1", body)
            self.assertEqual(answer.json, {**WS1, **kept})
            self.assertEqual(self.call("GET", "/api/aes/WS1").json, {**WS1, **kept})
            self.assertEqual(self.kept(), [{**WS1, **kept}])

    def test_delete(self) -> None:
        """204 and no body; the connection is still of use."""
        self.call("PUT", "/api/aes/WS1", PLACE)
        head = b"DELETE /api/aes/WS1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        transport = self.connect(head)
        first, _, rest = transport.value().partition(b"\r\n\r\n")
        self.assertTrue(first.startswith(b"HTTP/1.1 204 "), first)
        self.assertEqual(rest, b"")
        for header in (b"content-length", b"content-type", b"transfer-encoding"):
            self.assertNotIn(header, first.lower())
        transport.clear()
        self.protocol.dataReceived(head)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 404 "))
        self.assertEqual(self.kept(), [])

    def test_unknown(self) -> None:
        """404, with its title."""
        for method in ("GET", "DELETE"):
            self.assertIn("'WS1'", self.refused(404, method, "/api/aes/WS1"))
        self.assertEqual(self.call("HEAD", "/api/aes/WS1").code, 404)
        self.assertIn("'WS1'", self.refused(404, "POST", "/api/aes/WS1/echo"))
        self.assertEqual(self.verification.asked, [])

    def test_encoded(self) -> None:
        """A title may have whatever PS3.5 lets it have; padding is no part."""
        for path, title in (
            ("A%20B", "A B"),
            ("A%2FB", "A/B"),
            ("%2f", "/"),
            ("100%25", "100%"),
            ("a%3Fb%23c", "a?b#c"),
            ("%20WS1%20", "WS1"),
            ("a+b", "a+b"),
            ("..", ".."),
            ("echo", "echo"),
        ):
            answer = self.call("PUT", f"/api/aes/{path}", PLACE)
            self.assertEqual((answer.code, answer.json["aet"]), (201, title))
            self.assertEqual(self.call("GET", f"/api/aes/{path}").code, 200)
            self.assertTrue(self.call("POST", f"/api/aes/{path}/echo").json["ok"])
            self.assertEqual(self.verification.asked[-1].title, title)
            self.assertEqual(self.call("DELETE", f"/api/aes/{path}").code, 204)

    def test_wrongTitles(self) -> None:
        """400 for whatever is done with what is no title."""
        for path in ("", "%20", "A" * 17, "A%5CB", "A%0AB", "%00", "%C3%84", "%ff",
                     "A" * 9000):  # fmt: skip
            for arguments in (
                ("GET", f"/api/aes/{path}"),
                ("DELETE", f"/api/aes/{path}"),
                ("PUT", f"/api/aes/{path}", PLACE),
                ("POST", f"/api/aes/{path}/echo"),
            ):
                error = self.refused(400, *arguments)
                self.assertIn("1 to 16 characters", error)
                self.assertLess(len(error), 200)
        self.assertEqual(self.kept(), [])

    def test_wrongBodies(self) -> None:
        """400 with the reason; nothing is kept."""
        for body, words in (
            (b"{", "not valid JSON"),
            (b"[]", "JSON object"),
            (b"{}", "host is missing"),
            (b'{"host": "ws1"}', "port is missing"),
            (b'{"port": 104}', "host is missing"),
            (b'{"host": "a b", "port": 104}', "host 'a b' is not right: give a host"),
            (b'{"host": "http://ws1", "port": 104}', "a host name or an IP address"),
            (b'{"host": "\\ud800", "port": 104}', "half of a surrogate pair"),
            (b'{"host": "", "port": 104}', "a host name or an IP address"),
            (b'{"host": null, "port": 104}', "a text"),
            (b'{"host": {}, "port": 104}', "a text"),
            (b'{"host": "ws1", "port": 0}', "port 0 is not right: give a whole"),
            (b'{"host": "ws1", "port": 65536}', "from 1 to 65535"),
            (b'{"host": "ws1", "port": "104"}', "from 1 to 65535"),
            (b'{"host": "ws1", "port": 104.0}', "from 1 to 65535"),
            (b'{"host": "ws1", "port": true}', "from 1 to 65535"),
            (b'{"host": "ws1", "port": NaN}', "NaN is no number"),
            (b'{"host": "ws1", "port": 104, "aet": "X"}', "unknown: aet"),
            (b'{"host": "ws1", "port": 104, "permissions": ["echo"]}', "'echo'"),
            (b'{"host": "ws1", "port": 104, "permissions": "store"}', "a list of"),
            (b'{"host": "ws1", "port": 104, "permissions": null}', "a list of"),
            (
                b'{"host": "ws1", "port": 104, "tls": 1}',
                "tls 1 is not right: give true",
            ),
            (b'{"host": "ws1", "port": 104, "certificate": "ab"}', "SHA-256"),
            (b'{"host": "ws1", "port": 104, "certificate": null}', "a text"),
            (b'{"host": "ws1", "port": 104, "b": 1, "a": 1}', "unknown: a, b"),
            (b'{"host": "' + b"h" * 200000 + b'", "port": 104}', "a host name"),
            (b'{"' + b"h" * 200000 + b'": 1}', "host is missing"),
            (b'{"host": "ws1", "port": ' + b"1" * 900 + b"}", "from 1 to 65535"),
        ):
            error = self.refused(400, "PUT", "/api/aes/WS1", body)
            self.assertIn(words, error)
            self.assertLess(len(error), 300)
        self.refused(415, "PUT", "/api/aes/WS1", PLACE, "text/plain")
        self.refused(413, "PUT", "/api/aes/WS1", b" " * (MAX_BODY + 1))
        self.assertEqual(self.kept(), [])


class EchoTests(RemoteAEsTestCase):
    """C{POST /api/aes/TITLE/echo}."""

    def setUp(self) -> None:
        super().setUp()
        verifyObject(IVerification, self.verification)
        self.call("PUT", "/api/aes/WS1", PLACE)

    def echo(self) -> dict[str, Any]:
        """The answer, which is 200 whatever becomes of the C-ECHO."""
        answer = self.call("POST", "/api/aes/WS1/echo")
        self.assertEqual(answer.code, 200)
        said: dict[str, Any] = answer.json
        return said

    def failed(self, error: Exception) -> str:
        """The reason of a C-ECHO that failed."""
        self.verification.result = fail(error)
        said = self.echo()
        self.assertEqual(list(said), ["ok", "error"])
        self.assertIs(said["ok"], False)
        return str(said["error"])

    def test_answered(self) -> None:
        """How long it took; the request needs no body."""
        self.assertEqual(self.echo(), {"ok": True, "milliseconds": 3.1})
        self.assertEqual(self.verification.asked, [RemoteAE("WS1", "127.0.0.1", 11113)])

    def test_notReached(self) -> None:
        """Where it was sought, and what to look at."""
        error = self.failed(ConnectionClosed("Connection refused."))
        self.assertIn("WS1 at 127.0.0.1:11113", error)
        self.assertIn("Connection refused; ", error)
        self.assertIn("firewall", error)

    def test_address(self) -> None:
        """An IPv6 address is told from its port."""
        self.call("PUT", "/api/aes/WS1", b'{"host": "::1", "port": 104}')
        self.assertIn("[::1]:104", self.failed(ConnectionClosed("refused")))

    def test_rejected(self) -> None:
        """PS3.8 Table 9-21, as a person needs it."""
        for numbers, words in (
            ((1, 1, 7), "is not called WS1"),
            ((1, 1, 3), "D360PACS"),
            ((2, 3, 1), "try again later"),
            ((2, 3, 2), "try again later"),
            ((1, 1, 2), "rejected 1,1,2"),
            ((1, 2, 1), "rejected 1,2,1"),
            ((9, 9, 9), "rejected 9,9,9"),
        ):
            error = self.failed(AssociationRejected(*numbers, "by the peer"))
            self.assertIn(words, error)
            self.assertIn("WS1 at 127.0.0.1:11113", error)

    def test_failure(self) -> None:
        """What it answered."""
        self.assertIn("status 0122", self.failed(DIMSEError(0x0122, "status 0122")))

    def test_clientGone(self) -> None:
        """Who is gone gets no answer, and leaves no error."""
        self.verification.result = waiter = Deferred()
        transport = self.connect(
            b"POST /api/aes/WS1/echo HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        self.protocol.connectionLost(Failure(ConnectionLost()))
        waiter.errback(ConnectionClosed("refused"))
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])


class TokenTests(RemoteAEsTestCase):
    """C{web.token}."""

    token = "long secret"

    def test_missing(self) -> None:
        """401 without it, for each of them."""
        for arguments in (
            ("GET", "/api/aes"),
            ("GET", "/api/aes/WS1"),
            ("PUT", "/api/aes/WS1", PLACE),
            ("DELETE", "/api/aes/WS1"),
            ("POST", "/api/aes/WS1/echo"),
        ):
            self.refused(401, *arguments)
        answer = self.call("GET", "/api/aes", Authorization="Bearer long secret")
        self.assertEqual(json.loads(answer.body), {"aes": []})
