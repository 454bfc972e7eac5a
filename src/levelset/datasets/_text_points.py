"""Points from text: tables of any separator, and the text files of scanners and of meshes."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedIOBase, TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import IO, cast

import numpy as np

from levelset._typing import Floats
from levelset.datasets._columns import Columns, Placing, by_name, others, placing
from levelset.datasets._records import cut_short
from levelset.errors import DataError

__all__ = [
    "pts_blocks",
    "read_obj",
    "read_off",
    "read_pts",
    "read_ptx",
    "read_table",
    "table_blocks",
]

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
    if rows and rows[0].strip() == str(len(rows) - 1):  # some programs begin with the number
        rows = rows[1:]
    return next(_of_tables(lines, rows, iter(()), path))


def table_blocks(stream: BufferedIOBase, path: Path, rows: int) -> Iterator[Columns]:
    """Yield what `read_table` returns, so many lines at a time.

    The first lines say what the columns are.
    """
    blocks = _line_blocks(stream, rows, path)
    lines = [line for line in next(blocks, []) if line.strip()]
    first = [line for line in lines if not line.lstrip().startswith(COMMENTS)]
    if len(first) > 1 and first[0].strip().isdecimal() and not first[1].strip().isdecimal():
        first = first[1:]  # the number of points
    rest = (
        [line for line in block if line.strip() and not line.lstrip().startswith(COMMENTS)]
        for block in blocks
    )
    return _of_tables(lines, first, rest, path)


def _of_tables(
    lines: list[str], rows: list[str], rest: Iterator[list[str]], path: Path
) -> Iterator[Columns]:
    """Yield the columns of the first rows, and of others with the same layout.

    Args:
        lines: The first lines, with comments.
        rows: Those of them that are rows, names among them.
        rest: Further rows.
        path: The file.
    """
    if not rows:
        yield Columns(np.zeros((0, 3)), None)
        return
    if rows[0].split()[0].lower() in RASTER:
        message = f"read_points: {path} is a raster of heights, not a list of points: export x y z."
        raise DataError(message)
    separator = _separator(rows[-1])
    names = _names(rows[0], _separator(rows[0]))
    rows = rows if names is None else rows[1:]
    layout: Placing | None = None
    width = 0
    for some in chain([rows], rest):
        if not some:
            yield Columns(np.zeros((0, 3)), None)
            continue
        block, notes = _with_points(some, separator)
        table = _numbers(block, separator, path)
        if not width:
            width = table.shape[1]
            names = names or _commented(lines, width)
            layout = _placing(table, path) if names is None else None
        if table.shape[1] != width:
            message = (
                f"read_points: {path} must hold rows of numbers, all of one length, got {width} "
                f"and {table.shape[1]}."
            )
            raise DataError(message)
        columns = _named(table, names, path) if layout is None else layout.of(table)
        yield replace(columns, notes=(*notes, *columns.notes))


def _named(table: Floats, names: list[str] | None, path: Path) -> Columns:
    """Return the columns by their names."""
    names = names or []
    places = by_name(names)
    if "points" not in places or len(names) != table.shape[1]:
        message = (
            f"read_points: {path} has {table.shape[1]} columns and the names {', '.join(names)}, "
            "which do not say where x, y and z are. Rename these columns to x, y, z."
        )
        raise DataError(message)
    solid = len(places["points"]) == 3
    normals = table[:, places["normals"]] if solid and "normals" in places else None
    colours = table[:, places["colours"]] if "colours" in places else None
    scalars = {name: table[:, place] for name, place in others(names).items()}
    return Columns(table[:, places["points"]], normals, (), colours, scalars=scalars)


def _placing(table: Floats, path: Path) -> Placing:
    """Return where the columns of a table without names are."""
    width = table.shape[1]
    if width < 2:
        message = (
            f"read_points: {path} must have 3 columns, 2 for points in the plane, or 6 with "
            f"normals, got {width}."
        )
        raise DataError(message)
    return Placing(None, None, ()) if width <= 3 else placing(table)


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
        raise cut_short(path, expected, len(rows), "points")
    return _by_scanner(_numbers(rows, None, path), path)


def pts_blocks(stream: BufferedIOBase, path: Path, rows: int) -> Iterator[Columns]:
    """Yield what `read_pts` returns, so many lines at a time."""
    expected = count = 0
    for block in _line_blocks(stream, rows, path):
        lines = [line.strip() for line in block if line.strip()]
        points = [line for line in lines if not line.isdecimal()]
        expected += sum(int(line) for line in lines if line.isdecimal())
        count += len(points)
        if points:
            yield _by_scanner(_numbers(points, None, path), path)
    if expected and count != expected:
        raise cut_short(path, expected, count, "points")


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
            raise cut_short(path, count, len(rows), "points")
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
    colours = table[:, -3:] if width > 4 else None
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
        raise cut_short(path, vertices, len(rows), "vertices")
    table = _numbers(rows, None, path) if rows else np.zeros((0, 3))
    normals = table[:, 3:6] if "N" in kind and table.shape[1] >= 6 else None
    first = 6 if normals is not None else 3
    colours = None
    if "C" in kind and table.shape[1] >= first + 3:
        colours = table[:, first : first + 3]
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
        colours = _numbers(after, None, path)
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
        raise _binary(path)
    return data.decode("utf-8-sig", errors="replace").splitlines()


def _binary(path: Path) -> DataError:
    return DataError(
        f"read_points: {path} is binary, but {path.suffix} is a format of text. Was it renamed?"
    )


def _line_blocks(stream: BufferedIOBase, rows: int, path: Path) -> Iterator[list[str]]:
    """Yield so many lines at a time, as `_lines` decodes them."""
    head = stream.read(SIDE)
    stream.seek(0)
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    if b"\0" in head and not wide:
        raise _binary(path)
    encoding = "utf-16" if wide else "utf-8-sig"
    with TextIOWrapper(cast("IO[bytes]", stream), encoding, errors="replace") as text:
        while block := list(islice(text, rows)):
            yield block


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
