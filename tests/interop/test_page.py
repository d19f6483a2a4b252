"""
The page for people, in a real Chromium, of a running server: all of it but the
studies and the worklist.
"""

from __future__ import annotations

import time
from pathlib import Path

from selenium.webdriver.common.keys import Keys

from tests.interop.browser import sharedBrowser
from tests.interop.findset import many, send
from tests.interop.pagecase import ITEM, PageTestCase
from tests.interop.running import HOST, RunningServer
from tests.interop.tls import TLSServer
from tests.interop.wire import ECHO, IMPLICIT, Peer, echo

#: The texts whose contrast with what is behind them is too small.
_CONTRAST = """
const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) =>
  0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const read = (text) => text.match(/[\\d.]+/g).map(Number);
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some(
    (node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest(".unseen, .skip, svg")
      || element.matches("option, noscript, :disabled")) continue;
  let behind = element, ground = [0, 0, 0, 0];
  while (behind && (ground[3] ?? 1) === 0) {
    ground = read(getComputedStyle(behind).backgroundColor);
    behind = behind.parentElement;
  }
  const pair = [luminance(read(getComputedStyle(element).color)), luminance(ground)]
    .sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${element.textContent}`);
}
return found;
"""


class OverviewTests(PageTestCase):
    """What the server does now, and did."""

    def test_now(self) -> None:
        """Counts, disk, database, plots with their text, settings."""
        self.visit("#/")
        status = self.server.get("/api/status")
        self.browser.sees(
            "Studies",
            str(status["counts"]["studies"]),
            "Available",
            f"D360 {status['version']}",
            "Disk free",
            "Instances stored per minute",
            "Queries per minute",
        )
        self.browser.until("a bar", lambda: self.browser.all("svg.plot .bar"))
        self.browser.one("figure summary").click()
        rows = self.browser.one("figure details tbody").text
        self.assertRegex(rows, r"\d\d:\d\d \d+")

    def test_plot(self) -> None:
        """A plot is read with the arrow keys and with a pointer."""
        self.visit("#/")
        plot = self.browser.one("svg.plot")
        self.browser.until("bars", lambda: self.browser.all("svg.plot .bar"))
        self.browser.run("arguments[0].focus()", plot)
        first = plot.get_attribute("aria-valuetext")
        self.assertRegex(str(first), r"^\d\d:\d\d: [\d,]+$")
        self.browser.keys(Keys.HOME)
        text = str(plot.get_attribute("aria-valuetext"))
        self.assertRegex(text, r"^(\S+ )?\d\d:\d\d: [\d,]+$")
        self.assertEqual(self.browser.one("figure .readout").text, text)
        self.assertEqual(plot.get_attribute("aria-valuenow"), "0")
        self.browser.fill("#hours", "24")
        self.browser.sees("Instances stored per 15 minutes")

    def test_live(self) -> None:
        """An association is there while it lives; an error when it was logged."""
        self.visit("#/")
        self.browser.sees("Nobody is connected.")
        with Peer(self.server) as peer:
            peer.associate([(ECHO, [IMPLICIT])], calling="LOOKER")
            peer.send(echo(1, 1))
            peer.response()
            self.browser.nudge()
            self.browser.sees("LOOKER", HOST)
            self.keepPicture("live")
            peer.send(b"\x09\x00\x00\x00\x00\x00")
        self.visit("#/")
        self.browser.sees("Nobody is connected.", "warning")

    def test_files(self) -> None:
        """Whether they were looked at, and what came of it."""
        self.visit("#/")
        self.browser.sees("Files", "d360ctl verify")
        server = RunningServer(Path(self.mktemp()).absolute())
        self.addCleanup(server.stop)
        server.start()
        self.assertEqual(set(send(server, many("PAGE", 0, 3))), {0})
        self.assertEqual(server.ctl("verify").status, 0)
        self.browser.visit(server.web)
        self.browser.sees("All intact", "3 of 3 files")
        path = next(iter(server.archived()))
        path.write_bytes(path.read_bytes()[:-1])
        self.assertEqual(server.ctl("verify").status, 1)
        self.browser.nudge()
        self.browser.sees("1 damaged", path.name)
        self.keepPicture("files")

    def test_away(self) -> None:
        """What does not answer is said in words, and what was there stays."""
        self.visit("#/")
        self.browser.sees("Available")
        self.browser.command("Network.enable")
        self.browser.command(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=0,
            uploadThroughput=0,
        )
        try:
            self.browser.nudge()
            self.browser.sees("The server does not answer.", "See that D360 runs")
            self.browser.sees("As of", "Available")
            self.keepPicture("away")
        finally:
            self.browser.command(
                "Network.emulateNetworkConditions",
                offline=False,
                latency=0,
                downloadThroughput=-1,
                uploadThroughput=-1,
            )
        self.browser.press("Try again")
        self.browser.gone(".problem")
        self.assertTrue(all("ERR_INTERNET" in text for text in self.browser.problems()))

    def test_hidden(self) -> None:
        """Nothing is asked while nobody looks."""
        self.visit("#/")
        self.browser.sees("Available")
        hide = (
            "Object.defineProperty(document, 'hidden', "
            "{configurable: true, get: () => arguments0});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        self.browser.run(hide.replace("arguments0", "true"))
        count = "return performance.getEntriesByType('resource').length"
        # What was asked before may still be answered.
        before = -1
        while before != self.browser.run(count):
            before = self.browser.run(count)
            time.sleep(1)
        time.sleep(5.5)
        self.assertEqual(self.browser.run(count), before)
        self.browser.run(hide.replace("arguments0", "false"))
        self.browser.until("more calls", lambda: self.browser.run(count) > before)

    def test_settings(self) -> None:
        self.visit("#/settings")
        self.browser.sees("dicom.ae_title", "D360PACS", "web.token")


class RemoteAEsTests(PageTestCase):
    """The remote AEs."""

    def test_keyboard(self) -> None:
        """Added, tested and removed with the keyboard alone."""
        browser = self.browser
        self.visit("#/")
        browser.sees("Available")
        browser.keys(Keys.TAB)
        self.assertEqual(browser.focused(), "Skip to the content")
        self.assertGreaterEqual(
            browser.run("return document.activeElement.getBoundingClientRect().top"), 0
        )
        browser.tabTo("Remote AEs")
        outline = browser.run(
            "const style = getComputedStyle(document.activeElement);"
            "return [style.outlineStyle, parseFloat(style.outlineWidth)]"
        )
        self.assertEqual(outline[0], "solid")
        self.assertGreaterEqual(outline[1], 2)
        browser.keys(Keys.ENTER)
        browser.sees("Add a remote AE")
        self.assertEqual(browser.run("return document.activeElement.id"), "main")
        browser.tabTo("Add a remote AE")
        browser.keys(Keys.ENTER)
        self.assertEqual(browser.focused(), "AE title")
        browser.keys("ITSELF", Keys.TAB, HOST, Keys.TAB)
        self.assertEqual(browser.focused(), "Port")
        browser.keys(Keys.CONTROL, "a", Keys.NULL, str(self.server.port), Keys.ENTER)
        browser.sees("ITSELF is added.")
        self.addCleanup(self.forget, "ITSELF")
        browser.tabTo("Echo ITSELF")
        browser.keys(Keys.ENTER)
        browser.sees("it is not called ITSELF; correct the AE title")
        self.assertEqual(browser.focused(), "Echo ITSELF")
        browser.tabTo("Remove ITSELF")
        browser.keys(Keys.SPACE)
        browser.sees("will no longer know ITSELF", within="dialog")
        self.assertEqual(browser.focused(), "Cancel")
        browser.keys(Keys.ESCAPE)
        browser.gone("dialog")
        self.assertEqual(browser.focused(), "Remove ITSELF")
        browser.keys(Keys.ENTER, Keys.TAB, Keys.ENTER)
        browser.sees("ITSELF is removed.")
        browser.until("focus", lambda: browser.focused() == "Add a remote AE")
        self.assertEqual(self.server.get("/api/aes")["aes"], [])

    def test_echo(self) -> None:
        """How long the answer takes."""
        self.receiver("WS1")
        self.visit("#/aes")
        self.browser.press("Echo WS1")
        self.browser.until(
            "milliseconds",
            lambda: "Answers within" in self.browser.column("Answer")[0],
        )
        self.assertRegex(
            self.browser.column("Answer")[0], r"^Answers within [\d.]+ ms$"
        )
        self.keepPicture("answered")

    def test_edit(self) -> None:
        self.receiver("WS1")
        self.visit("#/aes")
        self.browser.press("Edit WS1")
        self.assertTrue(self.browser.one("#aet").get_attribute("readonly"))
        self.browser.fill("#host", "no host!")
        self.browser.statuses = {400}
        self.browser.press("Save")
        self.browser.sees("a host name or an IP address", within="dialog")
        self.browser.fill("#host", "ws1.example.org")
        self.browser.press("Save")
        self.browser.sees("WS1 is saved.")
        self.browser.sees("ws1.example.org", within="main table")

    def test_permissions(self) -> None:
        """All of them at first; what is unticked it may not do."""
        browser, digits = self.browser, "0123456789ABCDEF" * 4
        self.visit("#/aes")
        browser.press("Add a remote AE")
        browser.fill("#aet", "CT1")
        browser.fill("#host", "ct1.example.org")
        browser.sees("When it calls D360, it may", within="dialog")
        for name in ("query", "retrieve"):
            box = browser.one(f"#may-{name}")
            self.assertEqual(box.accessible_name, name.capitalize())
            self.assertTrue(box.is_selected())
            box.click()
        for width, scheme in ((1280, "light"), (360, "dark")):
            browser.appear(width, 800, scheme)
            self.keepPicture(f"{width}-{scheme}")
            self.assertEqual(browser.run(_CONTRAST), [], scheme)
        browser.appear(1280, 800, "light")
        self.addCleanup(self.forget, "CT1")
        browser.press("Add", "dialog")
        browser.sees("CT1 is added.")
        browser.sees("Store, Worklist", within="main table")
        (kept,) = self.server.get("/api/aes")["aes"]
        self.assertEqual(kept["permissions"], ["store", "worklist"])
        self.assertEqual((kept["tls"], kept["certificate"]), (False, ""))

        browser.press("Edit CT1")
        for name in ("store", "worklist"):
            self.assertTrue(browser.one(f"#may-{name}").is_selected())
            browser.one(f"#may-{name}").click()
        self.assertFalse(browser.one("#may-query").is_selected())
        browser.one("#tls").click()
        browser.fill("#certificate", "no fingerprint")
        browser.statuses = {400}
        browser.press("Save")
        browser.sees("SHA-256 fingerprint, 64 hexadecimal", within="dialog .problem")
        browser.fill("#certificate", digits)
        browser.press("Save")
        browser.sees("CT1 is saved.")
        browser.sees("Nothing", "TLS, certificate", within="main table")
        (kept,) = self.server.get("/api/aes")["aes"]
        self.assertEqual(kept["permissions"], [])
        self.assertEqual((kept["tls"], kept["certificate"]), (True, digits.lower()))

        browser.press("Edit CT1")
        browser.fill("#host", "ct2.example.org")
        browser.press("Save")
        browser.sees("ct2.example.org", within="main table")
        (again,) = self.server.get("/api/aes")["aes"]
        self.assertEqual(again, {**kept, "host": "ct2.example.org"})

    def test_twice(self) -> None:
        """One that is added replaces none."""
        self.receiver("WS1")
        self.visit("#/aes")
        self.browser.press("Add a remote AE")
        self.browser.fill("#aet", "WS1")
        self.browser.fill("#host", "elsewhere")
        self.browser.press("Add", "dialog")
        self.browser.sees("WS1 is known already", "Edit that one", within="dialog")


class LowDiskTests(PageTestCase):
    """Less is free than C{min_free_space}: who looks sees it."""

    def setUp(self) -> None:
        self.browser = sharedBrowser()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        path = folder / "d360.toml"
        path.write_text("min_free_space = 1073741824\n")
        self.server = RunningServer(folder, f"--config={path}")
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_low(self) -> None:
        """Also where it is so from the start, and in readable colours."""
        self.visit("#/")
        self.browser.sees("too little, nothing is stored below")
        self.assertEqual(self.browser.run(_CONTRAST), [])
        self.browser.sees("min_free_space is 1073741824: storing is refused")


class TokenTests(PageTestCase):
    """With C{web.token}: it is asked for, kept for the tab, and sent."""

    def setUp(self) -> None:
        self.browser = sharedBrowser()
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        path = folder / "d360.toml"
        path.write_text('[web]\ntoken = "long secret"\n')
        self.server = RunningServer(folder, f"--config={path}")
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_token(self) -> None:
        self.visit("#/settings")
        self.browser.statuses = {401}
        self.browser.sees("This server asks for a token.")
        self.assertEqual(self.browser.focused(), "Token")
        self.browser.fill("#token", "short")
        self.browser.keys(Keys.ENTER)
        self.browser.sees("This is not the token of this server.")
        self.keepPicture("asked")
        self.browser.keys(Keys.ESCAPE)
        self.browser.sees("Give the token", "web.token", "Try again")
        self.browser.press("Try again")
        self.browser.fill("#token", "long secret")
        self.browser.keys(Keys.ENTER)
        self.browser.sees("web.token", "set, not shown")
        self.browser.driver.refresh()
        self.browser.press("Overview")
        self.browser.sees("Available")
        self.assertEqual(self.browser.all("dialog"), [])
        self.assertEqual(self.browser.run("return localStorage.length"), 0)
        self.assertNotIn("secret", self.browser.driver.page_source)


class CertificateTests(PageTestCase):
    """A server that shows a certificate."""

    def setUp(self) -> None:
        self.browser = sharedBrowser()
        self.server = TLSServer(Path(self.mktemp()).absolute())
        self.server.issue("pacs", days=20.5)
        self.addCleanup(self.server.stop)
        self.server.start()

    def test_soon(self) -> None:
        """How long it is valid is seen, and what is near its end stands out."""
        self.visit("#/")
        self.browser.sees("Certificate", "20 days", "DICOM, CN=pacs, until")
        self.assertEqual(self.browser.one(".tile .state.bad").text, "20 days")


class AppearanceTests(PageTestCase):
    """Each view, on a phone and in the dark, for eyes and for screen readers."""

    def places(self) -> dict[str, str]:
        """Where the views are."""
        uid = self.study("PatientName=Rossi*")
        series = self.server.get(f"/api/studies/{uid}")["series"][0]
        return {
            "overview": "#/",
            "studies": "#/studies?PatientName=R",
            "study": f"#/studies/{uid}",
            "series": f"#/studies/{uid}/series/{series['SeriesInstanceUID']}",
            "worklist": "#/worklist",
            "item": "#/worklist/new",
            "aes": "#/aes",
            "commitments": "#/commitments",
            "settings": "#/settings",
        }

    def test_views(self) -> None:
        """
        Nothing is cut off at 360 pixels; text has a contrast of 4.5 at least
        (WCAG 2.2, 1.4.3); each control has a name (4.1.2); no view without a
        heading of its own and a title.
        """
        self.call("PUT", "/api/aes/WS1", {"host": HOST, "port": 104})
        self.addCleanup(self.forget, "WS1")
        self.call("POST", "/api/worklist", ITEM)
        titles = set()
        for name, place in self.places().items():
            self.visit(place)
            for width, scheme in ((1280, "light"), (1280, "dark"), (360, "light")):
                self.browser.appear(width, 800, scheme)
                self.browser.one("h1")
                self.browser.gone(".loading")
                self.keepPicture(f"{name}-{width}-{scheme}")
                self.assertEqual(self.browser.run(_CONTRAST), [], f"{name} {scheme}")
                wide = self.browser.run("return document.documentElement.scrollWidth")
                self.assertLessEqual(wide, width, name)
            for control in self.browser.all("main :is(input, select, button, svg)"):
                self.assertTrue(control.accessible_name, f"{name}: {control.id}")
            self.assertEqual(len(self.browser.all("h1")), 1)
            titles.add(self.browser.driver.title)
        self.assertEqual(len(titles), 9)

    def test_noView(self) -> None:
        self.visit("#/nothing")
        self.browser.sees("There is no such view")
        self.browser.press("Go to the overview")
        self.browser.sees("Available")
