"""Writing files whole, under a temporary name first."""

import glob
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from levelset.errors import RunError

__all__ = ["make_folder", "remove_leftovers", "write_json", "write_whole"]


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


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary path, then rename it to `path`.

    A reader sees the old file or the new one, never a part. On any failure, a full disk or an
    interrupt among them, the temporary file is removed and `path` is as it was. What a killed
    process left of an earlier attempt is removed too.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if not _runs(leftover.name.split(".")[-2]):
            _remove(leftover)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        message = (
            f"cannot write {path}: {error.strerror or error}. "
            "What was written before is whole; free space or choose another `out`, then resume."
        )
        raise RunError(message) from error
    finally:
        _remove(partial)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, whole."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


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
