"""Reading files of strangers: sizes checked first, failures named after the file."""

import os
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from levelset.errors import DataError, LevelSetError, ParameterError

__all__ = ["VARIABLE", "check_size", "check_zip", "most_bytes", "reading"]

VARIABLE = "LEVELSET_MAX_BYTES"
MOST_BYTES = 2 << 30  # 2 GiB: MNIST takes 0.05, CIFAR-10 0.2, a ViT-L 1.2
ENTRY = 512  # bytes of memory that Python takes for one entry of a zip's directory


@contextmanager
def reading(function: str, path: str | Path) -> Generator[None, None, None]:
    """Turn what decoders raise over a damaged file into a `DataError` that names it.

    Decoders of numpy, Pillow, pyarrow and torch document few of their exceptions: a flipped byte
    raises anything from a `UnicodeDecodeError` to a `tokenize.TokenError`. Our own errors pass.

    Args:
        function: The public function that reads, for messages.
        path: The file.
    """
    try:
        yield
    except LevelSetError:
        raise
    except Exception as error:
        raise DataError(f"{function}: {_reason(path, error)}") from error


def most_bytes() -> int:
    """Return how many bytes one file may take once it is inflated: 2 GiB, or `VARIABLE`'s."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return MOST_BYTES
    if not text.isdecimal() or int(text) == 0:
        message = f"the variable {VARIABLE} must be a number of bytes, such as {MOST_BYTES}, got "
        raise ParameterError(message + f"{text!r}.")
    return int(text)


def check_size(size: int, what: str, *, on_disk: int = 0) -> None:
    """Refuse what would take too many bytes once inflated, before it is.

    Args:
        size: Bytes that it would take.
        what: The function and the file, for the message.
        on_disk: Bytes that it takes already; as many are always allowed.

    Raises:
        DataError: If `size` exceeds the limit; the message says both and how to raise it.
    """
    limit = max(most_bytes(), on_disk)
    if size > limit:
        message = (
            f"{what} is too large: {size} bytes, the limit is {limit}, raise it with the variable "
            f"{VARIABLE}={size} if you trust the file and have the memory."
        )
        raise DataError(message)


def check_zip(archive: zipfile.ZipFile, what: str, members: list[str] | None = None) -> None:
    """Refuse a zip whose members, all or those named, or whose directory would be too large.

    The sizes are those of the directory. A member that inflates to more is cut there by Python,
    and then fails its checksum.
    """
    names = archive.namelist()
    on_disk = Path(archive.filename).stat().st_size if archive.filename else 0
    check_size(ENTRY * len(names), f"{what}: its directory of {len(names)} members")
    chosen = names if members is None else members
    check_size(sum(archive.getinfo(name).file_size for name in chosen), what, on_disk=on_disk)


def _reason(path: str | Path, error: Exception) -> str:
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"{path} does not fit in memory. Read a part of it, or use a larger machine."
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read {path} ({error.strerror})."
    first = str(error).strip().partition("\n")[0]
    return (
        f"{path} is damaged or truncated, or not what its name says "
        f"({type(error).__name__}{f': {first}' if first else ''}). Fetch or export it again."
    )
