"""Writing files whole: under a temporary name beside the target, then renamed into place."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from levelset.errors import RunError

__all__ = ["make_folder", "write_json", "write_whole"]


def make_folder(folder: Path) -> None:
    """Create a folder with its parents, or say why it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot create the folder {folder}: {error.strerror}. Choose another `out`."
        raise RunError(message) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary path, then rename it to `path`.

    A reader sees the old file or the new one, never a part. On any failure, a full disk or an
    interrupt among them, the temporary file is removed and `path` is as it was.
    """
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
        with suppress(OSError):  # the reason given above is worth more than this one
            partial.unlink()


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, whole."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
