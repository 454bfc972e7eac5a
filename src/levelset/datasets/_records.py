"""Rows of named numbers, in bytes or text, as PLY and PCD have them."""

import warnings
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._typing import Floats
from levelset.datasets._columns import Columns, by_name, others
from levelset.errors import DataError

__all__ = [
    "MOST",
    "MOST_NUMBERS",
    "columns_of",
    "cut_short",
    "rows_in_blocks",
    "rows_in_bytes",
    "table_of_lines",
    "with_extras",
]

MOST = 1 << 40  # rows: more than any file holds
MOST_NUMBERS = 1 << 20  # a row


def columns_of(table: NDArray[Any], names: tuple[str, ...]) -> Floats | None:
    """Return three fields of a structured array as `(n, 3)`, or `None` if one is missing."""
    if not set(names) <= set(table.dtype.names or ()):
        return None
    return np.stack([table[name].astype(np.float64) for name in names], axis=1)


def with_extras(points: Floats, table: NDArray[Any], notes: tuple[str, ...]) -> Columns:
    """Return the points with normals, colours and scalars, by the names of the fields."""
    names = [name for name in table.dtype.names or () if not table.dtype[name].shape]
    places = {key: tuple(names[k] for k in rows) for key, rows in by_name(names).items()}
    normals = columns_of(table, places["normals"]) if "normals" in places else None
    colours = None
    if "colours" in places:
        colours = np.stack([table[name] for name in places["colours"]], axis=1)
    scalars = {name: table[name].astype(np.float64) for name in others(names)}
    return Columns(points, normals, notes, colours, scalars=scalars)


def rows_in_blocks(
    stream: BufferedIOBase,
    start: int,
    dtype: np.dtype[Any],
    count: int,
    rows: int,
    path: Path,
    what: str,
) -> Iterator[NDArray[Any]]:
    """Yield `count` rows of bytes, so many at a time."""
    stream.seek(start)
    for first in range(0, count, rows):
        wanted = min(rows, count - first)
        data = stream.read(wanted * dtype.itemsize)
        if len(data) < wanted * dtype.itemsize:
            raise cut_short(path, count, first + len(data) // max(dtype.itemsize, 1), what)
        yield np.frombuffer(data, dtype, wanted)


def rows_in_bytes(
    data: bytes, start: int, dtype: np.dtype[Any], count: int, path: Path, what: str
) -> NDArray[Any]:
    """Return `count` rows of bytes that begin at `start`."""
    rows = max(len(data) - start, 0) // max(dtype.itemsize, 1)
    if rows < count:
        raise cut_short(path, count, rows, what)
    return np.frombuffer(data, dtype, count, start)


def table_of_lines(lines: list[str]) -> Floats:
    """Return rows of numbers as a table; a warning of NumPy is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.loadtxt(lines, dtype=np.float64, ndmin=2, comments=None)


def cut_short(path: Path, expected: int, count: int, what: str) -> DataError:
    """Return the error of a file that ends early."""
    return DataError(
        f"read_points: {path} is cut short: {expected:,} {what} announced, {count:,} there. "
        "Copy or export it again."
    )
