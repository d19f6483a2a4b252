"""Tests for L{d360.admin.static}: the page's files through a real Site."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import resources

from tests.admin.test_site import Answer, SiteTestCase

FILES = {
    file.name: file.read_text("utf-8")
    for file in resources.files("d360.admin.page").iterdir()
    if file.name.endswith((".css", ".html", ".js", ".svg"))
}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}


class Markup(HTMLParser):
    """What an HTML file has in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style"):
            self.inline += data


class ServedTests(SiteTestCase):
    """The files, at the root of the second port."""

    def page(self, path: str, **headers: str) -> Answer:
        """A file that is there."""
        answer = self.call("GET", path, **headers)
        self.assertEqual(answer.code, 200, path)
        return answer

    def test_index(self) -> None:
        """C{/} is the page."""
        answer = self.page("/")
        self.assertEqual(answer.body.decode(), FILES["index.html"])
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")

    def test_types(self) -> None:
        """Each file with its content type."""
        for path, kind in (
            ("/style.css", "text/css; charset=utf-8"),
            ("/app.js", "text/javascript; charset=utf-8"),
            ("/icon.svg", "image/svg+xml"),
        ):
            answer = self.page(path)
            self.assertEqual(answer.headers["content-type"], kind)
            self.assertEqual(answer.body.decode(), FILES[path[1:]])

    def test_headers(self) -> None:
        """Nothing from elsewhere, nothing inline, in nobody's frame."""
        for path in ("/", "/app.js", "/style.css", "/icon.svg"):
            headers = self.page(path).headers
            policy = headers["content-security-policy"]
            self.assertIn("default-src 'self'", policy)
            self.assertIn("frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["x-frame-options"], "deny")
            self.assertEqual(headers["referrer-policy"], "same-origin")

    def test_cached(self) -> None:
        """304 for what the browser has, by its ETag (RFC 9110 13.1.2)."""
        tags = set()
        for path in ("/", "/app.js", "/style.css"):
            headers = self.page(path).headers
            self.assertEqual(headers["cache-control"], "no-cache")
            tags.add(headers["etag"])
            again = self.call("GET", path, **{"If-None-Match": headers["etag"]})
            self.assertEqual((again.code, again.body), (304, b""))
            self.assertIn("content-security-policy", again.headers)
            self.page(path, **{"If-None-Match": '"another"'})
        self.assertEqual(len(tags), 3)

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        answer = self.call("HEAD", "/")
        self.assertEqual((answer.code, answer.body), (200, b""))
        size = len(FILES["index.html"].encode())
        self.assertEqual(answer.headers["content-length"], str(size))

    def test_methods(self) -> None:
        """405 for what would change something."""
        for method in ("POST", "PUT", "DELETE"):
            answer = self.call(method, "/app.js", b"{}")
            self.assertEqual(answer.code, 405)
            self.assertIn("not possible", answer.json["error"])
            self.assertEqual(answer.headers["allow"].lower(), "get, head")

    def test_unknown(self) -> None:
        """404 in JSON for all else, also for what is beside the files."""
        for path in (
            "/__init__.py",
            "/index.html",
            "/app.js/",
            "/app.js/x",
            "/../site.py",
            "/%2e%2e/site.py",
            "/..%2fsite.py",
            "/page/app.js",
            "/favicon.ico",
            "//app.js",
        ):
            self.assertIn("no such call", self.refused(404, "GET", path))


class TokenTests(SiteTestCase):
    """With C{web.token}."""

    token = "long secret"

    def test_page(self) -> None:
        """The page is served without, as it has to ask for it."""
        self.assertEqual(self.call("GET", "/").code, 200)
        self.assertEqual(self.call("GET", "/app.js").code, 200)
        self.refused(401, "GET", "/api/status")


class FilesTests(SiteTestCase):
    """What is in the files."""

    def test_references(self) -> None:
        """All that is referred to is served from here."""
        names = set()
        for tag, attributes in Markup(FILES["index.html"]).elements:
            for name in ("src", "href"):
                value = attributes.get(name)
                if value and not value.startswith("#"):
                    names.add(value)
            self.assertFalse(tag == "a" and attributes["href"] == "#")
        for text in SCRIPTS.values():
            for name in re.findall(r'from "([^"]+)";', text):
                self.assertTrue(name.startswith("./"), name)
                names.add(name[2:])
        self.assertLessEqual(names, set(FILES))
        # Each module is used by some other, or by the page.
        self.assertLessEqual(set(SCRIPTS), names)
        for name in names:
            self.assertEqual(self.call("GET", f"/{name}").code, 200)

    def test_nothingElsewhere(self) -> None:
        """No address of another host, but for names of XML."""
        for name, text in FILES.items():
            for found in re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", text):
                self.assertEqual(found, "http://www.w3.org/2000/svg", name)

    def test_nothingInline(self) -> None:
        """No inline script or style, which the policy would refuse."""
        markup = Markup(FILES["index.html"])
        self.assertEqual(markup.inline.strip(), "")
        for tag, attributes in markup.elements:
            self.assertNotEqual(tag, "style")
            self.assertNotIn("style", attributes)
            for name in attributes:
                self.assertFalse(name.startswith("on"), name)

    def test_textOnly(self) -> None:
        """Nothing that reads text as HTML or as a program is ever called."""
        forbidden = re.compile(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|"
            r"new Function|DOMParser|setHTML|createContextualFragment|srcdoc|"
            r"javascript:|dangerously"
        )
        for name, text in SCRIPTS.items():
            self.assertIsNone(forbidden.search(text), name)

    def test_sizes(self) -> None:
        """Modules that are read, and no bundle."""
        for name, text in SCRIPTS.items():
            self.assertLess(len(text.splitlines()), 300, name)
