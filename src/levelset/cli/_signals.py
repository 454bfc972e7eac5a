"""Ctrl-C and SIGTERM: an end without a traceback, at any time, with the exit code of a shell.

A part of a run that is in hand is finished and written first; a second request ends at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from levelset._tools.stops import postpone

__all__ = ["Stop", "stopped", "stopping"]


class Stop:
    """Whether a command was asked to stop.

    Attributes:
        code: The exit code of the first signal, as a shell has it: 130 after Ctrl-C, 143 after
            SIGTERM; 0 before any.
    """

    code: int = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Let the part in hand be finished, or raise `KeyboardInterrupt`: the signal handler."""
        if _importing(frame):
            _end_at_once(number, frame)
        self.code = self.code or 128 + number
        if postpone():
            _say("levelset: stopping after the part in hand; once more stops at once.")
            return
        raise KeyboardInterrupt


@contextmanager
def stopping(*, owner: bool) -> Iterator[Stop]:
    """Turn Ctrl-C and SIGTERM into `KeyboardInterrupt` while the block runs.

    It comes after the part in hand, if one is (`finishing`); a second one comes at once. While
    something is imported both end the process: an import may swallow an exception, or turn it into
    another.

    Args:
        owner: Whether the process ends with the block: Ctrl-C then ends it at once afterwards too.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, _end_at_once if owner else handler)


def stopped(*, resumable: bool) -> None:
    """Say what a stop leaves; a further one ends the process at once.

    Args:
        resumable: Whether the command has `--resume`.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end_at_once)
    also = " What is on disk is whole; --resume goes on." if resumable else ""
    _say(f"levelset: stopped.{also}")


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
    with suppress(OSError, RuntimeError):  # RuntimeError: the signal came within another write
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
