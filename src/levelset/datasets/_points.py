"""`read_points`: clouds of points from the files that scanners and programs write."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.reading import reading
from levelset._tools.results import Result
from levelset._typing import Floats
from levelset.datasets._ply_pcd import Columns, read_pcd, read_ply
from levelset.datasets._tables import read_array
from levelset.errors import DataError

__all__ = ["POINT_SUFFIXES", "PointCloud", "read_obj", "read_points", "read_table"]

# Made by `scan_of_a_knot` of the command line with seed 0.
_SAMPLE = Path(__file__).with_name("sample.ply")


@checked
@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(Result):
    """Points as they lie in a file, in its own units and order.

    Attributes:
        points: `(n, 3)`, float64, or `(n, 2)` for tables of two columns; may hold NaN.
        normals: One a point, as they lie in the file, `(n, 3)`, float64; `None` if it has none.
        name: The name of the file, without its suffix.
        notes: What the user should know of how the file was understood, in sentences.
    """

    _headline: ClassVar = ("name", "points", "normals")

    points: Tensor
    normals: Tensor | None
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def summary(self) -> dict[str, int | float]:
        """Return the number of points and of coordinates, and whether there are normals."""
        return {
            "points": len(self),
            "axes": self.points.shape[1],
            "normals": self.normals is not None,
        }


@checked
def read_points(path: str | Path) -> PointCloud:
    r"""Read a cloud of points.

    The suffix decides the format:

    - `.ply`: text or binary of either byte order, with any properties; normals are `nx, ny, nz`;
    - `.obj`: `v`, and `vn` where there is one for each;
    - `.xyz`, `.txt`, `.csv`: a row a point, separated by blanks, commas, semicolons or tabs, with
      or without a line of names. Names say which columns; without them the first three are x, y
      and z, and columns four to six the normal where its length is 1. Two columns are points in
      the plane;
    - `.npy`: an array `(n, 2)`, `(n, 3)`, or `(n, 6)` with normals;
    - `.pcd`: text or binary, normals being `normal_x, normal_y, normal_z`.

    `sample` is a scan that comes with the package, if no file has that name: 5,000 points, as a
    scanner would see a tube around a knot.

    Of a mesh the vertices are taken, which `notes` says. Nothing is scaled, thinned or
    dropped: rows with NaN stay, and what is to be done with them is for who uses the points.

    Cost: 1,000,000 points take 0.1 seconds from a binary file and a few from text. Memory: the
    file and the points, twice at worst.

    Args:
        path: The file, or `sample`.

    Returns:
        The points, and the normals if there are any.

    Raises:
        DataError: If the file is missing, of another suffix, damaged, cut short, empty, or not
            what its suffix says; if it holds no numbers; or if it would have to be unpickled.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from levelset.datasets import read_points
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "corner.xyz"
        ...     written = file.write_text("0 0 0\n1 0 0\n0 1 0\n")
        ...     read_points(file)
        PointCloud(name='corner', points=(3, 3), normals=False)
    """
    path = Path(path).expanduser()
    if str(path) == _SAMPLE.stem and not path.exists():
        path = _SAMPLE
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        message = (
            f"read_points: {path.name!r} must end in one of {', '.join(POINT_SUFFIXES)}. "
            "Export the points as PLY, which nearly every program writes."
        )
        raise DataError(message)
    if not path.is_file():
        what = "is a folder: give one of its files" if path.is_dir() else "does not exist"
        raise DataError(f"read_points: {path} {what}.")
    with reading("read_points", path):
        return _cloud(reader(path), path)


def _read_npy(path: Path) -> Columns:
    with path.open("rb") as stream:
        try:
            array = read_array(stream, path.stat().st_size)
        except (ValueError, EOFError) as error:
            stream.seek(0)
            if stream.read(2) == b"PK":
                message = f"read_points: {path} must hold one array of numbers, got an archive."
            elif "pickle" in str(error) or "magic" in str(error):
                message = (
                    f"read_points: {path} holds pickled objects, which can run code, or is no "
                    "NumPy file. Save a plain array of numbers: np.save(file, points)."
                )
            else:
                message = f"read_points: {path} is damaged, cut short, or no NumPy file ({error})."
            raise DataError(message) from error
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        message = (
            f"read_points: {path} must hold one array of numbers, (n, 2), (n, 3) or (n, 6), "
            f"got {array.dtype} {array.shape}."
        )
        raise DataError(message)
    if array.shape[1] not in (2, 3, 6):
        message = (
            f"read_points: {path} must hold 2, 3 or 6 columns (the last three a normal), got "
            f"{array.shape[1]}. Keep the columns x, y, z."
        )
        raise DataError(message)
    return Columns(array[:, :3], array[:, 3:] if array.shape[1] == 6 else None)


def _cloud(columns: Columns, path: Path) -> PointCloud:
    if not len(columns.points):
        message = f"read_points: {path} is empty: it holds no point."
        raise DataError(message)
    notes = list(columns.notes)
    normals = columns.normals
    if normals is not None and not np.any(normals):
        notes.append("The normals in the file are all zero and were left out.")
        normals = None
    return PointCloud(
        points=_tensor(columns.points),
        normals=None if normals is None else _tensor(normals),
        name=path.stem,
        notes=tuple(notes),
    )


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


POINT_NAMES = (("x", "y", "z"), ("x", "y"))
NORMAL_NAMES = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
SEPARATORS = re.compile(r"[;,\t]")
UNIT = (0.9, 1.1)  # lengths that a normal may have


def read_table(path: Path) -> Columns:
    """Return the points of a table, a row a point.

    Raises:
        DataError: If the rows are not numbers, or not of one length.
    """
    lines = _lines(path)
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
    if not rows:
        return Columns(np.zeros((0, 3)), None)
    if rows[0].strip() == str(len(rows) - 1):  # some programs begin with the number of points
        rows = rows[1:]
    separator_match = SEPARATORS.search(rows[0])
    separator = separator_match[0] if separator_match else None
    names = _names(rows[0], separator)
    rows = rows if names is None else rows[1:]
    if not rows:
        return Columns(np.zeros((0, 3)), None)
    table = _numbers(rows, separator, path)
    if names is not None and len(names) == table.shape[1]:
        named = _by_name(table, names)
        if named is not None:
            return named
    return _by_place(table, path)


def read_obj(path: Path) -> Columns:
    """Return the vertices of an OBJ file, and normals where there is one for each.

    Raises:
        DataError: If there is no vertex, or one is not three numbers.
    """
    lines = _lines(path)
    vertices = [line[2:] for line in lines if line.startswith(("v ", "v\t"))]
    if not vertices:
        message = f"read_points: {path} is no OBJ file, or an empty one: no line begins with `v`."
        raise DataError(message)
    points = _numbers([" ".join(line.split()[:3]) for line in vertices], None, path)
    if points.shape[1] != 3:
        message = f"read_points: {path} must have three numbers a vertex, got {points.shape[1]}."
        raise DataError(message)
    faces = [line for line in lines if line.startswith("f ")]
    normals_text = [line[3:] for line in lines if line.startswith(("vn ", "vn\t"))]
    normals = None
    if len(normals_text) == len(points) and all(_same_numbers(line) for line in faces):
        normals = _numbers(normals_text, None, path)
        normals = normals if normals.shape[1] == 3 else None
    words = f"The file is a mesh of {len(faces):,} faces; only its {len(points):,} vertices "
    return Columns(points, normals, (words + "were used.",) if faces else ())


def _same_numbers(face: str) -> bool:
    """Tell whether each corner of a face has a normal of its own number."""
    corners = (corner.split("/") for corner in face.split()[1:])
    return all(len(parts) == 3 and parts[0] == parts[2] for parts in corners)


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        message = (
            f"read_points: {path} is binary, but {path.suffix} is a format of text. Was it renamed?"
        )
        raise DataError(message)
    return data.decode("utf-8-sig", errors="replace").splitlines()


def _names(line: str, separator: str | None) -> list[str] | None:
    """Return the names in a first line, in lower case, or `None` if it holds numbers."""
    cells = [cell.strip().strip("\"'").lower() for cell in line.split(separator)]
    return None if any(_is_number(cell) for cell in cells) else cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell not in ("nan", "inf", "infinity")


def _numbers(rows: list[str], separator: str | None, path: Path) -> Floats:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.loadtxt(rows, dtype=np.float64, delimiter=separator, ndmin=2, comments=None)
    except (ValueError, UserWarning) as error:
        reason = str(error).split(";")[0].rstrip(".")
        message = (
            f"read_points: {path} must hold rows of numbers, all of one length: {reason}. "
            "Numbers have a decimal point, not a comma."
        )
        raise DataError(message) from error


def _by_name(table: Floats, names: list[str]) -> Columns | None:
    """Return the columns by their names, or `None` if they name no coordinates."""

    def pick(axes: tuple[str, ...]) -> Any:
        return table[:, [names.index(name) for name in axes]]

    for axes in POINT_NAMES:
        if set(axes) <= set(names):
            normals = next((pick(n) for n in NORMAL_NAMES if set(n) <= set(names)), None)
            return Columns(pick(axes), normals if len(axes) == 3 else None)
    return None


def _by_place(table: Floats, path: Path) -> Columns:
    """Return the first columns; four to six are a normal where their length is 1."""
    columns = table.shape[1]
    if columns < 2:
        message = (
            f"read_points: {path} must have 3 columns, 2 for points in the plane, or 6 with "
            f"normals, got {columns}."
        )
        raise DataError(message)
    if columns <= 3:
        return Columns(table, None)
    if columns == 6:
        lengths = np.sqrt((table[:, 3:] ** 2).sum(1))
        if np.mean((lengths > UNIT[0]) & (lengths < UNIT[1])) > 0.9:
            return Columns(table[:, :3], table[:, 3:])
    words = (
        f"The file has {columns} columns not named x, y, z; the first three were taken as these, "
        "and the others, which are no normals of length 1, left out."
    )
    return Columns(table[:, :3], None, (words,))


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".ply": read_ply,
    ".obj": read_obj,
    ".xyz": read_table,
    ".txt": read_table,
    ".csv": read_table,
    ".npy": _read_npy,
    ".pcd": read_pcd,
}
POINT_SUFFIXES = tuple(_READERS)
"""What `read_points` reads, by suffix."""
