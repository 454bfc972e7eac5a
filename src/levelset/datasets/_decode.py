"""Encoded pictures (PNG, JPEG, ...) to one array."""

import io
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from levelset._tools.reading import check_size
from levelset.errors import DataError

__all__ = ["SUFFIXES", "decode_all"]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
# Others that Pillow knows are left out: it gives EPS to Ghostscript, which runs it.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
PER_PIXEL = 16  # bytes: 4 for Pillow's own copy, 12 for three channels of float32
GREY = frozenset({"1", "L"})
# Pillow clips these to 8 bits without a word.
DEEP = ("I", "F")


def decode_all(encoded: Iterable[tuple[str, bytes]], *, count: int = 0) -> NDArray[np.uint8]:
    """Return pictures of one size as `(n, c, h, w)`, uint8.

    `c` is 1 if all are grey (modes `L` and `1`), else 3; transparency is dropped.

    Args:
        encoded: What to call each picture in messages, and its bytes.
        count: How many come, where that is known: too many are refused at the first.

    Raises:
        DataError: If one does not decode, has more than 8 bits a channel, differs in size, or if
            one, or all together, would take too much memory.
    """
    pictures: list[NDArray[Any]] = []
    first = ""
    for name, data in encoded:
        picture = _decode(name, data)
        first = first or name
        together = f"read_images: {name} with the {len(pictures)} images before it"
        if count > len(pictures) + 1:
            together = f"read_images: a stack of {count} images such as {name}"
        check_size(
            max(count, len(pictures) + 1) * picture.size, f"{together} (`limit` takes fewer)"
        )
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
        with _any_size(), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_size(PER_PIXEL * picture.width * picture.height, f"read_images: {name}")
            if picture.mode.startswith(DEEP):
                message = (
                    f"read_images: {name} must have 8 bits a channel, got Pillow's mode "
                    f"{picture.mode!r}. Convert it, or give a `module:callable` that reads it."
                )
                raise DataError(message)
            return np.asarray(picture.convert("L" if picture.mode in GREY else "RGB"))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever the damaged bytes lead to
        message = (
            f"read_images: {name} does not decode as an image ({error}). "
            "The file is damaged or is no image: replace or remove it."
        )
        raise DataError(message) from error


@contextmanager
def _any_size() -> Generator[None, None, None]:
    """Put our own limit, which the user can raise, in the place of Pillow's."""
    most = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


def _size(picture: NDArray[Any]) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
