"""Ellipsoids, in any number of dimensions."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_columns, check_positive
from levelset._typing import Mask, PerPoint, Points

__all__ = ["Ellipsoid"]


@checked
@dataclass(frozen=True)
class Ellipsoid:
    r"""The ellipsoid with half-axes $a_i$ as $F(x) = \sqrt{\sum_i (x_i/a_i)^2} - 1$.

    Negative inside. F is *not* a distance: that is `distance`.

    Attributes:
        axes: The half-axes, `d` positive numbers.
    """

    axes: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the axes."""
        for axis in self.axes:
            check_positive("Ellipsoid", "axes", axis)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the values of `(n, d)`."""
        return (points / self._axes(points)).norm(dim=1) - 1.0

    @checked
    def project(self, points: Points) -> Points:
        r"""Return the nearest points of the ellipsoid.

        The nearest point is $y_i = a_i^2 x_i / (t + a_i^2)$ with t the largest root of
        $\sum_i (a_i x_i / (t + a_i^2))^2 = 1$, bracketed and bisected to the last bit, in
        float64. Points where $x_i$ vanishes on the shortest axis may have two nearest points; one
        of them is returned.

        References:
            - D. Eberly, "Distance from a Point to an Ellipse, an Ellipsoid, or a Hyperellipsoid",
              2013: the equation of t and its bracket.
        """
        x, a = points.double().abs(), self._axes(points).double()
        shortest = int(a.argmin())
        above = a * a - a[shortest] * a[shortest]
        # The unknown is t plus the square of the shortest axis, which near the symmetry planes is
        # many orders of magnitude below either.
        low, high = _bracket(a * x, above)
        for _ in range(1100):  # the exponents of float64, halved away at worst
            middle = (low + high) / 2
            if bool(((middle == low) | (middle == high)).all()):
                break
            outside = (a * x / (middle + above)).square().sum(1, keepdim=True) > 1.0
            low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
        gap = high + above
        nearest = torch.where(gap > 0, a * a * x / torch.where(gap > 0, gap, 1.0), 0.0)
        # On the symmetry planes the shortest axis takes up what the equation leaves over.
        rest = (1.0 - (nearest / a).square().sum(1)).clamp(min=0.0)
        lifted = torch.where(high[:, 0] == 0, a[shortest] * rest.sqrt(), nearest[:, shortest])
        nearest[:, shortest] = lifted
        return torch.copysign(nearest.to(points.dtype), points)

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the ellipsoid."""
        return (points - self.project(points)).norm(dim=1)

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie within."""
        return self(points) <= 0

    def volume(self) -> float:
        """Return the volume enclosed."""
        d = len(self.axes)
        return math.pi ** (d / 2) / math.gamma(d / 2 + 1) * math.prod(self.axes)

    def _axes(self, points: Tensor) -> Tensor:
        check_columns("Ellipsoid", points, len(self.axes))
        return torch.tensor(self.axes, dtype=points.dtype, device=points.device)


def _bracket(scaled: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the ends `(n, 1)` between which the root u of $\sum_i (s_i/(u + b_i))^2 = 1$ lies.

    s is `scaled`, `(n, d)`, not negative; b is `above`, `(d,)`, zero on the shortest axes. These
    alone bound u from below; from above too where the others, which shrink with u, leave them
    room at u = 0.
    """
    short = above == 0
    low = torch.where(short, scaled, 0.0).norm(dim=1, keepdim=True)
    others = torch.where(short, 0.0, scaled / torch.where(short, 1.0, above))
    room = 1.0 - others.square().sum(1, keepdim=True) - 1e-14  # so that rounding cannot cut off u
    reached = low / torch.where(room > 0, room, 1.0).sqrt()
    high = torch.where(room > 0, reached, scaled.norm(dim=1, keepdim=True))
    return low, torch.maximum(low, high)
