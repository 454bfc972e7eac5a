"""PLY and PCD: a header that names the columns, then rows in text or bytes."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._typing import Floats
from levelset.errors import DataError

__all__ = ["Columns", "columns_of", "read_pcd", "read_ply"]

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
FACES = ("face", "tristrips")
LONGEST_HEADER = 1 << 20
MOST = 1 << 40  # elements: more than any file holds
LONGEST_PCD_HEADER = 1 << 16
POINT = ("x", "y", "z")
NORMAL = ("normal_x", "normal_y", "normal_z")
MOST_NUMBERS = 1 << 20  # a point
KINDS = {"F": "f", "I": "i", "U": "u"}


@dataclass(frozen=True)
class Columns:
    """Points as they lie in a file, not yet checked.

    Attributes:
        points: `(n, 2)` or `(n, 3)`, of any number type.
        normals: `(n, 3)`, or `None`.
        notes: What the user should know, in sentences.
    """

    points: NDArray[Any]
    normals: NDArray[Any] | None
    notes: tuple[str, ...] = ()


def columns_of(table: NDArray[Any], names: tuple[str, ...]) -> Floats | None:
    """Return three fields of a structured array as `(n, 3)`, or `None` if one is missing."""
    if not set(names) <= set(table.dtype.names or ()):
        return None
    return np.stack([table[name].astype(np.float64) for name in names], axis=1)


@dataclass
class _Element:
    """One element of a PLY file: such as its vertices.

    Attributes:
        name: Such as `vertex`.
        count: How many.
        names: Of its properties.
        types: Of its properties, as NumPy writes them; `list` for lists.
    """

    name: str
    count: int
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def dtype(self, order: str) -> np.dtype[Any]:
        return np.dtype([(n, order + t) for n, t in zip(self.names, self.types, strict=True)])


def read_ply(path: Path) -> Columns:
    """Return the vertices, and normals `nx, ny, nz` if they are properties.

    Faces and strips of triangles are passed over, with a word in the notes.

    Raises:
        DataError: If the file is no PLY, cut short, or has no x, y, z.
    """
    data = path.read_bytes()
    order, elements, start = _header(data, path)
    table = _vertices(data, start, order, elements, path)
    points = columns_of(table, ("x", "y", "z"))
    if points is None:
        message = (
            f"read_points: {path} must have the vertex properties x, y and z, got "
            f"{', '.join(table.dtype.names or ()) or 'none'}."
        )
        raise DataError(message)
    notes = tuple(
        f"The file is a mesh of {element.count:,} {element.name} elements; only its "
        f"{len(points):,} vertices were used."
        for element in elements
        if element.name in FACES and element.count
    )
    return Columns(points, columns_of(table, ("nx", "ny", "nz")), notes)


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
                is_list = words[1] == "list"
                elements[-1].names.append(words[-1])
                elements[-1].types.append("list" if is_list else TYPES[words[1]])
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
    before: list[_Element] = []
    for element in elements:
        if element.name == "vertex":
            break
        before.append(element)
    else:
        message = f"read_points: {path} has no element `vertex`, so no points."
        raise DataError(message)
    lists = ["list" in e.types for e in before]
    if "list" in element.types or (order and any(lists)):
        message = (
            f"read_points: {path} keeps lists among or before its vertices, which is not read. "
            "Export the points again, without them."
        )
        raise DataError(message)
    if not order:
        return _from_text(data[start:], sum(e.count for e in before), element, path)
    start += sum(e.count * e.dtype(order).itemsize for e in before)
    dtype = element.dtype(order)
    return _from_bytes(data, start, dtype, element.count, path, "vertices")


def _from_bytes(
    data: bytes, start: int, dtype: np.dtype[Any], count: int, path: Path, what: str
) -> NDArray[Any]:
    rows = max(len(data) - start, 0) // max(dtype.itemsize, 1)
    if rows < count:
        raise _cut_short(path, count, rows, what)
    return np.frombuffer(data, dtype, count, start)


def _from_text(data: bytes, skipped: int, element: _Element, path: Path) -> NDArray[Any]:
    lines = data.decode("latin-1").split("\n", skipped + element.count)
    lines = lines[skipped : skipped + element.count]
    if not element.count:
        return np.zeros(0, element.dtype("<"))
    if len(lines) < element.count or not lines[-1].strip():
        count = sum(bool(line.strip()) for line in lines)
        raise _cut_short(path, element.count, count, "vertices")
    try:
        table = _numbers(lines)
    except (ValueError, UserWarning) as error:
        message = f"read_points: {path} has a vertex that is not {len(element.names)} numbers: "
        raise DataError(message + f"{error}.") from error
    if table.shape != (element.count, len(element.names)):
        message = (
            f"read_points: {path} must have {len(element.names)} numbers a vertex on "
            f"{element.count} lines, got {table.shape[1]} on {table.shape[0]}."
        )
        raise DataError(message)
    dtype = np.dtype([(name, "f8") for name in element.names])
    return np.ascontiguousarray(table).view(dtype)[:, 0]


def _numbers(lines: list[str]) -> Floats:
    """Return rows of numbers as a table; a warning of NumPy is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None)


def _cut_short(path: Path, expected: int, count: int, what: str) -> DataError:
    return DataError(
        f"read_points: {path} is cut short: {expected:,} {what} announced, {count:,} there. "
        "Copy or export it again."
    )


def read_pcd(path: Path) -> Columns:
    """Return the points, and normals if there are the fields `normal_x, normal_y, normal_z`.

    Raises:
        DataError: If the file is no PCD, compressed, cut short, or has no x, y, z.
    """
    data = path.read_bytes()
    words, start = _pcd_header(data, path)
    try:
        dtype = _pcd_dtype(words)
        count = int(words["POINTS"][0])
        if not 0 <= count < MOST:
            raise ValueError(f"a number of {count} points")
        kind = words["DATA"][0].lower()
    except (KeyError, IndexError, ValueError, TypeError) as error:
        message = f"read_points: {path} has a header that is no PCD's ({error})."
        raise DataError(message) from error
    for name in (*POINT, *NORMAL):
        if name in (dtype.names or ()) and dtype[name].shape:
            message = (
                f"read_points: {path} must have one number in the field {name}, got "
                f"{dtype[name].shape[0]}."
            )
            raise DataError(message)
    if kind == "ascii":
        table = _pcd_rows(data[start:], dtype, count, path)
    elif kind == "binary":
        table = _from_bytes(data, start, dtype, count, path, "points")
    else:
        message = (
            f"read_points: {path} is PCD of the kind {kind}, which is not read. Convert it: "
            "`pcl_convert_pcd_ascii_binary in.pcd out.pcd 1`."
        )
        raise DataError(message)
    points = columns_of(table, POINT)
    if points is None:
        message = (
            f"read_points: {path} must have the fields x, y and z, got "
            f"{', '.join(words['FIELDS'])}."
        )
        raise DataError(message)
    return Columns(points, columns_of(table, NORMAL))


def _pcd_header(data: bytes, path: Path) -> tuple[dict[str, list[str]], int]:
    """Return the words of each line by its first, and where the data begin."""
    words: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in words:
        end = data.find(b"\n", start, LONGEST_PCD_HEADER)
        if end < 0:
            message = (
                f"read_points: {path} is no PCD file, or cut short: its header has no line `DATA`."
            )
            raise DataError(message)
        parts = data[start:end].decode("latin-1").split()
        if parts and not parts[0].startswith("#"):
            words[parts[0]] = parts[1:]
        start = end + 1
    return words, start


def _pcd_dtype(words: dict[str, list[str]]) -> np.dtype[Any]:
    """Return the layout of a point; padding fields share a name, so all are numbered."""
    fields = words["FIELDS"]
    counts = words.get("COUNT", ["1"] * len(fields))
    parts: list[Any] = []
    for place, (name, size, kind, count) in enumerate(
        zip(fields, words["SIZE"], words["TYPE"], counts, strict=True)
    ):
        own = name if name != "_" and name not in fields[:place] else f"_{place}"
        layout = f"<{KINDS[kind]}{int(size)}"
        if not 0 < int(count) <= MOST_NUMBERS:
            raise ValueError(f"a field of {count} numbers")
        parts.append((own, layout) if int(count) == 1 else (own, layout, (int(count),)))
    return np.dtype(parts)


def _pcd_rows(data: bytes, dtype: np.dtype[Any], count: int, path: Path) -> NDArray[Any]:
    lines = [line for line in data.decode("latin-1").splitlines() if line.strip()]
    if len(lines) < count:
        raise _cut_short(path, count, len(lines), "points")
    widths = [int(np.prod(dtype[name].shape)) for name in dtype.names or ()]
    if not count:
        return np.zeros(0, dtype)
    try:
        table = _numbers(lines[:count])
        if table.shape[1] != sum(widths):
            raise ValueError(f"{table.shape[1]} columns for {sum(widths)} numbers a point")
    except (ValueError, UserWarning) as error:
        message = f"read_points: {path} has a point that does not fit its header: {error}."
        raise DataError(message) from error
    out = np.zeros(count, [(name, "f8") for name in dtype.names or ()])
    first = 0
    for name, width in zip(dtype.names or (), widths, strict=True):
        out[name] = table[:, first]
        first += width
    return out
