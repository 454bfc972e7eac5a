"""How far random directions lead before the class changes."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._intersection import close_bracket
from levelset._tools.medians import median
from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset._tools.rounding import rounding
from levelset._typing import Bounds, Labels, Model, Points, Progress, Summary
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["RandomDirections", "random_direction"]

# Lengths that are tried grow by this factor, over this many steps: from a thousandth of the reach.
_GROWTH, _LENGTHS = 2.0 ** (1.0 / 3.0), 30
# In a bounded box, the lengths go to this many diagonals: nearly every entry is at its side then.
_DIAGONALS = 4.0
_CLOSING_STEPS = 24
# Entries of all rays that are followed at once.
_ELEMENTS = 2**24


@dataclass(frozen=True, eq=False, repr=False)
class RandomDirections(Attack):
    """The nearest points of another class along random directions.

    Attributes:
        along: L2 norm of the shortest perturbation found along each direction, forwards or
            backwards, `(n, draws)`: 0 where the input was misclassified to begin with, infinity
            where the class never changed. `distance` is the least of each row.
    """

    _headline: ClassVar = ("points", "norm", "success", "directions", "along_2_median")

    along: Float[Tensor, "n draws"]

    def summary(self) -> Summary:
        """Return the numbers of the attack, and the median over all directions.

        A direction along which nothing was found counts as longer than any other.
        """
        numbers = super().summary()
        directions = self.along[self.distance > 0].flatten()
        numbers["directions"] = len(directions)
        numbers["directions_missed"] = int(directions.isinf().sum())
        if len(directions):
            numbers["along_2_median"] = median(directions)
        return numbers


@attack()
def random_direction(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    bounds: Bounds | None = None,
    draws: int = 1,
    reach: float | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> RandomDirections:
    r"""Measure the distance to the boundary along directions drawn uniformly from the sphere.

    $$r_v(x) = \operatorname*{argmin}_{r = \alpha v,\ \alpha \in \mathbb{R}} \lVert r \rVert_2
      \quad \text{subject to} \quad \hat k(x + r) \ne \hat k(x), \qquad
      v \sim U(\mathbb{S}^{e-1}).$$

    Each direction is followed both ways, at lengths that grow by a quarter, until the class
    changes; then the crossing is closed in on to the resolution of the dtype. A class that
    changes and changes back between two lengths is missed. In a box the point is clipped on its
    way, entry by entry, and the norm is that of what is left; with `bounds=(-inf, inf)` it is
    Eq. 2 to the letter.

    This is robustness to noise: the median of `along` is what one draw of noise needs, far more
    than an adversary does. The nearest of many draws, `distance`, is a weak attack.

    Cost: at most 30 forward passes a direction and way, about 8 more to close in; no gradient.

    Args:
        draws: Directions an input.
        reach: Longest way along a direction, before clipping, in the units of the points; `None`
            for four diagonals of the box.
        progress: Called as `progress(done, total)` in inputs.

    Returns:
        The nearest points, and the distance along each direction.

    Raises:
        ParameterError: If `draws` is not positive, or the box is unbounded and no `reach` given.

    Example:
        >>> import torch
        >>> from levelset.attacks import random_direction
        >>> model = torch.nn.Linear(1, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> _ = model.bias.data.zero_()
        >>> random_direction(model, torch.tensor([[0.5]]), bounds=(-1.0, 1.0)).along
        tensor([[0.5000]])

    References:
        - Alonso & Bonin, Eq. 2, after A. Fawzi, S.-M. Moosavi-Dezfooli, P. Frossard, "The
          robustness of deep networks: a geometrical perspective", 2017.
    """
    problem = Problem("random_direction", model, points, labels, targets, 2.0, bounds, batch_size)
    rays = _Directions(problem, _reach(problem, reach))
    streams = Streams(generator, points)
    along = points.new_zeros(len(points), draws)
    rows = problem.open()
    size = max(_ELEMENTS // (2 * draws * max(points[0:1].numel(), 1)), 1)
    for part in torch.split(rows, size) if len(rows) else ():
        along[part] = rays.follow(part, streams, draws)
        if progress is not None:
            progress(int((rows <= part[-1]).sum()), len(rows))
    return RandomDirections(**vars(problem.result()), along=along)


class _Directions:
    """Ways out of inputs, clipped to the box, two for each direction."""

    def __init__(self, problem: Problem, reach: float) -> None:
        self.problem, self.reach = problem, reach

    def follow(self, rows: Tensor, streams: Streams, draws: int) -> Tensor:
        """Return the distance along each direction, `(m, draws)`; offer the nearest points."""
        shape = tuple(self.problem.points.shape[1:])
        normal = streams.normal(rows, (draws, *shape)).flatten(0, 1)
        units = normal / column(norm_of(normal, 2.0), normal)
        units = torch.stack([units, -units], 1).flatten(0, 1)
        owner = rows.repeat_interleave(2 * draws)
        near, far, (inner, outer) = self._bracket(owner, units)
        crossed = outer.isfinite()
        closed = units.new_full((len(owner),), torch.inf)
        if crossed.any():
            ends = inner[crossed], outer[crossed]
            far[crossed], outer[crossed] = self._close(
                owner[crossed], near[crossed], far[crossed], ends
            )
            closed[crossed] = norm_of(far[crossed] - self.problem.points[owner[crossed]], 2.0)
        nearest = closed.view(len(rows), -1).argmin(1)
        index = torch.arange(len(rows), device=rows.device)
        best = far.view(len(rows), 2 * draws, *shape)[index, nearest]
        self.problem.offer(rows, best, outer.view(len(rows), -1)[index, nearest])
        return closed.view(len(rows), draws, 2).amin(2)

    def _bracket(
        self, owner: Tensor, units: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return the last points before the first change of class, those after, and both margins.

        A ray on which the margin is not finite ends there; where no class changed, the second
        margin is infinite.
        """
        near = self.problem.points[owner]
        far = near.clone()
        inner, outer = self.problem.margins[owner], units.new_full((len(units),), math.inf)
        left = torch.arange(len(owner), device=units.device)
        for step in range(_LENGTHS + 1):
            if len(left) == 0:
                break
            length = self.reach * _GROWTH ** (step - _LENGTHS)
            points = self.problem.clip(self.problem.points[owner[left]] + length * units[left])
            margin = self._margin(owner[left], points)
            # Twice the depth that the bracket aims at: no rounding takes the end out of it.
            across = margin < -2.0 * self.problem.rounding[owner[left]]
            far[left[across]], outer[left[across]] = points[across], margin[across]
            before = left[margin > 0]
            near[before], inner[before] = points[margin > 0], margin[margin > 0]
            left = left[~across & margin.isfinite()]
        return near, far, (inner, outer)

    def _close(
        self, owner: Tensor, near: Tensor, far: Tensor, ends: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return points across, as near to the boundary as rounding allows, and their margins."""
        depth = torch.maximum(self.problem.rounding[owner], self._rounding(near, far, ends))
        # Where rounding reaches as far as the bracket does, its end is as near as can be told.
        level = torch.minimum(1.5 * depth, 0.75 * -ends[1])
        closed = close_bracket(
            self.problem.field, near, far, self.problem.anchors(owner), level=-level,
            tol=level / 3.0, max_iter=_CLOSING_STEPS, ends=ends,
        )  # fmt: skip
        self.problem.forwards.index_add_(0, owner, closed.iterations)
        # The inner end of a bracket that closed on its level is across as well, and nearer.
        inner = closed.near_value <= level / 3.0
        point = torch.where(column(inner, near), closed.near, closed.far)
        return point, torch.where(inner, closed.near_value, closed.far_value) - level

    def _rounding(self, near: Tensor, far: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
        """Return how far rounding can move the margins between two ends of rays, `(m,)`.

        No gradient is taken, but its norm is about the slope along a random direction times the
        root of the dimension.
        """
        slope = (ends[0] - ends[1]) / norm_of(far - near, 2.0)
        gradient = (slope * math.sqrt(near[0].numel())).unsqueeze(1)
        size = norm_of(far, math.inf)
        return rounding(gradient, size.unsqueeze(1), 0.0 * size, self.problem.eps)

    def _margin(self, owner: Tensor, points: Tensor) -> Tensor:
        self.problem.forwards.index_add_(0, owner, torch.ones_like(owner))
        return self.problem.field.values(points, self.problem.anchors(owner)).squeeze(1)


def _reach(problem: Problem, reach: float | None) -> float:
    if reach is not None:
        return reach
    width = float((problem.high - problem.low).max())
    if not math.isfinite(width):
        message = (
            "random_direction: `reach` must be given where the box is unbounded, got None. Say how "
            "far to follow a direction, in the units of the points."
        )
        raise ParameterError(message)
    return _DIAGONALS * width * math.sqrt(max(problem.points[0:1].numel(), 1))
