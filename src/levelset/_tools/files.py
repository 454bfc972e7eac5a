"""Writing files whole, under a temporary name first."""

import errno
import glob
import json
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from levelset.errors import LevelSetWarning, RunError

__all__ = ["json_bytes", "make_folder", "remove_leftovers", "write_json", "write_whole"]

# What a share answers that is away for a moment, and the seconds between attempts to write to it.
_AWAY = {
    getattr(errno, name)
    for name in ("EIO", "ENODEV", "ENOTCONN", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN",
                 "ENETUNREACH", "ESTALE", "ETIMEDOUT")
    if hasattr(errno, name)
}  # fmt: skip
_WAITS = (0.5, 1.5, 4.0, 9.0)


def make_folder(folder: Path) -> None:
    """Create a folder with its parents, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot create the folder {folder}: {error.strerror}. Choose another `out`."
        raise RunError(message) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed run left in its folder."""
    for path in folder.glob(".*.part"):
        _remove(path)


def write_whole(path: Path, write: Callable[[Path], object], *, repeatable: bool = True) -> None:
    """Call `write` on a temporary path, then rename it to `path`.

    A reader sees the old file or the new one, never a part. On any failure, a full disk or an
    interrupt among them, the temporary file is removed and `path` is as it was. What a killed
    process left of an earlier attempt is removed too. A folder that is away, as a share may be for
    a moment, is waited for a quarter of a minute.

    Args:
        path: The file.
        write: Takes the temporary path.
        repeatable: Whether `write` may be called again where the folder was away.

    Raises:
        RunError: If the file cannot be written.
    """
    for wait in (*_WAITS, None):
        try:
            _write_once(path, write)
            return
        except OSError as error:
            if wait is None or not repeatable or not _is_away(error, path.parent):
                message = (
                    f"cannot write {path}: {error.strerror or error}. What was written before is "
                    "whole; free space or choose another `out`, then resume."
                )
                raise RunError(message) from error
            if wait == _WAITS[0]:
                message = f"cannot write {path}: {error.strerror or error}. Trying again."
                warnings.warn(message, LevelSetWarning, stacklevel=2)
        time.sleep(wait)


def _write_once(path: Path, write: Callable[[Path], object]) -> None:
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if not _runs(leftover.name.split(".")[-2]):
            _remove(leftover)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        _remove(partial)


def _is_away(error: OSError, folder: Path) -> bool:
    """Return whether a folder may come back: its share is cut off, or it is not there."""
    return error.errno in _AWAY or (error.errno == errno.ENOENT and not folder.exists())


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, whole."""
    data = json_bytes(content)
    write_whole(path, lambda partial: partial.write_bytes(data))


def json_bytes(content: object) -> bytes:
    """Return `content` as indented JSON."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return text.encode()


def _remove(path: Path) -> None:
    with suppress(OSError):  # the reason why a file was not written is worth more than this one
        path.unlink()


def _runs(process: str) -> bool:
    """Return whether a process may still run; only POSIX can say without ending it."""
    if not process.isdigit() or os.name != "posix":
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs under another user
        return True
    return True
