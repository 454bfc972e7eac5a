"""Points from text: tables of any separator, and the text files of scanners and of meshes."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from levelset._typing import Floats
from levelset.datasets._columns import Columns, by_name, by_place, colours_of, others
from levelset.errors import DataError

__all__ = ["read_obj", "read_off", "read_pts", "read_ptx", "read_table"]

SEPARATORS = (";", "\t", ",")
COMMENTS = ("#", "//", "%")
COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
RASTER = ("ncols", "nrows")
SIDE = 4096  # bytes that are looked at


def read_table(path: Path) -> Columns:
    """Return the points of a table, a row a point.

    Raises:
        DataError: If the rows are not numbers, or not of one length, or if columns have names none
            of which says where the coordinates are.
    """
    lines = [line for line in _lines(path) if line.strip()]
    rows = [line for line in lines if not line.lstrip().startswith(COMMENTS)]
    if not rows:
        return Columns(np.zeros((0, 3)), None)
    if rows[0].split()[0].lower() in RASTER:
        message = f"read_points: {path} is a raster of heights, not a list of points: export x y z."
        raise DataError(message)
    if rows[0].strip() == str(len(rows) - 1):  # some programs begin with the number of points
        rows = rows[1:]
    separator = _separator(rows[-1])
    names = _names(rows[0], _separator(rows[0]))
    rows = rows if names is None else rows[1:]
    if not rows:
        return Columns(np.zeros((0, 3)), None)
    rows, notes = _with_points(rows, separator)
    table = _numbers(rows, separator, path)
    if names is None:
        names = _commented(lines, table.shape[1])
        return _placed(table, path, notes) if names is None else _named(table, names, path, notes)
    return _named(table, names, path, notes)


def _named(table: Floats, names: list[str], path: Path, notes: tuple[str, ...]) -> Columns:
    """Return the columns by their names."""
    places = by_name(names)
    if "points" not in places or len(names) != table.shape[1]:
        message = (
            f"read_points: {path} has {table.shape[1]} columns and the names {', '.join(names)}, "
            "which do not say where x, y and z are. Rename these columns to x, y, z."
        )
        raise DataError(message)
    solid = len(places["points"]) == 3
    normals = table[:, places["normals"]] if solid and "normals" in places else None
    colours = colours_of(table[:, places["colours"]]) if "colours" in places else None
    scalars = {name: table[:, place] for name, place in others(names).items()}
    return Columns(table[:, places["points"]], normals, notes, colours, scalars=scalars)


def _placed(table: Floats, path: Path, notes: tuple[str, ...]) -> Columns:
    """Return the columns of a table without names."""
    width = table.shape[1]
    if width < 2:
        message = (
            f"read_points: {path} must have 3 columns, 2 for points in the plane, or 6 with "
            f"normals, got {width}."
        )
        raise DataError(message)
    if width <= 3:
        return Columns(table, None, notes)
    columns = by_place(table)
    return Columns(columns.points, columns.normals, (*notes, *columns.notes), columns.colours)


def read_pts(path: Path) -> Columns:
    """Return the points of a PTS file: counts on lines of their own, then x y z [i [r g b]] rows.

    Raises:
        DataError: If the rows are not numbers, or fewer than the counts say.
    """
    lines = [line.strip() for line in _lines(path) if line.strip()]
    rows = [line for line in lines if not line.isdecimal()]
    expected = sum(int(line) for line in lines if line.isdecimal())
    if not rows:
        return Columns(np.zeros((0, 3)), None)
    if expected and len(rows) != expected:
        message = (
            f"read_points: {path} is cut short: {expected:,} points announced, {len(rows):,} "
            "there. Copy or export it again."
        )
        raise DataError(message)
    return _by_scanner(_numbers(rows, None, path), path)


def read_ptx(path: Path) -> Columns:
    """Return the points of all scans of a PTX file, each put in its place by its matrix.

    Cells of the scanner's grid without an echo, which are zero, are left out.

    Raises:
        DataError: If a header is damaged, or a scan has fewer rows than it says.
    """
    lines = [line for line in _lines(path) if line.strip()]
    parts: list[Floats] = []
    sensors: list[Floats] = []
    place = empty = 0
    while place < len(lines):
        try:
            count = int(lines[place]) * int(lines[place + 1])
            head = _numbers(lines[place + 6 : place + 10], None, path)
            if head.shape != (4, 4) or count < 0:
                raise ValueError("no matrix of four rows")
        except (ValueError, IndexError) as error:
            message = f"read_points: {path} has a header that is no PTX's ({error})."
            raise DataError(message) from error
        rows = lines[place + 10 : place + 10 + count]
        if len(rows) < count:
            message = (
                f"read_points: {path} is cut short: {count:,} points announced, {len(rows):,} "
                "there. Copy or export it again."
            )
            raise DataError(message)
        place += 10 + count
        table = _numbers(rows, None, path) if rows else np.zeros((0, 4))
        seen = table[:, :3].any(1)
        empty += int((~seen).sum())
        table = table[seen]
        table[:, :3] = table[:, :3] @ head[:3, :3] + head[3, :3]
        parts.append(table)
        sensors.append(np.broadcast_to(head[3, :3], (len(table), 3)))
    if not parts:
        return Columns(np.zeros((0, 3)), None)
    width = min(part.shape[1] for part in parts)
    columns = _by_scanner(np.concatenate([part[:, :width] for part in parts]), path)
    notes = []
    if len(parts) > 1:
        notes.append(f"{len(parts)} scans were joined, each at the place its matrix says.")
    if empty:
        notes.append(f"{empty:,} directions without an echo were left out.")
    words = (*notes, *columns.notes)
    return replace(columns, notes=words, sensors=np.concatenate(sensors))


def _by_scanner(table: Floats, path: Path) -> Columns:
    """Return the columns x y z, [intensity], [r g b] of a scanner's table."""
    width = table.shape[1]
    if width not in (3, 4, 6, 7):
        message = (
            f"read_points: {path} must have the columns x y z, with an intensity, with r g b, or "
            f"with both, got {width} columns."
        )
        raise DataError(message)
    colours = colours_of(table[:, -3:]) if width > 4 else None
    scalars = {"intensity": table[:, 3]} if width in (4, 7) else {}
    return Columns(table[:, :3], None, (), colours, scalars=scalars)


def read_off(path: Path) -> Columns:
    """Return the vertices of an OFF file, with normals (NOFF) and colours (COFF) if it has them.

    Raises:
        DataError: If it is no OFF file, or has fewer vertices than it says.
    """
    lines = [line.split("#")[0].strip() for line in _lines(path)]
    lines = [line for line in lines if line]
    kind = lines[0].split()[0].upper() if lines else ""
    if not re.fullmatch(r"(ST)?C?N?OFF", kind):
        message = f"read_points: {path} is no OFF file: it does not begin with the word OFF."
        raise DataError(message)
    rest = lines[0].split()[1:]
    counts = rest or (lines[1].split() if len(lines) > 1 else [])
    try:
        vertices, faces = int(counts[0]), int(counts[1])
    except (ValueError, IndexError) as error:
        message = f"read_points: {path} has no line of counts after the word OFF."
        raise DataError(message) from error
    start = 1 if rest else 2
    rows = lines[start : start + vertices]
    if len(rows) < vertices:
        message = (
            f"read_points: {path} is cut short: {vertices:,} vertices announced, {len(rows):,} "
            "there. Copy or export it again."
        )
        raise DataError(message)
    table = _numbers(rows, None, path) if rows else np.zeros((0, 3))
    normals = table[:, 3:6] if "N" in kind and table.shape[1] >= 6 else None
    first = 6 if normals is not None else 3
    colours = None
    if "C" in kind and table.shape[1] >= first + 3:
        colours = colours_of(table[:, first : first + 3])
    words = f"The file is a mesh of {faces:,} faces; only its {vertices:,} vertices were used."
    return Columns(table[:, :3], normals, (words,) if faces else (), colours)


def read_obj(path: Path) -> Columns:
    """Return the vertices of an OBJ file, with colours, and normals where there is one for each.

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
    colours = None
    if all(len(line.split()) == 6 for line in vertices):
        after = [" ".join(line.split()[3:]) for line in vertices]
        colours = colours_of(_numbers(after, None, path))
    faces = [line for line in lines if line.startswith("f ")]
    normals_text = [line[3:] for line in lines if line.startswith(("vn ", "vn\t"))]
    normals = None
    if len(normals_text) == len(points) and all(_same_numbers(line) for line in faces):
        normals = _numbers(normals_text, None, path)
        normals = normals if normals.shape[1] == 3 else None
    words = f"The file is a mesh of {len(faces):,} faces; only its {len(points):,} vertices "
    return Columns(points, normals, (words + "were used.",) if faces else (), colours)


def _same_numbers(face: str) -> bool:
    """Tell whether each corner of a face has a normal of its own number."""
    corners = (corner.split("/") for corner in face.split()[1:])
    return all(len(parts) == 3 and parts[0] == parts[2] for parts in corners)


def _lines(path: Path) -> list[str]:
    """Return the lines of a text in UTF-8, or in UTF-16 with the mark of its byte order."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace").splitlines()
    if b"\0" in data[:SIDE]:
        message = (
            f"read_points: {path} is binary, but {path.suffix} is a format of text. Was it renamed?"
        )
        raise DataError(message)
    return data.decode("utf-8-sig", errors="replace").splitlines()


def _separator(line: str) -> str | None:
    """Return what separates the cells of a line; `None` for blanks."""
    separator = next((mark for mark in SEPARATORS if mark in line), None)
    if (
        separator == ","
        and all(COMMA.fullmatch(cell) for cell in line.split())
        and " " in line.strip()
    ):
        return None  # blanks separate, and the commas are decimal
    return separator


def _with_points(rows: list[str], separator: str | None) -> tuple[list[str], tuple[str, ...]]:
    """Return rows whose decimal commas are points, and a word on it."""
    if separator == "," or not any("," in row for row in rows):
        return rows, ()
    return [row.replace(",", ".") for row in rows], ("Decimal commas were read as points.",)


def _names(line: str, separator: str | None) -> list[str] | None:
    """Return the names in a first line, or `None` if a cell of it is a number."""
    cells = [cell.strip().strip("\"'") for cell in line.split(separator)]
    return None if any(_is_number(cell.replace(",", ".")) for cell in cells) else cells


def _commented(lines: list[str], width: int) -> list[str] | None:
    """Return the names in a comment above the rows, if they say where the coordinates are."""
    for line in lines:
        if not line.lstrip().startswith(COMMENTS):
            return None
        bare = line.strip().lstrip("#/%").strip()
        names = [cell.strip().strip("\"'") for cell in bare.split(_separator(bare))]
        if len(names) == width and "points" in by_name(names):
            return names
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(rows: list[str], separator: str | None, path: Path) -> Floats:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return np.loadtxt(rows, dtype=np.float64, delimiter=separator, ndmin=2, comments=None)
    except (ValueError, UserWarning) as error:
        reason = str(error).split(";")[0].rstrip(".")
        message = (
            f"read_points: {path} must hold rows of numbers, all of one length: {reason}. "
            "Separate them by blanks, commas, semicolons or tabs."
        )
        raise DataError(message) from error
