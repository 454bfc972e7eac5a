"""Angles at a boundary: between the facets around a point, and of a segment that crosses."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from levelset._intersection import intersect
from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.random import Streams
from levelset._tools.results import Rows
from levelset._typing import Counts, Field, FieldLabels, PerPoint, Points, Summary
from levelset.boundary._regions._balls import Balls, Near, angles_of, check_place, unit_gradients

__all__ = ["Skewness", "incidence", "skewness"]

# Normals nearer than this are one facet's.
_SAME = 1e-4
# How far beside a projected point its normal is taken, as a share of the draw: on an edge, where
# many projections end, a field has a gradient of neither facet.
_NUDGE = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class Skewness(Rows):
    """Angles between the normals that a boundary has around points.

    Attributes:
        largest: The largest angle of two normals met, in radians, `(n,)`: 0 on a plane, a right
            angle at the corner of an orthant, more where the region is acute.
        mean: Mean angle over all pairs of draws, `(n,)`.
        facets: Number of different normals, `(n,)`; on a piecewise-linear boundary that of the
            facets met.
    """

    _headline: ClassVar = ("points", "largest_median", "facets_median")

    largest: PerPoint
    mean: PerPoint
    facets: Counts

    def summary(self) -> Summary:
        """Return medians over the points."""
        numbers: Summary = {"points": len(self)}
        if len(self):
            numbers["largest_median"] = float(self.largest.median())
            numbers["mean_median"] = float(self.mean.median())
            numbers["facets_median"] = int(self.facets.median())
        return numbers


@checked
def skewness(
    field: Field,
    points: Points,
    *,
    radius: float,
    labels: FieldLabels = None,
    draws: int = 100,
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Skewness:
    r"""Measure the angles between the facets of a boundary around points.

    Points of a ball around each are projected onto the level set, and the normals there compared.
    Where the field is piecewise linear they are those of its facets to rounding; which facets are
    met is up to the draws. At the corner of the orthant the angle is a right one, at the edge of a
    wedge of angle $\theta$ it is $\pi/2 + \theta$.

    Cost: about four gradients a draw.

    Args:
        field: The field, one equation.
        points: On the zero level set, `(n, *d)`.
        radius: Of the balls, in the units of the points.
        labels: Passed to the field, `(n, ...)`.
        draws: Points in each ball.
        tol: Residual of the projected points, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of the draws; `None` for torch's global generator.

    Returns:
        Angles and numbers of facets.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: sections 25, 34 and 38, which name
          skewness and do not define it.
    """
    check_place("skewness", points, labels)
    check_positive("skewness", "radius", radius)
    check_at_least_one("skewness", "draws", draws)
    points = points.detach()
    parts = []
    with frozen(field):
        evaluator = Evaluator("skewness", field, batch_size)
        evaluator.value_and_jacobian(points[:1], None if labels is None else labels[:1])
        balls = Balls(
            "skewness", field, points, labels, radius, draws, tol, batch_size, nudge=_NUDGE
        )
        flat = points.new_zeros(len(points), points[:1].numel())
        parts = [_spread(near) for near in balls.of(Streams(generator, points), flat)]
    if not parts:
        empty = points.new_zeros(0)
        return Skewness(empty, empty.clone(), torch.zeros(0, dtype=torch.int64))
    largest, mean, facets = (torch.cat(column) for column in zip(*parts, strict=True))
    return Skewness(largest, mean, facets)


@checked
def incidence(
    field: Field,
    start: Points,
    end: Points,
    *,
    labels: FieldLabels = None,
    tol: float = 1e-5,
    batch_size: int | None = None,
) -> PerPoint:
    r"""Return the angle at which each segment meets the level set, from its normal, in radians.

    0 where a segment crosses at a right angle to the boundary, as the shortest attack does and the
    edge of two Delaunay neighbours between their Voronoi cells; $\pi/2$ where it grazes.

    Cost: about ten forward passes and one gradient a segment.

    Args:
        field: The field, one equation; of other signs at the two ends.
        start: One end of each segment, `(n, *d)`; as an input.
        end: The other, `(n, *d)`; as an attack on it.
        labels: Passed to the field, `(n, ...)`.
        tol: Residual of the crossing, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.

    Returns:
        The angles, `(n,)`, from 0 to $\pi/2$.

    Raises:
        BracketError: If a segment has both ends on one side.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.1 and section 36.
          The definition first says the angle between the line and its projection onto the plane,
          then that angle's complement, which is the one here.
    """
    crossing = intersect(field, start, end, labels=labels, tol=tol, batch_size=batch_size).points
    with frozen(field):
        unit = unit_gradients("incidence", field, crossing, labels, batch_size)
    along = (end - start).detach().flatten(1)
    return torch.minimum(angles_of(along, unit), angles_of(along, -unit))


def _spread(near: Near) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest and the mean angle of two normals, and how many normals differ."""
    first = near.gradients.double()
    # The chord of two unit vectors, from which small angles come exact.
    chord = torch.cdist(first, first, compute_mode="donot_use_mm_for_euclid_dist")
    angle = 2.0 * torch.asin((0.5 * chord).clamp(max=1.0))
    both = near.arrived.unsqueeze(2) & near.arrived.unsqueeze(1)
    angle = torch.where(both, angle, 0.0)
    pairs = (both.sum((1, 2)) - near.arrived.sum(1)).clamp(min=1)
    # A normal counts if none before it is the same.
    before = torch.ones_like(both).tril(-1)
    repeated = ((angle < _SAME) & both & before).any(2)
    facets = (near.arrived & ~repeated).sum(1)
    dtype = near.gradients.dtype
    largest = angle.amax((1, 2)) if angle.shape[1] else angle.sum((1, 2))
    return largest.to(dtype), (angle.sum((1, 2)) / pairs).to(dtype), facets
