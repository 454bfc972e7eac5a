"""Ctrl-C and SIGTERM: an end without a traceback, at any time, with the exit code of a shell."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = ["stopped", "stopping"]

INTERRUPTED, TERMINATED = 130, 143


@contextmanager
def stopping(*, owner: bool) -> Iterator[None]:
    """Turn Ctrl-C into `KeyboardInterrupt`, SIGTERM into `SystemExit(143)`, while the block runs.

    Both end the process at once while something is imported: an import may swallow an exception,
    or turn it into another.

    Args:
        owner: Whether the process ends with the block: Ctrl-C then ends it at once afterwards too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _end_at_once if owner else handler)


def stopped(*, resumable: bool) -> int:
    """Say what Ctrl-C leaves, and return its exit code; a second Ctrl-C ends the process at once.

    Args:
        resumable: Whether the command has `--resume`.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _end_at_once)
    also = " What is on disk is whole; --resume goes on." if resumable else ""
    _say(f"levelset: stopped.{also}")
    return INTERRUPTED


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    if _importing(frame):
        _end_at_once(number, frame)
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    if _importing(frame):
        _end_at_once(number, frame)
    raise SystemExit(TERMINATED)


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    _say("levelset: stopped.")
    os._exit(128 + number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
