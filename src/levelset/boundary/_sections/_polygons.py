"""Polygons that share corners."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from levelset._tools.results import Result
from levelset._typing import Summary
from levelset.boundary._sections._cells import ranges
from levelset.boundary._sections._plane import Rectangle

__all__ = ["Polygons", "rasterised"]


@dataclass(frozen=True, eq=False, repr=False)
class Polygons(Result):
    """Convex polygons of a plane, counter-clockwise, that share corners.

    `len` counts them, `polygons[i]` returns the corners of one, `(m, 2)`.

    Attributes:
        vertices: Corners, `(v, 2)`, float64.
        corners: Rows of `vertices`, one polygon after another, `(c,)`.
        offsets: Where each begins in `corners`, and the end, `(r + 1,)`.
    """

    _headline: ClassVar = ("polygons", "vertices", "area")

    vertices: Tensor
    corners: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Tensor:
        """Return the corners of one polygon, `(m, 2)`."""
        if not -len(self) <= index < len(self):
            message = f"polygon {index} of {len(self)}"
            raise IndexError(message)
        begin, end = self.offsets[index % len(self)], self.offsets[index % len(self) + 1]
        return self.vertices[self.corners[begin:end]]

    @property
    def areas(self) -> Tensor:
        """The area of each, `(r,)`."""
        sizes = self.offsets.diff()
        owner = torch.repeat_interleave(torch.arange(len(self)).to(sizes), sizes)
        base = self.vertices[self.corners[self.offsets[:-1]]]
        places = self.vertices[self.corners] - base[owner]
        following = torch.arange(1, len(self.corners) + 1).to(sizes)
        following[self.offsets[1:] - 1] = self.offsets[:-1]
        after = places[following]
        terms = places[:, 0] * after[:, 1] - places[:, 1] * after[:, 0]
        return torch.zeros(len(self)).to(terms).index_add(0, owner, terms) / 2

    @property
    def euler(self) -> int:
        """Corners less edges plus polygons: 1 where they fill a disc without gap or overlap."""
        following = torch.arange(1, len(self.corners) + 1).to(self.corners)
        following[self.offsets[1:] - 1] = self.offsets[:-1]
        ends = self.corners[following]
        low, high = torch.minimum(self.corners, ends), torch.maximum(self.corners, ends)
        edges = len(torch.unique(low * len(self.vertices) + high))
        return len(torch.unique(self.corners)) - edges + len(self)

    def summary(self) -> Summary:
        """Return how many polygons and corners there are, and the area in all."""
        return {
            "polygons": len(self),
            "vertices": len(self.vertices),
            "area": float(self.areas.sum()),
        }


def rasterised(polygons: Polygons, values: Tensor, extent: Rectangle, resolution: int) -> Tensor:
    """Return the value of the polygon round each pixel's centre, `(resolution, resolution)`.

    Rows go along the second coordinate, columns along the first, both upwards.

    Args:
        polygons: Polygons that fill the rectangle.
        values: One a polygon, `(r,)`.
        extent: The rectangle of the picture, `((left, right), (bottom, top))`.
        resolution: Pixels a side.
    """
    (left, right), (bottom, top) = extent
    places = polygons.vertices.cpu().numpy()
    scale = resolution / np.array([right - left, top - bottom])
    places = (places - [left, bottom]) * scale - 0.5
    corners, offsets = polygons.corners.cpu().numpy(), polygons.offsets.cpu().numpy()
    owner = np.repeat(np.arange(len(polygons)), np.diff(offsets))
    following = np.arange(1, len(corners) + 1)
    following[offsets[1:] - 1] = offsets[:-1]
    ends = corners[following]
    # Counter-clockwise, edges go up on the right of a polygon and down on its left.
    up = places[ends, 1] > places[corners, 1]
    low, high = np.where(up, corners, ends), np.where(up, ends, corners)
    first = np.clip(np.ceil(places[low, 1]), 0, resolution).astype(int)
    stop = np.clip(np.ceil(places[high, 1]), 0, resolution).astype(int)
    counts = np.maximum(stop - first, 0)
    row = np.repeat(first, counts) + ranges(counts)
    edge = np.repeat(np.arange(len(corners)), counts)
    (x0, y0), (x1, y1) = places[low[edge]].T, places[high[edge]].T
    x = x0 + (x1 - x0) * ((row - y0) / (y1 - y0))
    column = np.clip(np.ceil(x), 0, resolution).astype(int)
    order = np.lexsort((up[edge], row, owner[edge]))
    begin, end = column[order[0::2]], column[order[1::2]]
    length = np.maximum(end - begin, 0)
    pixel = np.repeat(row[order[0::2]] * resolution + begin, length) + ranges(length)
    picture = values.new_zeros(resolution**2)
    which = torch.from_numpy(np.repeat(owner[edge[order[0::2]]], length)).to(values.device)
    picture[torch.from_numpy(pixel).to(values.device)] = values[which]
    return picture.view(resolution, resolution)
