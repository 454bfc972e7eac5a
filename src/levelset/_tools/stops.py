"""Requests to stop that wait until the part in hand is on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["finishing", "postpone", "stop_asked"]


@dataclass
class _Stops:
    """What this process is about to finish, and whether it is to stop after that."""

    parts: int = 0
    asked: bool = False


_STOPS = _Stops()


@contextmanager
def finishing() -> Iterator[None]:
    """Let a stop that is asked for by `postpone` wait until the block has ended.

    Wrap one part of a run, with the writing of it. Only who handles signals calls `postpone`: the
    command line does, and an exception raised in the block passes at once.

    Raises:
        KeyboardInterrupt: At the end of the block, if a stop was asked for meanwhile.
    """
    _STOPS.parts += 1
    try:
        yield
    finally:
        _STOPS.parts -= 1
        asked = _STOPS.asked
        if not _STOPS.parts:
            _STOPS.asked = False
    if asked:
        raise KeyboardInterrupt


def postpone() -> bool:
    """Ask for a stop after the part in hand; false if there is none, or one was asked before."""
    if not _STOPS.parts or _STOPS.asked:
        return False
    _STOPS.asked = True
    return True


def stop_asked() -> bool:
    """Return whether a stop is asked for: a part may then end early, where it is as good."""
    return _STOPS.asked
