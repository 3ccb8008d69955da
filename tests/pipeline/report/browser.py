"""A headless Chromium with one page open: what went wrong in it, what it asked the network for, what it shows.

Invariant: whatever the page complains of or asks for from its first byte on is in `trouble`; nothing is filtered out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 60.0  # seconds until a page that does not answer fails the test
COMMON = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps")


def chromium() -> str | None:
    """The browser's path, if this machine has one."""
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    return next((path for path in found if path), None)


@dataclass
class Page:
    """An open page. `trouble`: exceptions, console errors, log entries, dialogs, and requests for anything but itself
    and data: URLs."""

    socket: Any
    url: str
    trouble: list[str] = field(default_factory=list)
    _number: int = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        self._number += 1
        self.socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._event(message)

    def _event(self, message: dict[str, Any]) -> None:
        params, method = message.get("params", {}), message.get("method", "")
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.trouble.append(f"exception: {details['text']} {details.get('exception', {}).get('description', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.trouble.append(f"console: {[arg.get('value', arg.get('description')) for arg in params['args']]}")
        elif method == "Log.entryAdded":
            self.trouble.append(f"log: {params['entry']['level']}: {params['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            self.trouble.append(f"dialog: {params['message']}")
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith((self.url, "data:")):
            self.trouble.append(f"request: {params['request']['url'][:100]}")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    def open(self) -> None:
        """Loads the page and waits until its figures are drawn."""
        self.call("Page.navigate", url=self.url)
        self.evaluate(
            "new Promise((done) => { const ready = () => document.documentElement?.dataset.charts === 'drawn' ? done(true)"
            " : setTimeout(ready, 20); ready(); })"
        )

    def screenshot(self, path: Path, *, full: bool = False) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full, **self._clip(full))
        path.write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, full: bool) -> dict[str, Any]:
        if not full:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextlib.contextmanager
def opened(path: Path, profile: Path, *, width: int = 1366, height: int = 768, dark: bool = False) -> Iterator[Page]:
    """The page at `path` in a browser of its own, which cannot reach any network; drawn when it is handed over."""
    import websocket

    binary = chromium()
    assert binary
    arguments = [binary, *COMMON, *QUIET, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    arguments += ["--remote-allow-origins=*", "--host-resolver-rules=MAP * ~NOTFOUND", "about:blank"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = next(line for line in process.stderr if "DevTools listening on" in line)
        port = line.partition("ws://127.0.0.1:")[2].partition("/")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=TIMEOUT) as answer:
            target = next(tab for tab in json.load(answer) if tab["type"] == "page")
        socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=TIMEOUT, suppress_origin=True)
        page = Page(socket, path.resolve().as_uri())
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        page.call("Emulation.setEmulatedMedia", features=scheme)
        page.open()
        yield page
        socket.close()
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        if process.stderr:
            process.stderr.close()
