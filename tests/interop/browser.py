"""
A real headless Chromium that looks at the page of a server, driven by
selenium. Where it is missing, that is an error and no skip.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.interop.running import PATIENCE

T = TypeVar("T")

#: Nothing is fetched but what the page asks for.
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--lang=en-GB",
    "--window-size=1280,900",
)


def program(name: str) -> str:
    """The path of a program of Debian's Chromium."""
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(
            f"{name} is missing: apt-get install chromium chromium-driver"
        )
    return path


class Browser:
    """
    One browser with one tab.

    @ivar statuses: of HTTP answers that are no error here; Chromium writes
        each one of 400 and above to the console.
    """

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = program("chromium")
        for option in _OPTIONS:
            options.add_argument(option)
        options.set_capability(
            "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
        )
        # With the driver's path, selenium looks for none and fetches none.
        os.environ["SE_OFFLINE"] = "true"
        service = Service(program("chromedriver"))
        self.driver = webdriver.Chrome(options, service)
        self.driver.set_page_load_timeout(PATIENCE)
        self.web = ""
        self.statuses: set[int] = set()

    # --- where it looks, and as what

    def visit(self, web: str, place: str = "#/") -> None:
        """Open the page anew, as in a tab of its own."""
        self.web = web
        self.statuses = set()
        self.driver.get("about:blank")
        self.problems()
        self.appear()
        self.driver.get(f"{web}/{place}")

    def appear(
        self, width: int = 1280, height: int = 900, scheme: str = "light"
    ) -> None:
        """The size of the window, and light or dark."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        # Without motion, as colours that are on their way are of no scheme.
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.command("Emulation.setEmulatedMedia", features=features)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    @property
    def place(self) -> str:
        """The part of the address behind the C{#}."""
        return str(self.run("return location.hash"))

    def picture(self, path: Path) -> None:
        """The whole page, also what is below the window."""
        width, height = self.run(
            "return [innerWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.command(
            "Page.captureScreenshot", captureBeyondViewport=True, clip=clip
        )
        path.write_bytes(base64.b64decode(taken["data"]))

    # --- what it sees

    def until(self, what: str, found: Callable[[], T]) -> T:
        """
        Wait until something is there.

        @raise AssertionError: it never was; with what there is instead.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                result = found()
            except (NoSuchElementException, StaleElementReferenceException):
                result = None  # type: ignore[assignment]
            if result:
                return result
            if time.monotonic() > deadline:
                text = self.run("return document.body.innerText")
                raise AssertionError(f"no {what} at {self.place} in:\n{text}")
            time.sleep(0.03)

    def all(self, selector: str) -> list[WebElement]:
        """All visible elements."""
        found = self.run(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter((one) => one.checkVisibility())",
            selector,
        )
        return list(found)

    def one(self, selector: str) -> WebElement:
        """The first such element that is visible, once it is."""

        def visible() -> WebElement | None:
            found = self.all(selector)
            return found[0] if found else None

        found = self.until(selector, visible)
        assert found is not None
        return found

    def sees(self, *texts: str, within: str = "body") -> None:
        """Wait until all texts are there to read."""
        for text in texts:
            self.until(
                repr(text),
                lambda text=text: (
                    text in self.driver.find_element(By.CSS_SELECTOR, within).text
                ),
            )

    def gone(self, selector: str) -> None:
        """Wait until there is no such element."""
        self.until(f"end of {selector}", lambda: not self.all(selector))

    def column(self, name: str) -> list[str]:
        """The cells of a column of the table that is shown."""
        cells = self.run(
            "return [...document.querySelectorAll('main [data-name]')]"
            ".filter(e => e.dataset.name === arguments[0]).map(e => e.innerText)",
            name,
        )
        return [str(cell) for cell in cells]

    # --- what it does

    def press(self, name: str, within: str = "body") -> None:
        """Press the button or follow the link of a name."""

        def press() -> bool:
            found = self.run(
                "const [name, within] = arguments;"
                "return [...document.querySelectorAll(`${within} :is(button, a)`)]"
                ".find((one) => one.checkVisibility() && !one.disabled &&"
                " (one.ariaLabel ?? one.innerText.trim()) === name)",
                name,
                within,
            )
            if found:
                found.click()
            return bool(found)

        # What is drawn anew meanwhile is looked for again.
        self.until(f"button or link {name!r}", press)

    def fill(self, selector: str, text: str) -> None:
        """Write into a control; a date is written 2026-01-31, a time 08:30."""

        def fill() -> bool:
            control = self.one(selector)
            if control.tag_name == "select":
                self.run(
                    "arguments[0].value = arguments[1];"
                    "arguments[0].dispatchEvent(new Event('change', {bubbles: true}))",
                    control,
                    text,
                )
            elif control.get_attribute("type") in ("date", "time"):
                self.run("arguments[0].value = arguments[1]", control, text)
            else:
                control.clear()
                control.send_keys(text)
            return True

        self.until(selector, fill)

    def keys(self, *keys: str) -> None:
        """Strike keys, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        """What a screen reader would call the focused element."""
        return self.driver.switch_to.active_element.accessible_name or ""

    def tabTo(self, name: str) -> None:
        """Strike Tab until the focus is on what has a name."""
        for _ in range(60):
            if self.focused() == name:
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"Tab does not lead to {name!r}")

    # --- what went wrong

    def nudge(self) -> None:
        """Have what is live be asked for now, as when a tab is looked at again."""
        self.run("document.dispatchEvent(new Event('visibilitychange'))")

    def problems(self) -> list[str]:
        """
        Errors of the console, also those of the Content Security Policy, and
        requests to other hosts than the server's, since it was last asked.
        """
        expected = [f"status of {status} " for status in self.statuses]
        found = [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if not any(text in entry["message"] for text in expected)
        ]
        host = urlsplit(self.web).netloc
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                # Those without a host are Chromium's own pictures of controls.
                if urlsplit(url).netloc not in ("", host):
                    found.append(f"request to {url}")
        return found


_shared: list[Browser] = []


def sharedBrowser() -> Browser:
    """One browser for all tests, ended at the end."""
    if not _shared:
        browser = Browser()
        atexit.register(browser.driver.quit)
        _shared.append(browser)
    return _shared[0]
