"""Labelled images, whatever they were read from."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.results import Rows
from levelset._typing import Labels, Points
from levelset.errors import ParameterError

__all__ = ["SPLITS", "Images", "Split"]

Split: TypeAlias = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Images(Rows):
    """Inputs of a classifier with their labels, in the data's own units.

    `images[rows]` cuts points and labels alike, by a mask, a slice or a list of rows.

    Attributes:
        points: The images, `(n, *d)`, float32, within `bounds`; `(n, c, h, w)` for pictures.
        labels: The class of each, `(n,)`, int64, from 0 to the number of classes - 1.
        classes: The names of the classes, in the order of the labels.
        name: What figures and reports call this data.
        bounds: Smallest and largest value that a point may have.

    Example:
        >>> from levelset.datasets import read_images
        >>> images = read_images("digits")
        >>> images
        Images(name='digits', points=(500, 1, 8, 8), classes=10)
        >>> images[images.labels == 7]
        Images(name='digits', points=(50, 1, 8, 8), classes=10)
    """

    _headline: ClassVar = ("name", "points", "classes")

    points: Points
    labels: Labels
    classes: tuple[str, ...]
    name: str
    bounds: tuple[float, float] = (0.0, 1.0)

    def summary(self) -> dict[str, int | float]:
        """Return the numbers that describe the data, ready for JSON."""
        return {"points": len(self), "classes": len(self.classes)}

    @checked
    def to(self, device: torch.device | str) -> "Images":
        """Return the same images, points and labels on a device."""
        try:
            device = torch.device(device)
        except RuntimeError as error:
            message = f"Images.to: `device` must name a device, such as 'cpu', got {device!r}."
            raise ParameterError(message) from error
        return replace(self, points=self.points.to(device), labels=self.labels.to(device))

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that two data sets share only if they are the same.

        The first quarter of a SHA-256 over points, labels and names of the classes: equal for equal
        data on every platform, different as soon as one pixel, label or order differs. The name
        and the bounds do not enter. Cost: about a second a gigabyte.
        """
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for tensor in (self.points, self.labels):
            array = _little_endian(tensor)
            digest.update(json.dumps([array.dtype.str, *array.shape]).encode())
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]


def _little_endian(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
