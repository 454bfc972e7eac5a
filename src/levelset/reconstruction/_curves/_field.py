"""Curves as the zero set of a smooth module: local frames, blended."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.checks import check_points
from levelset._typing import Floats, Points
from levelset.errors import ShapeError
from levelset.reconstruction._curves._smoothing import SmoothCurve

__all__ = ["CurveField"]


_MOST_ANCHORS = 2_000


class CurveField(nn.Module):
    r"""A field $F: R^d \to R^{d-1}$ whose zero set is a smooth curve, near it.

    $$F(x) = \sum_i w_i(x)\, \bigl[N_i (x - c_i) - \tfrac12 b_i\, (T_i \cdot (x - c_i))^2\bigr],
      \qquad w(x) = \operatorname{softmax}_i \bigl(-|x - c_i|^2 / 2h^2\bigr)$$

    Anchors $c_i$ lie on the curve, h apart, each with the tangent $T_i$, the d - 1 normals $N_i$
    of a frame that turns as little as it can, and the bend $b_i$ of the curve in those. So |F| is
    the distance from the curve to first order. In the plane F has one value, the signed distance:
    negative inside a closed curve.

    It has no training behind it, and is a module all the same: anchors, normals and bends are
    parameters, so that `attach` and any loss of level sets go on from here. An open curve goes on
    beyond its ends; half-way between strands F can have other zeros.

    Cost: one product of matrices, points by anchors.
    """

    @checked
    def __init__(self, curves: list[SmoothCurve]) -> None:
        """Take the anchors from smooth curves, all at the same distance.

        Args:
            curves: One or more.
        """
        super().__init__()
        lengths = [_length(curve) for curve in curves]
        count = sum(8 * len(curve.coefficients) for curve in curves)
        step = sum(lengths) / min(count, _MOST_ANCHORS)
        parts = [
            _frames(curve, max(round(length / step), 8))
            for curve, length in zip(curves, lengths, strict=True)
        ]
        anchors, tangents, normals, bends = (
            torch.from_numpy(np.concatenate(part)).float() for part in zip(*parts, strict=True)
        )
        self.anchors = nn.Parameter(anchors)
        self.normals = nn.Parameter(normals)
        self.bends = nn.Parameter(bends)
        self.tangents: Tensor
        self.width: Tensor
        self.register_buffer("tangents", tangents)
        self.register_buffer("width", torch.tensor(step, dtype=torch.float32))

    def forward(self, points: Points) -> Tensor:
        """Return the values `(n, d - 1)` at points `(n, d)`."""
        check_points("CurveField", points)
        if points.dim() != 2 or points.shape[1] != self.anchors.shape[1]:
            shape = f"(n, {self.anchors.shape[1]}), got {tuple(points.shape)}"
            message = f"CurveField: `points` must have the shape {shape}."
            raise ShapeError(message)
        cross = points @ self.anchors.T
        # The squares of the points are the same for all anchors, and softmax is blind to them.
        square = (self.anchors**2).sum(1) - 2.0 * cross
        weights = functional.softmax(-0.5 * square / self.width**2, dim=1)
        along = points @ self.tangents.T - (self.anchors * self.tangents).sum(1)
        off = torch.einsum("nd,mld->nml", points, self.normals)
        off = off - torch.einsum("md,mld->ml", self.anchors, self.normals)
        return torch.einsum("nm,nml->nl", weights, off - 0.5 * along[..., None] ** 2 * self.bends)


def _length(curve: SmoothCurve) -> float:
    row = curve.at(np.linspace(0.0, 1.0, 16 * len(curve.coefficients)))
    return float(np.linalg.norm(np.diff(row, axis=0), axis=1).sum())


def _frames(curve: SmoothCurve, count: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return places `(m, d)`, tangents, normals `(m, d - 1, d)` and bends `(m, d - 1)`."""
    places = curve.evenly(count)
    anchors, speed, second = (curve.at(places, k) for k in range(3))
    size = np.linalg.norm(speed, axis=1, keepdims=True)
    tangents = speed / np.maximum(size, 1e-300)
    bend = (second - (second * tangents).sum(1, keepdims=True) * tangents) / size**2
    if anchors.shape[1] == 2:
        normals = _outward(anchors, tangents, curve.closed)[:, None]
    else:
        normals = _least_turning(anchors, tangents, curve.closed)
    return anchors, tangents, normals, np.einsum("mld,md->ml", normals, bend)


def _outward(anchors: Floats, tangents: Floats, closed: bool) -> Floats:
    """Return the normals to the right, or of a closed curve those outward."""
    normals = np.stack([tangents[:, 1], -tangents[:, 0]], 1)
    x, y = anchors.T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    return -normals if closed and area < 0 else normals


def _least_turning(anchors: Floats, tangents: Floats, closed: bool) -> Floats:
    """Return two normals at each anchor, by double reflection; closed frames meet themselves.

    References:
        - W. Wang et al., "Computation of rotation minimizing frames", ACM Trans. Graph. 27 (2008).
    """
    first = np.eye(3)[np.abs(tangents[0]).argmin()]
    normal = np.cross(tangents[0], first)
    normals = [normal / np.linalg.norm(normal)]
    rows = [*range(1, len(anchors)), 0] if closed else range(1, len(anchors))
    for k in rows:
        step = anchors[k] - anchors[k - 1]
        mirrored = _mirror(normals[-1], step)
        tangent = _mirror(tangents[k - 1], step)
        normals.append(_mirror(mirrored, tangents[k] - tangent))
    one = np.stack(normals)
    if closed:
        # What the frame turned in one round is taken back evenly.
        back, one = one[-1], one[:-1]
        other = np.cross(tangents[0], one[0])
        turn = np.arctan2(back @ other, back @ one[0]) * np.arange(len(one)) / len(one)
        side = np.cross(tangents, one)
        one = np.cos(turn)[:, None] * one - np.sin(turn)[:, None] * side
    return np.stack([one, np.cross(tangents, one)], 1)


def _mirror(vector: Floats, across: Floats) -> Floats:
    square = float(across @ across)
    return vector - 2.0 * (across @ vector) / square * across if square > 0 else vector
