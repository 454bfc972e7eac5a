"""Arrays in one file: NumPy's `.npy` and `.npz`, and images in Parquet tables."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._tools.reading import check_size, check_zip
from levelset.datasets._arrays import images_from_arrays, labels_and_classes
from levelset.datasets._decode import decode_all
from levelset.datasets._images import Images, Split
from levelset.errors import DataError

__all__ = ["array_header", "read_array", "read_npz", "read_parquet"]

IMAGE_KEYS = ("images", "points", "x")
LABEL_KEYS = ("labels", "y")
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"
LABEL = 8  # bytes
OBJECTS = 256
"""Bytes that a row of a table takes while it is read, beside its picture."""


def read_npz(file: Path, *, split: Split, limit: int | None, name: str) -> Images:
    """Return the images of a NumPy archive.

    Arrays are `images`, `points` or `x`, with `labels` or `y`; or Keras' `x_train`, `y_train`,
    `x_test`, `y_test`, of which `split` takes its own (an archive without them serves for
    either). `classes`, strings, names the classes. Nothing is unpickled.

    Raises:
        DataError: If an array is missing, damaged, too large, pickled, or not what images are.
    """
    arrays = _load_npz(file, split)
    points, labels = (
        _first(arrays, (f"{letter}_{split}", *keys), file)
        for letter, keys in (("x", IMAGE_KEYS), ("y", LABEL_KEYS))
    )
    classes = arrays.get("classes")
    return images_from_arrays(
        points,
        labels,
        source=str(file),
        name=name,
        classes=None if classes is None else [str(c) for c in classes.ravel()],
        limit=limit,
    )


def read_parquet(file: Path, *, limit: int | None, name: str) -> Images:
    """Return the images of a Parquet table, `(n, c, h, w)`, as the Hugging Face hub writes them.

    The column `image` or `img` holds encoded pictures: their bytes, or structs of `bytes` and
    `path`; `label` holds integers. Names of classes come from the hub's metadata, if present.

    Raises:
        DataError: If a column is missing, or the file or one of its pictures damaged.
    """
    # pyarrow takes a quarter of a second to import, and most runs read no Parquet.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            column = _image_column(table.schema_arrow.names, file)
            check_size(LABEL * table.metadata.num_rows, f"read_images: {file}: its labels")
            rows = table.metadata.num_rows if limit is None else min(limit, table.metadata.num_rows)
            check_size(OBJECTS * rows, f"read_images: {file}: the whole of its {rows} rows")
            labels = table.read(columns=[LABEL_COLUMN])[LABEL_COLUMN]
            cells = _first_cells(table, column, limit, file)
            classes = _hub_classes(table.schema_arrow.metadata)
    except (OSError, pa.ArrowException) as error:
        message = f"read_images: {file} is damaged or no Parquet table ({error})."
        raise DataError(message) from error
    if labels.null_count:
        message = f"read_images: {file} has {labels.null_count} rows without a label."
        raise DataError(message)
    checked, names = labels_and_classes(labels.to_numpy(), classes, where=f"read_images: {file}")
    encoded = ((f"row {row} of {file}", _bytes_of(c, row, file)) for row, c in enumerate(cells))
    return images_from_arrays(
        decode_all(encoded, count=len(cells)),
        checked[: len(cells)],
        source=str(file),
        name=name,
        classes=names,
    )


def _load_npz(file: Path, split: Split) -> dict[str, NDArray[Any]]:
    names = {f"x_{split}", f"y_{split}", "classes", *IMAGE_KEYS, *LABEL_KEYS}
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            needed = {key: name for key, name in members.items() if key in names}
            check_zip(archive, f"read_images: {file}", list(needed.values()))
            arrays = {key: _member(archive, name, file) for key, name in needed.items()}
            # for the message when an array is missing
            return arrays | {key: np.empty(0) for key in members if key not in names}
    except (DataError, MemoryError):
        raise
    # One bare array, no NumPy file, and many kinds of damage
    except Exception as error:
        message = (
            f"read_images: {file} is damaged, or no archive of plain arrays as `np.savez` writes "
            f"({error}). Pickled objects are refused: unpickling runs code."
        )
        raise DataError(message) from error


def _member(archive: zipfile.ZipFile, name: str, file: Path) -> NDArray[Any]:
    with archive.open(name) as stream:
        array = read_array(stream, archive.getinfo(name).file_size)
        stream.read(1)  # the end, where the checksum is compared
        return array


def _first(arrays: dict[str, NDArray[Any]], keys: tuple[str, ...], file: Path) -> NDArray[Any]:
    for key in keys:
        if key in arrays:
            return arrays[key]
    message = (
        f"read_images: {file} must hold one of the arrays {', '.join(keys)}, "
        f"got {', '.join(sorted(arrays)) or 'none'}."
    )
    raise DataError(message)


def _image_column(names: list[str], file: Path) -> str:
    column = next((name for name in IMAGE_COLUMNS if name in names), None)
    if column is None or LABEL_COLUMN not in names:
        message = (
            f"read_images: {file} must have the columns `image` (or `img`) and `label`, "
            f"got {', '.join(names)}."
        )
        raise DataError(message)
    return column


def _first_cells(table: Any, column: str, limit: int | None, file: Path) -> list[Any]:
    """Return the first cells of a column, a few at a time: one may stand for many in the file."""
    cells: list[Any] = []
    size = 0
    for batch in table.iter_batches(batch_size=64, columns=[column]):
        cells += batch.column(0).to_pylist()
        size += batch.nbytes
        check_size(size, f"read_images: {file}", on_disk=file.stat().st_size)
        if limit is not None and len(cells) >= limit:
            return cells[:limit]
    return cells


def _bytes_of(cell: object, row: int, file: Path) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        message = (
            f"read_images: {file} must hold encoded images as bytes, or as structs with the field "
            f"`bytes`, got {type(data).__name__} in row {row}."
        )
        raise DataError(message)
    return data


def _hub_classes(metadata: dict[bytes, bytes] | None) -> list[str] | None:
    """Return the names of classes that the hub's `ClassLabel` left in the schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[LABEL_COLUMN]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


# Headers of version 3 differ from 2 in the names of fields alone, which plain numbers have not.
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}


def array_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape of the array in a stream, whether columns are contiguous, and its type.

    Raises:
        ValueError: If it has no such header, or holds pickled objects.
    """
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version} of NumPy's format")
    shape, is_by_columns, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("the array holds pickled objects")
    return shape, is_by_columns, dtype


def read_array(stream: Any, size: int) -> NDArray[Any]:
    """Return the array in a stream of `size` bytes. Nothing is unpickled.

    Raises:
        ValueError: If it has no such header, holds pickled objects, or fewer bytes than its header
            says. NumPy raises others too, over damaged headers.
    """
    shape, _, dtype = array_header(stream)
    size_left = size - stream.tell()
    promised = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or promised > size_left:
        raise ValueError(
            f"its header promises {promised} bytes after itself, there are {size_left}"
        )
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
