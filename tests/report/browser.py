"""A browser for the tests of the page: Chromium without a window, driven over a pipe.

It is no dependency of the tests; those that need it are skipped where none is installed.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NODE = shutil.which("node")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")

TEMPLATES = Path(__file__).parents[2] / "src" / "levelset" / "report" / "templates"

_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --no-default-browser-check"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --disable-dev-shm-usage --use-angle=swiftshader --enable-unsafe-swiftshader"
    " --remote-debugging-pipe about:blank"
)

# A browser reads commands from the descriptor 3 and answers on 4.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, wanted in zip(ends, (3, 4)):
    os.dup2(end, wanted)
    os.close(end)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser: open a file, evaluate scripts, press keys, print."""

    def __init__(self, profile: Path) -> None:
        commands, answers = os.pipe(), os.pipe()
        ends = (commands[0], answers[1])
        program = [str(CHROMIUM), f"--user-data-dir={profile}", *_OPTIONS.split()]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, ends), *program],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands[0])
        os.close(answers[1])
        self._commands, self._answers = commands[1], os.fdopen(answers[0], "rb", buffering=0)
        self._rest, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._commands)
        self._answers.close()

    def open(
        self, path: Path, fragment: str = "", *, width: int = 1280, height: int = 900,
        dark: bool = False,
    ) -> None:  # fmt: skip
        """Open a page at a size and in a theme, and wait until it is loaded."""
        self.errors.clear()
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[theme])
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.value(
            "new Promise((done) => document.readyState === 'complete' ? done()"
            " : addEventListener('load', () => done()))"
        )

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript is worth; promises are awaited."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait, ten seconds at most, until an expression holds."""
        self.value(
            "new Promise((done, failed) => { const end = Date.now() + 10000;"
            f" const look = () => {{ if ({expression}) done(); else if (Date.now() > end)"
            " failed('waited too long'); else setTimeout(look, 30); }; look(); })"
        )

    def press(self, *keys: str) -> None:
        """Press keys, each by its name in JavaScript."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            codes = {"Enter": 13, "Escape": 27, "Tab": 9, "Home": 36, "End": 35}
            arrows = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
            code = (codes | arrows).get(key, 0)
            for kind in ("keyDown", "keyUp"):
                self._call(
                    "Input.dispatchKeyEvent",
                    type=kind, key=key, windowsVirtualKeyCode=code,
                    **(text if kind == "keyDown" else {}),
                )  # fmt: skip

    def write(self, text: str) -> None:
        """Write into what has the focus."""
        self._call("Input.insertText", text=text)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place and let it go at another."""
        steps = [("mouseMoved", start), ("mousePressed", start)]
        steps += [
            ("mouseMoved", tuple(a + (b - a) * t / 4 for a, b in zip(start, end, strict=True)))
            for t in range(1, 5)
        ]  # type: ignore[misc]
        for kind, (x, y) in [*steps, ("mouseReleased", end)]:
            self._call(
                "Input.dispatchMouseEvent",
                type=kind, x=x, y=y, button="left", buttons=int(kind != "mouseReleased"),
                clickCount=1,
            )  # fmt: skip

    def paper(self) -> bytes:
        """Return the page printed, as PDF."""
        return base64.b64decode(self._call("Page.printToPDF", printBackground=False)["data"])

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._answer()
            if answer.get("method") == "Runtime.exceptionThrown":
                details = answer["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", str(details)))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _answer(self) -> Any:
        while b"\0" not in self._rest:
            read = self._answers.read(1 << 16)
            assert read, "the browser ended"
            self._rest += read
        answer, _, self._rest = self._rest.partition(b"\0")
        return json.loads(answer)


def scripts(names: list[str], expression: str) -> Any:
    """Return what an expression is worth after scripts of the page, by node."""
    sources = "\n".join((TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in names)
    program = f"{sources}\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run(
        [str(NODE), "-"], input=program, capture_output=True, text=True, encoding="utf-8",
        check=False, timeout=60,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)
