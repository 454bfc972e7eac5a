"""PCD files of the Point Cloud Library: text and plain binary."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset.datasets._points_types import Columns, columns_of
from levelset.errors import DataError

__all__ = ["read_pcd"]

LONGEST_HEADER = 1 << 16
POINT = ("x", "y", "z")
NORMAL = ("normal_x", "normal_y", "normal_z")
MOST = 1 << 40  # points: more than any file holds
MOST_NUMBERS = 1 << 20  # a point
KINDS = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path) -> Columns:
    """Return the points, and normals if there are the fields `normal_x, normal_y, normal_z`.

    Raises:
        DataError: If the file is no PCD, compressed, cut short, or has no x, y, z.
    """
    data = path.read_bytes()
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
    if kind == "ascii":
        table = _from_text(data[start:], dtype, count, path)
    elif kind == "binary":
        there = max(len(data) - start, 0) // max(dtype.itemsize, 1)
        if there < count:
            raise DataError(_cut_short(path, count, there))
        table = np.frombuffer(data, dtype, count, start)
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


def _from_text(data: bytes, dtype: np.dtype[Any], count: int, path: Path) -> NDArray[Any]:
    lines = [line for line in data.decode("latin-1").splitlines() if line.strip()]
    if len(lines) < count:
        raise DataError(_cut_short(path, count, len(lines)))
    widths = [int(np.prod(dtype[name].shape)) for name in dtype.names or ()]
    if not count:
        return np.zeros(0, dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = np.loadtxt(lines[:count], dtype=np.float64, ndmin=2, comments=None)
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


def _cut_short(path: Path, expected: int, there: int) -> str:
    return (
        f"read_points: {path} is cut short: {expected:,} points announced, {there:,} there. "
        "Copy or export it again."
    )
