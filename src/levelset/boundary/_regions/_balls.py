"""The level set in balls around points of it: draws projected, their moves and normals."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._projection import project
from levelset._tools.batches import row_batches
from levelset._tools.checks import check_finite, check_points, check_same_rows
from levelset._tools.evaluation import Evaluator
from levelset._tools.random import Streams
from levelset._typing import Field
from levelset.boundary._second_order._refusals import check_gradient
from levelset.errors import ShapeError

__all__ = ["Balls", "Near", "angles_of", "check_place", "unit_gradients"]

# Numbers in the draws that are projected together.
_TOGETHER = 2**22


@dataclass(frozen=True, eq=False)
class Near:
    """The level set around some points: `s` draws at each of `m`.

    Attributes:
        moves: From where each was drawn to the level set, `(m, s, e)`.
        places: Where it is then, less the point, `(m, s, e)`.
        gradients: Unit gradients there, `(m, s, e)`.
        arrived: Which reached the level set, `(m, s)`.
        unit: Unit gradients at the points, `(m, e)`.
    """

    moves: Tensor
    places: Tensor
    gradients: Tensor
    arrived: Tensor
    unit: Tensor

    def mean_angle(self) -> Tensor:
        """Return the mean angle with the normal at the point, `(m,)`."""
        unit = self.unit.unsqueeze(1).expand_as(self.gradients)
        return self._mean(angles_of(self.gradients, unit))

    def rms_height(self) -> Tensor:
        """Return the root mean square distance from the tangent plane, `(m,)`."""
        return self._mean((self.places * self.unit.unsqueeze(1)).sum(2).square()).sqrt()

    def _mean(self, values: Tensor) -> Tensor:
        return torch.where(self.arrived, values, 0.0).sum(1) / self.arrived.sum(1)


class Balls:
    """Projects draws around each of several points onto the points' own level."""

    def __init__(
        self,
        function: str,
        field: Field,
        points: Tensor,
        labels: Tensor | None,
        radius: float,
        draws: int,
        tol: float,
        batch_size: int | None,
        *,
        nudge: float = 0.0,
    ) -> None:
        self.nudge = nudge
        self.field, self.points, self.labels = field, points, labels
        self.radius, self.draws, self.tol, self.batch_size = radius, draws, tol, batch_size
        self.evaluator = Evaluator(function, field, batch_size)

    def of(
        self, streams: Streams, unit: Tensor, *, in_tangent: bool = False, index: int = 0
    ) -> Iterator[Near]:
        """Yield the level set around some points after the other."""
        size = self.points[:1].numel()
        for cut in row_batches(len(self.points), max(_TOGETHER // max(self.draws * size, 1), 1)):
            part = torch.arange(cut.start, cut.stop)
            drawn = streams.normal(part, (self.draws, size), 2 * index)
            if in_tangent:
                drawn = drawn - (drawn @ unit[part].unsqueeze(2)) * unit[part].unsqueeze(1)
            drawn = drawn / torch.linalg.vector_norm(drawn, dim=2, keepdim=True)
            if not in_tangent:
                share = streams.uniform(part, (self.draws, 1), 2 * index + 1)
                drawn = drawn * share ** (1.0 / size)
            yield self._near(part, self.radius * drawn, unit[part])

    def _near(self, rows: Tensor, drawn: Tensor, unit: Tensor) -> Near:
        origin = self.points[rows].flatten(1).unsqueeze(1)
        starts = (origin + drawn).flatten(0, 1).view(-1, *self.points.shape[1:])
        labels = self.labels
        if labels is not None:
            labels = labels[rows.to(labels.device)].repeat_interleave(self.draws, 0)
        result = project(
            self.field, starts, labels=labels, tol=self.tol, batch_size=self.batch_size
        )
        # Off the edges on which some projections end, by a share of the draw.
        places = result.points + self.nudge * drawn.reshape(result.points.shape)
        _, jacobian = self.evaluator.value_and_jacobian(places, labels)
        gradient = jacobian[:, 0]
        length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        unit_there = torch.where(length > 0, gradient / length.clamp(min=1e-30), 0.0)
        places = result.points.flatten(1).view(drawn.shape) - origin
        return Near(
            moves=places - drawn,
            places=places,
            gradients=unit_there.view(drawn.shape),
            arrived=(result.converged & (length[:, 0] > 0)).view(drawn.shape[:2]),
            unit=unit,
        )


def angles_of(one: Tensor, other: Tensor) -> Tensor:
    """Return angles of vectors along the last axis (Kahan's formula)."""
    one = torch.nn.functional.normalize(one, dim=-1, eps=1e-30)
    other = torch.nn.functional.normalize(other, dim=-1, eps=1e-30)
    apart = torch.linalg.vector_norm(one - other, dim=-1)
    together = torch.linalg.vector_norm(one + other, dim=-1)
    return 2.0 * torch.atan2(apart, together)


def unit_gradients(
    function: str, field: Field, points: Tensor, labels: Tensor | None, batch_size: int | None
) -> Tensor:
    """Return the unit gradients `(n, e)` of a field of one equation."""
    evaluator = Evaluator(function, field, batch_size)
    _, jacobian = evaluator.value_and_jacobian(points, labels)
    if len(points) and jacobian.shape[1] != 1:
        message = (
            f"{function}: `field` must have one equation, got {jacobian.shape[1]}. Of a classifier "
            "take Margin or LogitDifference."
        )
        raise ShapeError(message)
    gradient = jacobian.flatten(1)
    check_gradient(function, gradient, torch.arange(len(gradient))) if len(gradient) else None
    return gradient / torch.linalg.vector_norm(gradient, dim=1, keepdim=True)


def check_place(function: str, points: Tensor, labels: Tensor | None) -> None:
    check_points(function, points)
    check_finite(function, points)
    check_same_rows(function, points, labels, "labels")
