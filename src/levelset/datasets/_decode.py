"""Encoded pictures (PNG, JPEG, ...) to one array."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelset.errors import DataError

__all__ = ["SUFFIXES", "decode_all"]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
GREY = frozenset({"1", "L"})
# Pillow clips these to 8 bits without a word.
DEEP = ("I", "F")


def decode_all(encoded: Iterable[tuple[str, bytes]]) -> NDArray[np.uint8]:
    """Return pictures of one size as `(n, c, h, w)`, uint8.

    `c` is 1 if all are grey (modes `L` and `1`), else 3; transparency is dropped.

    Args:
        encoded: What to call each picture in messages, and its bytes.

    Raises:
        DataError: If one does not decode, has more than 8 bits a channel, or differs in size.
    """
    pictures: list[NDArray[Any]] = []
    first = ""
    for name, data in encoded:
        picture = _decode(name, data)
        first = first or name
        if pictures and picture.shape[:2] != pictures[0].shape[:2]:
            message = (
                f"read_images: all images must be of one size, got {_size(pictures[0])} in {first} "
                f"and {_size(picture)} in {name}. Resize them first, or give a "
                "`module:callable` that resizes as it reads."
            )
            raise DataError(message)
        pictures.append(picture)
    if all(picture.ndim == 2 for picture in pictures):
        return np.stack(pictures)[:, None]
    coloured = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pictures]
    return np.stack(coloured).transpose(0, 3, 1, 2)


def _decode(name: str, data: bytes) -> NDArray[Any]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode.startswith(DEEP):
                message = (
                    f"read_images: {name} must have 8 bits a channel, got Pillow's mode "
                    f"{picture.mode!r}. Convert it, or give a `module:callable` that reads it."
                )
                raise DataError(message)
            return np.asarray(picture.convert("L" if picture.mode in GREY else "RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow raises whatever the damaged bytes lead to
        message = (
            f"read_images: {name} does not decode as an image ({error}). "
            "The file is damaged or is no image: replace or remove it."
        )
        raise DataError(message) from error


def _size(picture: NDArray[Any]) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
