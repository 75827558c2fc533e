"""Opens a page in headless Chromium and says what happened: errors, requests, charts, widths, pictures.

The browser is spoken to through a pair of pipes (Chrome DevTools protocol, `--remote-debugging-pipe`: one JSON object
a message, ended by a zero byte), so that no library and no port is needed. Its network is switched off.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SKIP_REASON = "neither chromium nor google-chrome is installed"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
]
# The browser reads commands from descriptor 3 and answers on 4.
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
PATIENCE = 60.0


@dataclass
class PageResult:
    """What one page did in the browser.

    errors: messages of the console, exceptions and blocked requests.
    requests: addresses asked for, but for the page itself and data inside it.
    plots: what the page says of its charts, "drawn/total".
    charts, drawings: the places for charts, and those of them that hold an SVG.
    hacked: whether a script out of a text has run.
    page_width, window_width: the page scrolls sideways where the first is larger.
    background, text_color: computed colours of the body and of the first chart's letters.
    text: the visible text.
    opened: the text of what has popped up.
    picture: a PNG of the whole page, where it was asked for.
    """

    plots: str = ""
    charts: int = 0
    drawings: int = 0
    hacked: bool = False
    page_width: int = 0
    window_width: int = 0
    background: str = ""
    text_color: str = ""
    text: str = ""
    opened: str = ""
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    picture: bytes = b""


LOOK = """({
  plots: document.body.dataset.plots,
  charts: document.querySelectorAll(".plot").length,
  drawings: [...document.querySelectorAll(".plot")].filter((place) => place.querySelector("svg")).length,
  hacked: "hacked" in window,
  page_width: document.scrollingElement.scrollWidth,
  window_width: innerWidth,
  background: getComputedStyle(document.body).backgroundColor,
  text_color: getComputedStyle(document.querySelector(".plot svg text") || document.body).fill,
  text: document.body.innerText,
  opened: document.querySelector("[popover]:popover-open")?.innerText || "",
})"""


def open_page(
    path: Path, *, width: int = 1200, dark: bool = False, picture: bool = False, press: str = ""
) -> PageResult:
    """Open `path` in a window of `width` pixels, wait for its charts, press the first of what `press` selects, look."""
    with _chromium() as browser:
        browser.emulate(width, dark)
        browser.open(path)
        browser.wait_for("document.body && document.body.dataset.plots")
        if press:
            browser.evaluate(f"document.querySelector({json.dumps(press)}).click()")
        return browser.look(path, picture)


def flip_scheme(path: Path) -> tuple[PageResult, PageResult]:
    """Open `path` in the light scheme, then turn the open page dark."""
    with _chromium() as browser:
        browser.emulate(800, False)
        browser.open(path)
        browser.wait_for("document.body && document.body.dataset.plots")
        light = browser.look(path, False)
        browser.evaluate("delete document.body.dataset.plots")
        browser.emulate(800, True)
        browser.wait_for("document.body.dataset.plots")
        return light, browser.look(path, False)


def print_page(path: Path) -> bytes:
    """`path` as a PDF, printed from the dark scheme."""
    with _chromium() as browser:
        browser.emulate(1200, True)
        browser.open(path)
        browser.wait_for("document.body && document.body.dataset.plots")
        return base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])


class Browser:
    """One tab, and what it reported."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.buffer = b""
        self.sent = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Send one command and wait for its answer."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") != self.sent:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def emulate(self, width: int, dark: bool) -> None:
        """Give the tab a width and a colour scheme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def open(self, path: Path) -> None:
        """Go to a file."""
        self.call("Page.navigate", url=path.resolve().as_uri())

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"not true after {PATIENCE:.0f} s: {expression}; events: {self.errors()}")
            time.sleep(0.05)

    def look(self, path: Path, picture: bool) -> PageResult:
        """What the page is like now."""
        seen = self.evaluate(LOOK)
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"] if picture else ""
        own = path.resolve().as_uri()
        asked = [event["params"]["request"]["url"] for event in self._named("Network.requestWillBeSent")]
        foreign = [url for url in asked if url != own and not url.startswith(("data:", "about:"))]
        return PageResult(**seen, errors=self.errors(), requests=foreign, picture=base64.b64decode(image))

    def errors(self) -> list[str]:
        """Everything that a developer would see in red."""
        thrown = [event["params"]["exceptionDetails"] for event in self._named("Runtime.exceptionThrown")]
        logged = [event["params"]["entry"] for event in self._named("Log.entryAdded")]
        said = [event["params"] for event in self._named("Runtime.consoleAPICalled")]
        return [
            *(str(details.get("exception", {}).get("description", details["text"])) for details in thrown),
            *(entry["text"] for entry in logged if entry["level"] in ("error", "warning")),
            *(json.dumps(call["args"]) for call in said if call["type"] in ("error", "warning", "assert")),
        ]

    def _named(self, method: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("method") == method]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, end - time.monotonic()))
            part = os.read(self.answers, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("the browser does not answer")
            self.buffer += part
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def _chromium() -> Iterator[Browser]:
    assert BROWSER, SKIP_REASON
    ends = [*_pipe(), *_pipe()]
    their_input, commands, answers, their_output = ends
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        launch = [sys.executable, "-c", LAUNCH, str(their_input), str(their_output)]
        process = subprocess.Popen(
            [*launch, BROWSER, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(their_input, their_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)
        try:
            yield Browser(commands, answers)
        finally:
            # The browser ends itself when nobody is at the other end.
            os.close(commands)
            os.close(answers)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _pipe() -> list[int]:
    """A pipe whose ends stand clear of the descriptors 3 and 4."""
    found = []
    for end in os.pipe():
        found.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return found
