"""Tests for L{d360.admin.origin}: through a real Site, without a socket."""

from __future__ import annotations

from tests.admin.test_site import SiteTestCase, readAnswer


class OriginTestCase(SiteTestCase):
    """A request as a browser sends it."""

    def send(self, method: str, host: str | None, **headers: str) -> int:
        """Its status."""
        lines = [f"{method} /api/reindex HTTP/1.1", "Connection: close"]
        if host is not None:
            lines.append(f"Host: {host}")
        lines += [f"{name.replace('_', '-')}: {v}" for name, v in headers.items()]
        data = "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()
        answer = readAnswer(self.connect(data).value())
        if answer.code >= 400:
            self.assertEqual(list(answer.json), ["error"])
        return answer.code


class OriginTests(OriginTestCase):
    """A page of another site changes nothing."""

    def test_same(self) -> None:
        """Our own page does, whatever name it was opened by."""
        for host, origin in (
            ("localhost:8360", "http://localhost:8360"),
            ("127.0.0.1:8360", "http://127.0.0.1:8360"),
            ("[::1]:8360", "http://[::1]:8360"),
            ("LOCALHOST", "http://localhost"),
            ("localhost:80", "http://localhost"),
            # Behind a proxy with TLS.
            ("localhost", "https://localhost"),
            ("localhost:443", "https://localhost"),
        ):
            for site in ("same-origin", "none"):
                code = self.send("POST", host, Origin=origin, Sec_Fetch_Site=site)
                self.assertEqual(code, 202, (host, origin))

    def test_other(self) -> None:
        """Neither another host nor another port, nor a page of no origin."""
        for origin in (
            "http://evil.example",
            "http://localhost",
            "http://localhost:8361",
            "http://127.0.0.1:8360",
            "http://localhost:8360.evil.example",
            "null",
            "",
            "localhost:8360",
            "file://localhost:8360",
            "http://localhost:8360/",
            "http://user@localhost:8360",
            "é",
        ):
            for method in ("POST", "DELETE"):
                code = self.send(method, "localhost:8360", Origin=origin)
                self.assertEqual(code, 403, origin)
        for site in ("cross-site", "same-site", "x"):
            code = self.send("POST", "localhost:8360", Sec_Fetch_Site=site)
            self.assertEqual(code, 403)
        self.assertEqual(self.reindex.calls, [])

    def test_program(self) -> None:
        """What is no browser says nothing of the kind."""
        self.assertEqual(self.send("POST", "localhost"), 202)
        self.assertEqual(self.send("POST", None), 202)

    def test_reading(self) -> None:
        """A browser keeps what another site's page asked for to itself."""
        code = self.send(
            "GET",
            "localhost",
            Origin="http://evil.example",
            Sec_Fetch_Site="cross-site",
        )
        self.assertEqual(code, 200)


class HostTests(OriginTestCase):
    """
    Without a token, a name that somebody made to mean 127.0.0.1 is refused,
    also for reading.
    """

    def test_ours(self) -> None:
        """Addresses, and localhost."""
        for host in ("127.0.0.1", "127.0.0.2:1", "[::1]", "[::1]:8360", "localhost:9"):
            self.assertEqual(self.send("GET", host), 200, host)

    def test_others(self) -> None:
        """Names, and what is none."""
        for host in (
            "evil.example",
            "evil.example:8360",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "[::1",
            ":8360",
            "a b",
            "é",
        ):
            for method in ("GET", "POST"):
                self.assertEqual(self.send(method, host), 403, host)
        code = self.send("POST", "evil.example", Origin="http://evil.example")
        self.assertEqual(code, 403)
        self.assertEqual(self.reindex.calls, [])


class TokenTests(OriginTestCase):
    """With a token, it is that which admits."""

    token = "secret"

    def test_name(self) -> None:
        """A name is as good as an address; the origin must be the same yet."""
        bearer = "Bearer secret"
        self.assertEqual(self.send("GET", "pacs.example", Authorization=bearer), 200)
        for origin, code in (("https://pacs.example", 202), ("https://x", 403)):
            self.assertEqual(
                self.send("POST", "pacs.example", Authorization=bearer, Origin=origin),
                code,
            )
        self.assertEqual(self.send("GET", "pacs.example"), 401)
