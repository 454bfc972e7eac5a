"""Points in text: tables with and without names, and OBJ."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset.datasets._points_types import Columns
from levelset.errors import DataError

__all__ = ["read_obj", "read_table"]

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
    found = SEPARATORS.search(rows[0])
    separator = found[0] if found else None
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
    given = [line[3:] for line in lines if line.startswith(("vn ", "vn\t"))]
    normals = None
    if len(given) == len(points) and all(_same_numbers(line) for line in faces):
        normals = _numbers(given, None, path)
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


def _numbers(rows: list[str], separator: str | None, path: Path) -> NDArray[np.float64]:
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


def _by_name(table: NDArray[np.float64], names: list[str]) -> Columns | None:
    """Return the columns that names tell, or `None` if they do not."""

    def pick(wanted: tuple[str, ...]) -> Any:
        return table[:, [names.index(name) for name in wanted]]

    for wanted in POINT_NAMES:
        if set(wanted) <= set(names):
            normals = next((pick(n) for n in NORMAL_NAMES if set(n) <= set(names)), None)
            return Columns(pick(wanted), normals if len(wanted) == 3 else None)
    return None


def _by_place(table: NDArray[np.float64], path: Path) -> Columns:
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
