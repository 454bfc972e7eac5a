"""PLY: a header that names the columns of its elements, then rows in text or bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BufferedIOBase, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from levelset.datasets._columns import Columns
from levelset.datasets._records import (
    MOST,
    MOST_NUMBERS,
    columns_of,
    cut_short,
    rows_in_blocks,
    rows_in_bytes,
    table_of_lines,
    with_extras,
)
from levelset.errors import DataError

__all__ = ["ply_blocks", "read_ply"]

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
FACES = ("face", "tristrips")
LONGEST_HEADER = 1 << 20


@dataclass
class _Element:
    """One element of a PLY file: such as its vertices.

    Attributes:
        name: Such as `vertex`.
        count: How many.
        names: Of its properties.
        types: Of its properties, as NumPy writes them; of lists that of their length and that of
            their items, with a blank between.
    """

    name: str
    count: int
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    @property
    def has_lists(self) -> bool:
        return any(" " in kind for kind in self.types)

    def dtype(self, order: str, lengths: dict[str, int] | None = None) -> np.dtype[Any]:
        """Return the layout of a row whose lists have these lengths; without, of its numbers."""
        parts: list[Any] = []
        for name, kind in zip(self.names, self.types, strict=True):
            if " " not in kind:
                parts.append((name, order + kind))
            elif lengths is not None:
                count, item = kind.split()
                parts.append((f"{name} length", order + count))
                parts.append((f"{name} items", order + item, (lengths[name],)))
        return np.dtype(parts)


def read_ply(path: Path) -> Columns:
    """Return the vertices, and normals `nx, ny, nz` if they are properties.

    Faces and strips of triangles are passed over, with a word in the notes.

    Raises:
        DataError: If the file is no PLY, cut short, or has no x, y, z.
    """
    data = path.read_bytes()
    order, elements, start = _header(data, path)
    return _of_vertices(_vertices(data, start, order, elements, path), elements, path)


def ply_blocks(stream: BufferedIOBase, path: Path, rows: int) -> Iterator[Columns] | None:
    """Return what `read_ply` does, so many vertices at a time; `None` if lists are in the way."""
    order, elements, start = _header(stream.read(LONGEST_HEADER), path)
    before, vertices = _up_to_vertices(elements, path)
    if any(element.has_lists for element in (*before, vertices)):
        return None
    if order:
        start += sum(element.count * element.dtype(order).itemsize for element in before)
        dtype = vertices.dtype(order)
        tables = rows_in_blocks(stream, start, dtype, vertices.count, rows, path, "vertices")
    else:
        stream.seek(start)
        tables = _text_tables(stream, sum(e.count for e in before), vertices, rows, path)
    return (_of_vertices(table, elements, path) for table in tables)


def _text_tables(
    stream: BufferedIOBase, skipped: int, element: _Element, rows: int, path: Path
) -> Iterator[NDArray[Any]]:
    """Yield the rows of an element in text, so many at a time."""
    with TextIOWrapper(cast("IO[bytes]", stream), "latin-1") as text:
        lines = islice(text, skipped, None)
        for first in range(0, element.count, rows):
            part = replace(element, count=min(rows, element.count - first))
            some = list(islice(lines, part.count))
            if len(some) < part.count:
                raise cut_short(path, element.count, first + len(some), "vertices")
            yield _of_lines(some, part, path)


def _of_vertices(table: NDArray[Any], elements: list[_Element], path: Path) -> Columns:
    """Return the columns of a table of vertices."""
    points = columns_of(table, ("x", "y", "z"))
    if points is None:
        message = (
            f"read_points: {path} must have the vertex properties x, y and z, got "
            f"{', '.join(table.dtype.names or ()) or 'none'}."
        )
        raise DataError(message)
    count = sum(element.count for element in elements if element.name == "vertex")
    notes = tuple(
        f"The file is a mesh of {element.count:,} {element.name} elements; only its "
        f"{count:,} vertices were used."
        for element in elements
        if element.name in FACES and element.count
    )
    return with_extras(points, table, notes)


def _header(data: bytes, path: Path) -> tuple[str, list[_Element], int]:
    """Return the byte order ("" for text), the elements, and where the data begin."""
    if data[:3] != b"ply" or data[3:4] not in (b"\n", b"\r"):
        message = f"read_points: {path} is no PLY file: it does not begin with the line `ply`."
        raise DataError(message)
    place = data.find(b"end_header", 0, LONGEST_HEADER)
    end = data.find(b"\n", place)
    if place < 0 or end < 0:
        message = f"read_points: {path} is cut short: its header does not end."
        raise DataError(message)
    order: str | None = None
    elements: list[_Element] = []
    for line in data[:place].decode("latin-1").splitlines()[1:]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = ORDERS[words[1]]
            elif words[:1] == ["element"]:
                elements.append(_Element(words[1], _count(words[2])))
            elif words[:1] == ["property"]:
                kinds = words[2:4] if words[1] == "list" else words[1:2]
                elements[-1].names.append(words[-1])
                elements[-1].types.append(" ".join(TYPES[kind] for kind in kinds))
        except (IndexError, KeyError, ValueError) as error:
            message = f"read_points: {path} has a header that is no PLY's: {line.strip()!r}."
            raise DataError(message) from error
    if order is None:
        message = f"read_points: {path} has a header that is no PLY's: no line `format`."
        raise DataError(message)
    return order, elements, end + 1


def _count(word: str) -> int:
    count = int(word)
    if not 0 <= count < MOST:
        raise ValueError(f"a count of {word}")
    return count


def _vertices(
    data: bytes, start: int, order: str, elements: list[_Element], path: Path
) -> NDArray[Any]:
    """Return the vertices as a structured array."""
    before, element = _up_to_vertices(elements, path)
    if not order:
        return _from_text(data[start:], sum(e.count for e in before), element, path)
    for passed in before:
        start = _rows_with_lists(data, start, order, passed, path)[1]
    if element.has_lists:
        return _rows_with_lists(data, start, order, element, path)[0]
    dtype = element.dtype(order)
    return rows_in_bytes(data, start, dtype, element.count, path, "vertices")


def _up_to_vertices(elements: list[_Element], path: Path) -> tuple[list[_Element], _Element]:
    """Return the elements before the vertices, and these."""
    names = [element.name for element in elements]
    if "vertex" not in names:
        message = f"read_points: {path} has no element `vertex`, so no points."
        raise DataError(message)
    place = names.index("vertex")
    return elements[:place], elements[place]


def _rows_with_lists(
    data: bytes, start: int, order: str, element: _Element, path: Path
) -> tuple[NDArray[Any], int]:
    """Return the numbers of each row of an element, without its lists, and where it ends."""
    dtype = element.dtype(order)
    if not element.has_lists:
        table = rows_in_bytes(data, start, dtype, element.count, path, f"{element.name} rows")
        return table, start + table.nbytes
    if not element.count:
        return np.zeros(0, dtype), start
    lengths = _first_lengths(data, start, order, element, path)
    whole = element.dtype(order, lengths)
    if start + element.count * whole.itemsize <= len(data):
        table = np.frombuffer(data, whole, element.count, start)
        # nearly always: all faces are triangles
        if all((table[f"{name} length"] == lengths[name]).all() for name in lengths):
            out = np.empty(element.count, dtype)
            for name in dtype.names or ():
                out[name] = table[name]
            return out, start + table.nbytes
    return _row_by_row(data, start, order, element, path)


def _first_lengths(
    data: bytes, start: int, order: str, element: _Element, path: Path
) -> dict[str, int]:
    """Return how long the lists of the first row are, by name."""
    lengths: dict[str, int] = {}
    for name, kind in zip(element.names, element.types, strict=True):
        count, _, item = kind.partition(" ")
        first = np.dtype(order + count)
        if start + first.itemsize > len(data):
            raise cut_short(path, element.count, 0, f"{element.name} rows")
        if item:
            lengths[name] = int(np.frombuffer(data, first, 1, start)[0])
            if not 0 <= lengths[name] <= MOST_NUMBERS:
                raise cut_short(path, element.count, 0, f"{element.name} rows")
            start += lengths[name] * np.dtype(item).itemsize
        start += first.itemsize
    return lengths


def _row_by_row(
    data: bytes, start: int, order: str, element: _Element, path: Path
) -> tuple[NDArray[Any], int]:
    """Return the numbers of rows whose lists differ in length, and where they end."""
    dtype = element.dtype(order)
    parts = []
    for row in range(element.count):
        try:
            lengths = _first_lengths(data, start, order, element, path)
        except DataError as error:
            raise cut_short(path, element.count, row, f"{element.name} rows") from error
        whole = element.dtype(order, lengths)
        if start + whole.itemsize > len(data):
            raise cut_short(path, element.count, row, f"{element.name} rows")
        one = np.frombuffer(data, whole, 1, start)[0]
        parts.append(tuple(one[name] for name in dtype.names or ()))
        start += whole.itemsize
    return np.array(parts, dtype), start


def _from_text(data: bytes, skipped: int, element: _Element, path: Path) -> NDArray[Any]:
    lines = data.decode("latin-1").split("\n", skipped + element.count)
    lines = lines[skipped : skipped + element.count]
    if not element.count:
        return np.zeros(0, element.dtype("<"))
    if len(lines) < element.count or not lines[-1].strip():
        count = sum(bool(line.strip()) for line in lines)
        raise cut_short(path, element.count, count, "vertices")
    return _of_lines(lines, element, path)


def _of_lines(lines: list[str], element: _Element, path: Path) -> NDArray[Any]:
    """Return the rows of an element, from a line each."""
    try:
        table = table_of_lines(_without_lists(lines, element) if element.has_lists else lines)
    except (ValueError, UserWarning) as error:
        message = f"read_points: {path} has a vertex that is not {len(element.names)} numbers: "
        raise DataError(message + f"{error}.") from error
    names = element.dtype("<").names or ()
    if table.shape != (element.count, len(names)):
        message = (
            f"read_points: {path} must have {len(names)} numbers a vertex on "
            f"{element.count} lines, got {table.shape[1]} on {table.shape[0]}."
        )
        raise DataError(message)
    dtype = np.dtype([(name, "f8") for name in names])
    return np.ascontiguousarray(table).view(dtype)[:, 0]


def _without_lists(lines: list[str], element: _Element) -> list[str]:
    """Return rows of text without the lists in them."""
    rest = []
    for line in lines:
        cells = iter(line.split())
        row = []
        for kind in element.types:
            cell = next(cells, "missing")
            if " " not in kind:
                row.append(cell)
            else:
                for _ in range(int(cell)):
                    next(cells, None)
        rest.append(" ".join(row))
    return rest
