"""Arrays in any common layout as checked images: units, channels first, labels, classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from levelset._tools.checks import first_rows
from levelset._typing import Integers, Singles
from levelset.datasets._images import Images
from levelset.errors import DataError

__all__ = ["as_array", "images_from_arrays", "labels_and_classes"]

MOST_CLASSES = 100_000  # larger labels are identifiers, not classes


def images_from_arrays(
    points: NDArray[Any],
    labels: NDArray[Any],
    *,
    source: str,
    name: str,
    classes: Sequence[str] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int | None = None,
) -> Images:
    """Return checked images.

    Args:
        points: `(n, *d)`. uint8 counts as pixels from 0 to 255 and is divided by 255, `(n, h, w)`
            and `(n, h, w, 1 or 3)` becoming channels first; floats are taken as they are.
        labels: `(n,)` or `(n, 1)`, integers.
        source: Where the arrays come from, for messages.
        name: What reports call the data.
        classes: Names of the classes; `None` for the numbers up to the largest label.
        bounds: Smallest and largest value allowed.
        limit: Keep this many from the front. All labels count for the classes all the same.

    Raises:
        DataError: If anything is not as described; the message names `source`.
    """
    where = f"read_images: {source}"
    flat, names = labels_and_classes(labels, classes, where=where)
    if points.ndim == 0 or len(points) != len(flat):
        count = len(points) if points.ndim else 0
        message = f"{where} holds {count} images but {len(flat)} labels: give one label an image."
        raise DataError(message)
    images = Images(
        points=torch.from_numpy(_points(points[:limit], where)),
        labels=torch.from_numpy(flat[:limit].copy()),
        classes=names,
        name=name,
        bounds=bounds,
    )
    _check_values(images, where)
    return images


def labels_and_classes(
    labels: NDArray[Any], classes: Sequence[str] | None, *, where: str
) -> tuple[Integers, tuple[str, ...]]:
    """Return checked labels, `(n,)`, and the names of their classes, by default the numbers."""
    flat = _labels(labels, where)
    return flat, _classes(flat, classes, where)


def as_array(value: object) -> NDArray[Any]:
    """Return a tensor, array or nested list as a NumPy array."""
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        # NumPy has no bfloat16
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return np.asarray(value)


def _points(array: NDArray[Any], where: str) -> Singles:
    if array.ndim < 2 or array.size == 0:
        message = (
            f"{where} must hold images of the shape (n, *d) with at least one value, "
            f"got {array.shape}."
        )
        raise DataError(message)
    if array.dtype == np.uint8:
        pixels = _channels_first(array)
        return np.divide(pixels, np.float32(255), dtype=np.float32, order="C")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows float32 is refused as infinite
            return array.astype(np.float32, order="C")
    message = (
        f"{where} must hold images as uint8 (0 to 255) or floating point (0 to 1), "
        f"got {array.dtype}. Convert them first."
    )
    raise DataError(message)


def _channels_first(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in {1, 3}:
        return array.transpose(0, 3, 1, 2)
    return array


def _labels(array: NDArray[Any], where: str) -> Integers:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1:
        message = (
            f"{where} must have labels of the shape (n,), got {array.shape}. "
            "For rows of scores or one-hot vectors, take the arg max first."
        )
        raise DataError(message)
    if len(flat) == 0:
        message = f"{where} is empty: it holds no labelled image."
        raise DataError(message)
    if flat.dtype.kind not in "iu":
        message = f"{where} must have integer labels, got {flat.dtype}."
        raise DataError(message)
    return flat.astype(np.int64)


def _classes(labels: Integers, classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    count = MOST_CLASSES if classes is None else len(classes)
    bad = (labels < 0) | (labels >= count)
    if bad.any():
        rows = first_rows(torch.from_numpy(bad))
        message = (
            f"{where} must have labels from 0 to {count - 1}, got {labels[bad][0]} "
            f"({int(bad.sum())} of {len(labels)} rows; first: {rows}). "
            "Number the classes from 0 and give a name to each."
        )
        raise DataError(message)
    if classes is None:
        return tuple(str(label) for label in range(int(labels.max()) + 1))
    return tuple(str(label) for label in classes)


def _check_values(images: Images, where: str) -> None:
    points, (low, high) = images.points, images.bounds
    bad = ~torch.isfinite(points).flatten(1).all(1)
    if bad.any():
        message = (
            f"{where} has NaN or infinite pixels in {int(bad.sum())} of {len(bad)} images "
            f"(first: {first_rows(bad)}). Repair or drop them."
        )
        raise DataError(message)
    extremes = float(points.min()), float(points.max())
    if extremes[0] < low or extremes[1] > high:
        message = (
            f"{where} must have values within {low:g} to {high:g}, "
            f"got values from {extremes[0]:g} to {extremes[1]:g}. Scale the data to these bounds "
            "(pixels / 255), leave normalisation to the model, or let a `module:callable` return "
            "`Images` with bounds of its own."
        )
        raise DataError(message)
