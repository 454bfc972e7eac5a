"""PCD: a header that names the columns, then rows in text or bytes."""

from collections.abc import Iterator
from dataclasses import replace
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._typing import Floats
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

__all__ = ["pcd_blocks", "read_pcd"]

LONGEST_HEADER = 1 << 16
POINT = ("x", "y", "z")
NORMAL = ("normal_x", "normal_y", "normal_z")
NOWHERE = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]  # a viewpoint that programs write unasked
KINDS = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path) -> Columns:
    """Return the points, and normals if there are the fields `normal_x, normal_y, normal_z`.

    Raises:
        DataError: If the file is no PCD, compressed, cut short, or has no x, y, z.
    """
    data = path.read_bytes()
    words, dtype, count, start = _layout(data, path)
    if words["DATA"][0].lower() == "ascii":
        table = _of_lines(data[start:], dtype, count, path)
    else:
        table = rows_in_bytes(data, start, dtype, count, path, "points")
    return _of_rows(table, words, path)


def pcd_blocks(stream: BufferedIOBase, path: Path, rows: int) -> Iterator[Columns] | None:
    """Return what `read_pcd` does, so many points at a time; `None` for text."""
    words, dtype, count, start = _layout(stream.read(LONGEST_HEADER), path)
    if words["DATA"][0].lower() == "ascii":
        return None
    tables = rows_in_blocks(stream, start, dtype, count, rows, path, "points")
    return (_of_rows(table, words, path) for table in tables)


def _layout(data: bytes, path: Path) -> tuple[dict[str, list[str]], np.dtype[Any], int, int]:
    """Return the words of the header, the layout of a point, how many there are, and where."""
    words, start = _header(data, path)
    try:
        dtype = _dtype(words)
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
    if kind not in ("ascii", "binary"):
        message = (
            f"read_points: {path} is PCD of the kind {kind}, which is not read. Convert it: "
            "`pcl_convert_pcd_ascii_binary in.pcd out.pcd 1`."
        )
        raise DataError(message)
    return words, dtype, count, start


def _of_rows(table: NDArray[Any], words: dict[str, list[str]], path: Path) -> Columns:
    """Return the columns of a table of points, with their sensor if the header says it."""
    points = columns_of(table, POINT)
    if points is None:
        message = (
            f"read_points: {path} must have the fields x, y and z, got "
            f"{', '.join(words['FIELDS'])}."
        )
        raise DataError(message)
    columns = with_extras(points, table, ())
    sensor = _viewpoint(words, path)
    if sensor is None:
        return columns
    return replace(columns, sensors=np.broadcast_to(sensor, points.shape))


def _viewpoint(words: dict[str, list[str]], path: Path) -> Floats | None:
    """Return where the sensor was, `(3,)`, or `None` if the header has what stands for unknown."""
    said = words.get("VIEWPOINT", [])
    try:
        place = np.array([float(word) for word in said])
        if len(place) not in (0, 7) or not np.isfinite(place).all():
            raise ValueError(f"{len(place)} numbers")
    except ValueError as error:
        message = (
            f"read_points: {path} has a header that is no PCD's: VIEWPOINT must be 7 numbers, got "
            f"{' '.join(said)}."
        )
        raise DataError(message) from error
    return None if place.tolist() in ([], NOWHERE) else place[:3]


def _header(data: bytes, path: Path) -> tuple[dict[str, list[str]], int]:
    """Return the words of each line by its first, and where the data begin."""
    words: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in words:
        end = data.find(b"\n", start, LONGEST_HEADER)
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


def _dtype(words: dict[str, list[str]]) -> np.dtype[Any]:
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


def _of_lines(data: bytes, dtype: np.dtype[Any], count: int, path: Path) -> NDArray[Any]:
    lines = [line for line in data.decode("latin-1").splitlines() if line.strip()]
    if len(lines) < count:
        raise cut_short(path, count, len(lines), "points")
    widths = [int(np.prod(dtype[name].shape)) for name in dtype.names or ()]
    if not count:
        return np.zeros(0, dtype)
    try:
        table = table_of_lines(lines[:count])
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
