"""A headless Chromium for tests: a page, its keys, its size and its colours, over a pipe.

It speaks the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) with nothing
but the standard library: JSON messages with a zero byte after each, on file descriptors 3 and 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What a key event needs beside its name.
_KEYS = {
    "ArrowDown": 40, "ArrowUp": 38, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35,
    "Tab": 9, "Enter": 13, "Escape": 27,
}  # fmt: skip


def find():
    """The path of a browser, or None."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser with one page; use it in a `with` block."""

    def __init__(self, path, profile, *, timeout=60.0):
        self._timeout, self._number, self._session, self._rest = timeout, 0, None, b""
        self.events = []
        command_read, self._write = os.pipe()
        self._read, answer_write = os.pipe()
        flags = [
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            "--no-sandbox",  # it opens files of our own only; containers have no other way
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
        ]
        # A shell puts the pipes where the browser looks for them.
        redirect = f'exec "$0" "$@" 3<&{command_read} 4>&{answer_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, path, *flags, "about:blank"],
            pass_fds=(command_read, answer_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method, **params):
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._next(deadline)
            if answer.get("id") != self._number:
                self.events.append(answer)
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            return answer["result"]

    def open(self, path, *, width=1200, height=900, scheme="light"):
        """Opens a file at a size and in a colour scheme, and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script):
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script):
        """Waits until an expression is true."""
        deadline = time.monotonic() + self._timeout
        while not self.run(script):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{script} did not become true")
            time.sleep(0.02)

    def press(self, key):
        """Presses and releases a key."""
        code = _KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        typed = "\r" if key == "Enter" else key if len(key) == 1 else ""
        of = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=typed, **of)
        self.call("Input.dispatchKeyEvent", type="keyUp", **of)

    def type(self, text):
        """Types a text where the focus is."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path, *, whole=False):
        """Writes a PNG of what is seen, or of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self, deadline):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("the browser did not answer")
            piece = os.read(self._read, 1 << 20)
            if not piece:
                raise RuntimeError("the browser ended")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
