r"""The region $x_1 \ge 0, \dots, x_k \ge 0$, whose boundary is k planes at right angles."""

import math
from dataclasses import dataclass

import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive
from levelset._typing import Mask, PerPoint, Points
from levelset.errors import ParameterError, ShapeError

__all__ = ["Orthant"]


@checked
@dataclass(frozen=True)
class Orthant:
    r"""The orthant $W = \{x : x_1 \ge 0, \dots, x_k \ge 0\}$ in d dimensions, as a field.

    F is the signed distance from its boundary, negative inside: $-\min_i x_i$ there, and the
    length of the negative part of $(x_1, \dots, x_k)$ outside. For k = 1 it is a half-space.

    Attributes:
        k: How many coordinates must not be negative.
        d: Number of dimensions, at least k.
    """

    k: int
    d: int

    def __post_init__(self) -> None:
        """Check the numbers of planes and dimensions."""
        if not 1 <= self.k <= self.d:
            message = f"Orthant: `k` must lie in 1 to d = {self.d}, got {self.k}."
            raise ParameterError(message)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the signed distances of `(n, d)`."""
        bounded = self._bounded(points)
        outside = (-bounded).clamp(min=0)
        return torch.where((outside > 0).any(1), outside.norm(dim=1), -bounded.amin(1))

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie in the orthant or on its boundary."""
        return (self._bounded(points) >= 0).all(1)

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the boundary."""
        return self(points).abs()

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points of the boundary; where several are, one of them."""
        bounded = self._bounded(points)
        inside = self.contains(points)
        nearest = torch.nn.functional.one_hot(bounded.argmin(1), self.k).bool()
        moved = torch.where(inside.unsqueeze(1), bounded.masked_fill(nearest, 0.0), bounded)
        return torch.cat([moved.clamp(min=0), points[:, self.k :]], dim=1)

    @checked
    def stability(self, distance: float, sigma: float) -> float:
        r"""Return the share of $N(x, \sigma^2 I)$ inside, for x inside at one distance of all k.

        $$\bigl(\tfrac12 (1 + \operatorname{erf}(d / (\sqrt2 \sigma)))\bigr)^k$$

        Args:
            distance: From each of the k planes, positive.
            sigma: The noise.

        References:
            - B. Bell, "Neighborhoods of Adversarial Examples", 2023: proposition 4.3.
        """
        check_positive("Orthant.stability", "distance", distance)
        check_positive("Orthant.stability", "sigma", sigma)
        return float(ndtr(distance / sigma) ** self.k)

    @checked
    def persistence(self, distance: float, gamma: float) -> float:
        r"""Return the noise at which the share inside is gamma, for x at one distance of all k.

        $$\sigma^*_\gamma = d / (\sqrt2 \operatorname{erf}^{-1}(2 \gamma^{1/k} - 1))$$

        Infinity for gamma up to $2^{-k}$, which the share never falls to.

        Args:
            distance: From each of the k planes, positive.
            gamma: The share, between 0 and 1.

        References:
            - B. Bell, "Neighborhoods of Adversarial Examples", 2023: proposition 4.3.
        """
        check_positive("Orthant.persistence", "distance", distance)
        if not 0.0 < gamma < 1.0:
            message = (
                "Orthant.persistence: `gamma` must lie between 0 and 1, both excluded, "
                f"got {gamma}."
            )
            raise ParameterError(message)
        level = float(ndtri(gamma ** (1.0 / self.k)))
        return distance / level if level > 0 else math.inf

    def _bounded(self, points: Tensor) -> Tensor:
        if points.dim() != 2 or points.shape[1] != self.d:
            message = (
                f"Orthant: `points` must have the shape (n, {self.d}), got {tuple(points.shape)}."
            )
            raise ShapeError(message)
        return points[:, : self.k]
