"""One process at a time in the folder of a run, by a lock that ends with its process."""

import json
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from levelset._tools.files import make_folder
from levelset.errors import LevelSetWarning, RunError

__all__ = ["LOCK", "sole_user"]

LOCK = ".lock"
"""Name of the lock in the folder of a run; there while the run goes on."""


@contextmanager
def sole_user(function: str, folder: Path, *, name: str | None = None) -> Iterator[None]:
    """Keep other processes out of the folder of a run while the block runs; make it if need be.

    The system holds the lock for the process, so one that is killed leaves none behind; the file
    may stay, and stops nobody. Where the file system has no locks, a warning says so.

    Args:
        function: Name of the public function, for the message.
        folder: Of the run.
        name: What messages call it; `None` for its path.

    Raises:
        RunError: If another run is at work there; the message says which. If the folder cannot be
            made.
    """
    make_folder(folder)
    words = str(folder) if name is None else name
    path = folder / LOCK
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        message = (
            f"{function}: {words} is in use by {_holder(path)}. Wait until it has ended, or "
            "choose another folder."
        )
        raise RunError(message) from error
    except OSError as error:
        message = (
            f"{function}: cannot lock {words} ({error.strerror or error}), so nothing stops a "
            "second run there. Start none with the same folder."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=3)
        yield
        return
    try:
        _sign(path)
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is locked: who opened it meanwhile sees that it is gone
        lock.release()


def _sign(path: Path) -> None:
    """Write who holds the lock into its file, for the messages of others."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    holder = {"process": os.getpid(), "host": socket.gethostname(), "since": began}
    content = json.dumps(holder | {"program": Path(sys.argv[0] or "python").name})
    with suppress(OSError):
        path.write_text(content + "\n", encoding="utf-8")


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return (
            f"process {int(holder['process'])} on {holder['host']} ({holder['program']}), since "
            f"{holder['since']}"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is about to write it, or has ended
        return "another process"
