"""Normals of the boundary, three ways, and the radius at which it stops being a plane."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.modes import frozen
from levelset._tools.precision import at_least_single
from levelset._tools.random import Streams
from levelset._tools.results import Rows
from levelset._typing import Field, FieldLabels, PerPoint, Points, Summary
from levelset.boundary._regions._balls import Balls, Near, angles_of, check_place, unit_gradients
from levelset.errors import ParameterError, ShapeError

__all__ = ["Planarity", "angles", "normals", "planarity"]

Method = Literal["gradient", "displacement", "plane"]

# Draws for each coordinate of a point where a plane is fitted, and the least for anything.
_DRAWS_PLANE, _DRAWS = 2, 32


@checked
def normals(
    field: Field,
    points: Points,
    *,
    labels: FieldLabels = None,
    method: Method = "gradient",
    radius: float | None = None,
    draws: int | None = None,
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Points:
    r"""Return the unit normals of a level set at points of it, on the side where the field grows.

    `gradient`: $\nabla F / |\nabla F|$. `displacement`: the mean direction in which points of a
    ball around each move when they are projected, those from above turned round. `plane`: the
    direction across the plane that fits the projected points of the ball best, by total least
    squares. On a plane the three are one; elsewhere the last two average over the ball.

    Cost: one gradient a point; for the others about four a draw.

    Args:
        field: The field, one equation.
        points: On the zero level set, `(n, *d)`; for `gradient` anywhere.
        labels: Passed to the field, `(n, ...)`.
        method: `gradient`, `displacement` or `plane`.
        radius: Of the balls, in the units of the points; for `displacement` and `plane`.
        draws: Points in each ball; `None` for 32, and 2 e for `plane`.
        tol: Residual of the projected points, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of the draws; `None` for torch's global generator.

    Returns:
        The normals, `(n, *d)`; NaN where no draw reaches the level set.

    Raises:
        FieldError: If the gradient vanishes at a point, or the field has several equations.
        ParameterError: If `radius` is missing where it is needed, or there are too few draws.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 31.
    """
    check_place("normals", points, labels)
    points = points.detach()
    with frozen(field):
        unit = unit_gradients("normals", field, points, labels, batch_size)
        if method == "gradient":
            return unit.view_as(points)
        least = points[:1].numel() + 1 if method == "plane" else 1
        default = max(_DRAWS_PLANE * points[:1].numel() if method == "plane" else 0, _DRAWS)
        count = default if draws is None else draws
        if radius is None or count < least:
            message = (
                f"normals: `radius` must be given for `method={method!r}`, and `draws` be at least "
                f"{least}, got {radius} and {count}."
            )
            raise ParameterError(message)
        check_positive("normals", "radius", radius)
        balls = Balls("normals", field, points, labels, radius, count, tol, batch_size)
        across = [_across(method, near) for near in balls.of(Streams(generator, points), unit)]
    directions = torch.cat(across) if across else unit
    side = (directions * unit).sum(1, keepdim=True).sign()
    return (directions * torch.where(side == 0, 1.0, side)).view_as(points)


@checked
def angles(points: Points, others: Points) -> PerPoint:
    """Return the angle between each two vectors, in radians, `(n,)`; exact for small ones too.

    Args:
        points: Vectors, `(n, *d)`.
        others: Others, `(n, *d)`.

    Raises:
        ShapeError: If the shapes differ.
    """
    if points.shape != others.shape:
        message = (
            f"angles: `others` must have the shape of `points` {tuple(points.shape)}, got "
            f"{tuple(others.shape)}."
        )
        raise ShapeError(message)
    return angles_of(points.detach().flatten(1), others.detach().flatten(1))


@dataclass(frozen=True, eq=False, repr=False)
class Planarity(Rows):
    """How far the boundary around points is a plane.

    Attributes:
        angle: Mean angle between the normal at the point and those of the boundary at each radius,
            in radians, `(n, r)`.
        deviation: Root mean square distance of the boundary from the tangent plane, over the
            radius, `(n, r)`.
        radii: The radii, `(r,)`.
        radius: Where the mean angle first exceeds the limit, `(n,)`, interpolated; infinite if it
            does at none.
        limit: The limit of the angle, in radians.
    """

    _headline: ClassVar = ("points", "limit", "radius_median")

    angle: Tensor
    deviation: Tensor
    radii: Tensor
    radius: PerPoint
    limit: float

    def __getitem__(self, rows: Tensor | slice | list[int]) -> "Planarity":
        """Return the same result for a mask, slice or list of rows; the radii stay."""
        return Planarity(
            self.angle[rows], self.deviation[rows], self.radii, self.radius[rows], self.limit
        )

    def summary(self) -> Summary:
        """Return the median radius, and how many points are flat at all radii."""
        numbers: Summary = {"points": len(self), "limit": self.limit}
        if len(self):
            numbers["radius_median"] = float(
                self.radius.double().quantile(0.5, interpolation="lower")
            )
            numbers["flat_throughout"] = int(self.radius.isinf().sum())
        return numbers


@checked
def planarity(
    field: Field,
    points: Points,
    *,
    radii: Sequence[float] | Tensor,
    labels: FieldLabels = None,
    limit: float = 0.1,
    draws: int = 100,
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Planarity:
    r"""Measure at which radius a boundary stops being a plane.

    At each radius r points at distance r from x in the tangent plane, of random direction, are
    projected onto the level set; there the angle of the normal with that at x is taken, and the
    distance from the tangent plane. On a sphere of radius R the angle is $\arctan(r / R)$.

    Cost: about four gradients a draw and radius.

    Args:
        field: The field, one equation.
        points: On the zero level set, `(n, *d)`.
        radii: Increasing, `(r,)`, in the units of the points.
        labels: Passed to the field, `(n, ...)`.
        limit: Mean angle, in radians, beyond which the boundary counts as bent.
        draws: Points at each radius.
        tol: Residual of the projected points, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of the draws; `None` for torch's global generator.

    Returns:
        Angles, distances, and the radius.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 31, "at what radius of
          sample the decision boundary begins to show curvature".
    """
    check_place("planarity", points, labels)
    check_positive("planarity", "limit", limit)
    check_at_least_one("planarity", "draws", draws)
    sizes = _increasing(radii).to(points)
    points = points.detach()
    angle, deviation = [], []
    with frozen(field):
        unit = unit_gradients("planarity", field, points, labels, batch_size)
        streams = Streams(generator, points)
        for place, size in enumerate(sizes.tolist()):
            balls = Balls("planarity", field, points, labels, size, draws, tol, batch_size)
            rings = list(balls.of(streams, unit, in_tangent=True, index=place))
            none = points.new_zeros(0)
            angle.append(torch.cat([none, *(near.mean_angle() for near in rings)]))
            deviation.append(torch.cat([none, *(near.rms_height() / size for near in rings)]))
    table = torch.stack(angle, dim=1)
    return Planarity(
        angle=table,
        deviation=torch.stack(deviation, dim=1),
        radii=sizes,
        radius=_first_beyond(table, sizes, limit),
        limit=limit,
    )


def _across(method: Method, near: Near) -> Tensor:
    """Return one normal a point, `(m, e)`, of either sign."""
    kept = near.arrived.unsqueeze(2)
    if method == "displacement":
        # A draw on the level set itself does not move, and says nothing.
        length = torch.linalg.vector_norm(near.moves, dim=2, keepdim=True)
        unit = torch.where(kept & (length > 0), near.moves / length.clamp(min=1e-30), 0.0)
        mean = (unit * (unit * near.unit.unsqueeze(1)).sum(2, keepdim=True).sign()).sum(1)
        return mean / torch.linalg.vector_norm(mean, dim=1, keepdim=True)
    count = kept.sum(1, keepdim=True)
    middle = torch.where(kept, near.places, 0.0).sum(1, keepdim=True) / count
    flat = torch.where(kept, near.places - middle, 0.0)
    axes = torch.linalg.svd(at_least_single(flat), full_matrices=False).Vh
    normal = axes[:, -1].to(flat.dtype)
    return torch.where(count[:, 0] > flat.shape[2], normal, torch.nan)


def _first_beyond(table: Tensor, radii: Tensor, limit: float) -> Tensor:
    """Return the radius at which each row of angles first exceeds a limit, by interpolation."""
    zero = table.new_zeros(len(table), 1)
    angle, radius = torch.cat([zero, table], 1), torch.cat([radii.new_zeros(1), radii])
    beyond = angle > limit
    some = beyond.any(1)
    last = beyond.int().argmax(1).clamp(min=1)
    high, low = angle.gather(1, last[:, None])[:, 0], angle.gather(1, last[:, None] - 1)[:, 0]
    share = (limit - low) / torch.where(some, high - low, 1.0)
    reached = radius[last - 1] + share * (radius[last] - radius[last - 1])
    return torch.where(some, reached, math.inf)


def _increasing(radii: Sequence[float] | Tensor) -> Tensor:
    sizes = torch.as_tensor(radii, dtype=torch.float64)
    if sizes.dim() != 1 or not len(sizes) or not bool((sizes.diff() > 0).all() & (sizes > 0).all()):
        message = (
            "planarity: `radii` must be positive and increasing, as in (0.1, 0.2), got "
            f"{sizes.tolist()}."
        )
        raise ParameterError(message)
    return sizes
