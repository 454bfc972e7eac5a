"""Climbing a field about inputs while a loss is evaluated: projected gradient steps in a ball."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from levelset._intersection import close_bracket
from levelset._tools.bounds import fit_bounds
from levelset._tools.checks import check_positive, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_of
from levelset._tools.random import drawn_rows
from levelset._typing import Bounds, Field, Model, Norm
from levelset.errors import ParameterError, ShapeError
from levelset.fields import bounds_of

__all__ = ["Climb", "Starts"]

Starts: TypeAlias = Tensor | Literal["last"]
"""Where searches start: a point for each input, or where they ended last, which `train` knows."""


class Climb:
    """The ball about each input, in the box, and how it is climbed.

    Args:
        function: Name of the public function at work, for messages.
        model: Whose bounds hold where none are given.
        points: The inputs, `(n, *d)`, inside the bounds.
        radius: Largest norm of a perturbation.
        norm: 2 or infinity.
        bounds: Smallest and largest value of an input.
        steps: How many.
        step_size: Length of each; `None` for 2.5 times the radius over the steps.
        starts: Where to start, `(n, *d)`; rows of NaN, or `None`, at random.
        generator: Draws the starts; `None` for torch's global generator.
    """

    def __init__(
        self,
        function: str,
        model: Model,
        points: Tensor,
        *,
        radius: float,
        norm: Norm,
        bounds: Bounds | None,
        steps: int,
        step_size: float | None,
        starts: Starts | None = None,
        generator: torch.Generator | None,
    ) -> None:
        self.norm = check_norm(function, norm)
        check_positive(function, "radius", radius)
        self.steps = check_whole(function, "steps", steps)
        if step_size is not None:
            check_positive(function, "step_size", step_size)
        self.step_size = 2.5 * radius / steps if step_size is None else step_size
        self.function, self.radius, self.points = function, radius, points.detach()
        with frozen(model):
            sides = bounds_of(function, model, self.points) if bounds is None else bounds
        self.low, self.high = fit_bounds(function, sides, self.points)
        self._starts = self._checked(starts)
        self._generator = generator

    def _checked(self, starts: Starts | None) -> Tensor | None:
        if isinstance(starts, str):
            message = (
                f"{self.function}: `starts='last'` is for `train`, which keeps where the search "
                "about each input ended. Elsewhere give the points to start from, or None."
            )
            raise ParameterError(message)
        if starts is not None and starts.shape != self.points.shape:
            message = (
                f"{self.function}: `starts` must hold a point for each input, of shape "
                f"{tuple(self.points.shape)}, got {tuple(starts.shape)}."
            )
            raise ShapeError(message)
        return None if starts is None else starts.detach().to(self.points)

    def start(self) -> Tensor:
        """Return the starts; those drawn come from the L-infinity ball, or from the L2 sphere."""
        device = self.points.device if self._generator is None else self._generator.device
        generator = self._generator
        if math.isinf(self.norm):
            moves = drawn_rows(
                self.points, device, lambda t: t.uniform_(-1.0, 1.0, generator=generator)
            )
        else:
            moves = self._unit(
                drawn_rows(self.points, device, lambda t: t.normal_(generator=generator))
            )
        drawn = self.points + self.radius * moves
        if self._starts is not None:
            drawn = torch.where(self._starts.isnan(), drawn, self._starts)
        return self._back(drawn)

    def top(
        self, field: Field, labels: Tensor | None, start: Tensor, *, until_positive: bool = False
    ) -> Tensor:
        """Return points where the field is higher, `(n, *d)`.

        Args:
            field: Maps `(m, *d)` and labels to `(m,)`; held in evaluation mode.
            labels: Passed to the field.
            start: Where to start.
            until_positive: A point stops at once where the field is positive.
        """
        evaluator = Evaluator(self.function, field)
        best = start.clone()
        rows = torch.arange(len(start), device=start.device)
        with frozen(field):
            for _ in range(self.steps if len(start) else 0):
                part = None if labels is None else labels[rows]
                values, jacobian = evaluator.value_and_jacobian(best[rows], part)
                if until_positive:
                    climbing = values.flatten() <= 0
                    rows, jacobian = rows[climbing], jacobian[climbing]
                    if len(rows) == 0:
                        break
                gradient = jacobian.view_as(best[rows]).nan_to_num(0.0, 0.0, 0.0)
                step = gradient.sign() if math.isinf(self.norm) else self._unit(gradient)
                best[rows] = self._back(best[rows] + self.step_size * step, rows)
        return best

    def across(self, field: Field, labels: Tensor, values: Tensor) -> Tensor:
        """Return where steps towards the other side of a field's zero end, the first one across.

        Args:
            field: Maps `(m, *d)` and labels to `(m,)`.
            labels: Passed to the field.
            values: Its values at the inputs, `(n,)`.
        """
        sides = torch.stack([torch.where(values > 0, 1, -1), labels], dim=1)
        return self.top(_Across(field), sides, self.start(), until_positive=True)

    def crossings(
        self,
        field: Field,
        labels: Tensor,
        values: Tensor,
        ends: Tensor,
        *,
        heights: Tensor | None = None,
        max_iter: int,
        tol: float,
    ) -> tuple[Tensor, Tensor]:
        """Return from which inputs the way to an end crosses a field's zero, and points of it.

        Args:
            field: Maps `(m, *d)` and labels to `(m,)`.
            labels: Passed to the field.
            values: Its values at the inputs, `(n,)`.
            ends: Where the ways end, `(n, *d)`.
            heights: The field's values there, `(n,)`, if they are known.
            max_iter: Most steps of false position.
            tol: Largest |F| that counts as on the level set.

        Returns:
            A mask `(n,)`, and points `(n, *d)`: the inputs themselves where it is false.
        """
        evaluator, crossings = Evaluator(self.function, field), self.points.clone()
        with frozen(field):
            if heights is None:
                heights = evaluator.values(ends, labels).flatten()
            crossed = torch.where(values > 0, heights < 0, heights > 0) & (values != 0)
            rows = crossed.nonzero().flatten()
            bracket = close_bracket(
                evaluator, self.points[rows], ends[rows], labels[rows],
                tol=tol, max_iter=max_iter, ends=(values[rows], heights[rows]),
            )  # fmt: skip
        crossings[rows] = bracket.nearest(labels[rows], tol).points
        return crossed, crossings

    def _back(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return points brought back into the ball, then into the box."""
        centres = self.points if rows is None else self.points[rows]
        change = points - centres
        if math.isinf(self.norm):
            change = change.clamp(-self.radius, self.radius)
        else:
            length = norm_of(change, 2.0).clamp(min=self.radius)
            change = change * (self.radius / length).view(-1, *[1] * (points.dim() - 1))
        return torch.minimum(torch.maximum(centres + change, self.low), self.high)

    @staticmethod
    def _unit(moves: Tensor) -> Tensor:
        length = norm_of(moves, 2.0).clamp(min=torch.finfo(moves.dtype).tiny)
        return moves / length.view(-1, *[1] * (moves.dim() - 1))


class _Across(nn.Module):
    """How far a point is on the other side than its input: labels are `(n, 2)`, side and class."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.model = field

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """Return the margin with the sign of the way across."""
        return -labels[:, 0] * self.model(points, labels[:, 1])
