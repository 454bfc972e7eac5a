"""IDX folders: the format of MNIST and its successors."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levelset._tools.reading import check_size
from levelset.datasets._arrays import images_from_arrays
from levelset.datasets._images import Images, Split
from levelset.errors import DataError

__all__ = ["is_idx_folder", "read_idx"]

PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
MORE = 1 << 16  # bytes beyond the promised that are counted
UNSIGNED_BYTE = 8  # the code of the type in the third byte of the magic number
CLASSES = {
    "fashion-mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
}


def is_idx_folder(folder: Path) -> bool:
    """Tell whether the folder holds IDX files of either split under MNIST's names."""
    return any(
        _find(folder, split, kind) is not None
        for split in PREFIXES
        for kind in ("images", "labels")
    )


def read_idx(folder: Path, *, split: Split, limit: int | None, name: str) -> Images:
    """Return the images of an IDX folder, `(n, 1, h, w)`.

    Both files are read whole, so that a truncated one is noticed whatever the `limit`. The format
    carries no names of classes: they are the numbers, but for Fashion-MNIST, known by its folder.

    Raises:
        DataError: If a file is missing, truncated, too large, or not what its header says.

    References:
        - Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    images_file = _find_or_fail(folder, split, "images")
    labels_file = _find_or_fail(folder, split, "labels")
    return images_from_arrays(
        _parse(images_file, axes=3),
        _parse(labels_file, axes=1),
        source=f"{images_file} with {labels_file.name}",
        name=name,
        classes=CLASSES.get(folder.resolve().name),
        limit=limit,
    )


def _names(split: Split, kind: str) -> list[str]:
    axes = 3 if kind == "images" else 1
    stem = f"{PREFIXES[split]}-{kind}"
    return [f"{stem}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]


def _find(folder: Path, split: Split, kind: str) -> Path | None:
    candidates = (folder / name for name in _names(split, kind))
    return next((path for path in candidates if path.is_file()), None)


def _find_or_fail(folder: Path, split: Split, kind: str) -> Path:
    path = _find(folder, split, kind)
    if path is None:
        message = (
            f"read_images: the IDX folder {folder} has no {kind} of the {split} split: "
            f"expected {_names(split, kind)[0]}, with or without .gz."
        )
        raise DataError(message)
    return path


def _parse(path: Path, *, axes: int) -> NDArray[Any]:
    try:
        with path.open("rb") as raw:
            stream: Any = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
            return _parse_stream(stream, path, axes)
    except (OSError, EOFError, zlib.error) as error:
        message = (
            f"read_images: {path} is damaged, truncated or unreadable ({error}). Fetch it again."
        )
        raise DataError(message) from error


def _parse_stream(stream: Any, path: Path, axes: int) -> NDArray[Any]:
    """Read the header, and no more than it promises."""
    head = stream.read(4 + 4 * axes)
    if len(head) < 4 + 4 * axes or head[:4] != bytes([0, 0, UNSIGNED_BYTE, axes]):
        message = (
            f"read_images: {path} must be an IDX file of unsigned bytes with {axes} "
            f"{'axis' if axes == 1 else 'axes'} (magic number {2048 + axes}), "
            f"got the first bytes {head[:4].hex(' ') or 'of an empty file'}."
        )
        raise DataError(message)
    shape = struct.unpack(f">{axes}I", head[4:])
    promised = math.prod(shape)
    check_size(promised, f"read_images: {path}", on_disk=path.stat().st_size)
    data = stream.read(promised)
    there = len(data) + len(stream.read(MORE))
    if there != promised:
        message = (
            f"read_images: {path} is truncated or damaged: its header promises {promised} bytes "
            f"after itself, there are {there}{' or more' * (there >= promised + MORE)}. "
            "Fetch it again."
        )
        raise DataError(message)
    return np.frombuffer(data, np.uint8).reshape(shape)
