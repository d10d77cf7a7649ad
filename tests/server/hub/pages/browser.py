"""Debian's Chromium by its own protocol (CDP) over a pipe: no driver, no port, no package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

__all__ = ["Browser", "BrowserError", "find_chromium"]

_SECONDS = 15.0
_TO_BROWSER, _FROM_BROWSER = 3, 4  # the descriptors that --remote-debugging-pipe names
_FLAGS = (
    "--headless=new", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--mute-audio", "--force-color-profile=srgb",
)  # fmt: skip


class BrowserError(Exception):
    """Chromium refused a command, or a script of a test failed."""


def find_chromium() -> str | None:
    """Where Chromium is; None where it is not installed."""
    return next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)


class Browser:
    """One browser with one page. `events` holds what the page did since `open`."""

    def __init__(self, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._buffer, self._number, self._session = b"", 0, ""
        read_by_browser, self._out = os.pipe()
        self._in, written_by_browser = os.pipe()
        self._process = _start(profile, read_by_browser, written_by_browser)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(_SECONDS)
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open(self, url: str) -> None:
        """Go there and wait until it is loaded."""
        self.events.clear()
        loader = self.call("Page.navigate", url=url).get("loaderId")
        # Of this very navigation: the page before may still be loading.
        self._wait_for("Page.lifecycleEvent", {"name": "load", "loaderId": loader})

    def script(self, code: str) -> Any:
        """The value of an expression in the page, awaited."""
        result = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise BrowserError(json.dumps(result["exceptionDetails"])[:2000])
        return result["result"].get("value")

    def wait_until(self, condition: str, seconds: float = _SECONDS) -> Any:
        """Wait until an expression of the page is true; returns its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(BrowserError):  # between two pages there is nothing to ask
                if value := self.script(f"(v => v instanceof Node ? true : v)({condition})"):
                    return value
            time.sleep(0.05)
        raise BrowserError(
            f"not in {seconds:.0f} s: {condition}; {str(self.script('document.body.innerText'))[:400]}"
        )

    def press(self, key: str, code: int = 0, modifiers: int = 0) -> None:
        """A key, down and up."""
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False, scale: float = 1) -> None:
        """The window's size and the system's colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        with contextlib.suppress(BrowserError, OSError, TimeoutError):
            self.call("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        for handle in (self._in, self._out):
            os.close(handle)

    def _wait_for(self, method: str, wanted: dict[str, Any]) -> None:
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event.get("method") == method and wanted.items() <= event["params"].items():
                    return
            seen = len(self.events)
            self.events.append(self._read(_SECONDS))

    def _read(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], seconds)[0]:
                raise TimeoutError(f"Chromium said nothing for {seconds:.0f} s")
            part = os.read(self._in, 1 << 20)
            if not part:
                raise BrowserError("Chromium ended")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _start(profile: Path, read: int, write: int) -> subprocess.Popen[bytes]:
    found = find_chromium()
    assert found is not None
    # As root, as in a container, Chromium's own sandbox cannot be.
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
    # The shell puts the pipes where Chromium looks for them, and only those.
    command = f'exec "$0" "$@" {_TO_BROWSER}<&{read} {_FROM_BROWSER}>&{write}'
    process = subprocess.Popen(["bash", "-c", command, found, *flags], pass_fds=(read, write),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    os.close(read)
    os.close(write)
    return process
