"""The archives that PyTorch writes: read once with Python, and packed anew for PyTorch.

PyTorch's own reader finds members in either case, checks no sums, and looks for members of older
formats. It gets only what was read and checked here, so the two cannot differ.
"""

import io
import zipfile
from pathlib import Path

from levelset._tools.reading import check_zip
from levelset.errors import DataError

__all__ = ["damaged", "pack", "read_members"]


def read_members(file: Path) -> dict[str, bytes]:
    """Return the members of an archive, by their names below its one folder.

    Raises:
        DataError: If it is damaged, too large, has two members of one name, or no such folder.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            check_zip(archive, f"load_model: {file}")
            names = [name for name in archive.namelist() if not name.endswith("/")]
            short = _below_one_folder(file, names)
            return {short[name]: archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        member = str(error).partition("Bad CRC-32 for file ")[2].strip("'")
        reason = f"the checksum of its member {member} is wrong" if member else str(error)
        raise damaged(file, reason) from error
    except DataError:
        raise
    except Exception as error:  # passwords, odd compressions, and what decompressors raise
        raise damaged(file, f"{type(error).__name__}: {error}") from error


def pack(members: dict[str, bytes]) -> io.BytesIO:
    """Return an archive of such members, for PyTorch to read."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    stream.seek(0)
    return stream


def damaged(file: Path, reason: str) -> DataError:
    """Return the error of a damaged file."""
    first = reason.strip().partition("\n")[0] or "unknown"
    return DataError(f"load_model: {file} is damaged or truncated ({first}). Fetch it again.")


def _below_one_folder(file: Path, names: list[str]) -> dict[str, str]:
    parts = {name: name.partition("/") for name in names}
    if len({root for root, _, _ in parts.values()}) != 1 or not all(p[2] for p in parts.values()):
        message = (
            f"load_model: {file} is of an older format of torch.export: export it again. PyTorch "
            "writes all members into one folder."
        )
        raise DataError(message)
    if len({name.lower() for name in names}) != len(names):
        message = f"load_model: {file} is refused: it has members of the same name."
        raise DataError(message)
    return {name: rest for name, (_, _, rest) in parts.items()}
