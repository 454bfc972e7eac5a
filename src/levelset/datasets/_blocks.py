"""Files of points read block by block, for those that are larger than the memory."""

import gzip
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np

from levelset.datasets._columns import Columns, placing
from levelset.datasets._pcd import pcd_blocks
from levelset.datasets._ply import ply_blocks
from levelset.datasets._scanners import e57_blocks, las_blocks
from levelset.datasets._tables import array_header
from levelset.datasets._text_points import pts_blocks, table_blocks

__all__ = ["blocks"]


@contextmanager
def blocks(path: Path, rows: int) -> Generator[Iterator[Columns] | None]:
    """Open a file of points, and hand out its points, so many at a time.

    `None` for formats, and kinds of them, that are read whole only: OBJ, OFF, PTX, NPZ, arrays
    whose columns lie one behind the other, text of PCD, and PLY with lists up to its vertices.
    A file packed by gzip is unpacked as it is read.

    Args:
        path: The file; its suffix says what it is.
        rows: Most points of a block.
    """
    packed = path.suffix.lower() == ".gz"
    suffix = Path(path.stem if packed else path.name).suffix.lower()
    if suffix in _FILES and not packed:
        yield _FILES[suffix](path, rows)
    elif suffix in _STREAMS:
        with gzip.open(path) if packed else path.open("rb") as stream:
            yield _STREAMS[suffix](stream, path, rows)
    else:
        yield None


def _npy_blocks(stream: BufferedIOBase, path: Path, rows: int) -> Iterator[Columns] | None:
    """Return the rows of an array, so many at a time; `None` unless they lie one after another."""
    try:
        shape, is_by_columns, dtype = array_header(stream)
    except ValueError:
        return None  # who reads it whole says why
    plain = dtype.kind in "fiu" and len(shape) == 2 and shape[1] in (2, 3, 6)
    return None if is_by_columns or not plain else _array_rows(stream, shape, dtype, rows)


def _array_rows(
    stream: BufferedIOBase, shape: tuple[int, ...], dtype: np.dtype[np.generic], rows: int
) -> Iterator[Columns]:
    layout = None
    for first in range(0, shape[0], rows):
        count = min(rows, shape[0] - first)
        data = stream.read(count * shape[1] * dtype.itemsize)
        table = np.frombuffer(data, dtype)[: count * shape[1]].reshape(count, shape[1])
        if shape[1] < 6:
            yield Columns(table, None)
            continue
        layout = layout or placing(table)
        yield layout.of(table)


_STREAMS: dict[str, Callable[[BufferedIOBase, Path, int], Iterator[Columns] | None]] = {
    ".ply": ply_blocks,
    ".pcd": pcd_blocks,
    ".npy": _npy_blocks,
    ".xyz": table_blocks,
    ".txt": table_blocks,
    ".csv": table_blocks,
    ".asc": table_blocks,
    ".pts": pts_blocks,
}
_FILES: dict[str, Callable[[Path, int], Iterator[Columns]]] = {
    ".las": las_blocks,
    ".laz": las_blocks,
    ".e57": e57_blocks,
}
