"""Samples of the level sets of a classifier's margin, found near inputs, for losses to move."""

from typing import NamedTuple

import torch
from torch import Tensor

from levelset._projection import Projection
from levelset._sample import attach
from levelset._tools.checks import check_finite, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import draws_or_couples, evaluating, frozen
from levelset._typing import Model
from levelset.errors import FieldError
from levelset.fields import Margin

__all__ = ["Moving", "check_margins", "follow", "margins", "observe"]


class Moving(NamedTuple):
    """Points of a level set that move with the parameters.

    Attributes:
        points: Where they are, `(n, *d)`, with their gradient.
        level: The level that each is on, `(n,)`, without any.
    """

    points: Tensor
    level: Tensor


def margins(
    function: str, model: Model, points: Tensor, labels: Tensor, *, observed: bool = False
) -> tuple[Margin, Tensor]:
    """Return the margin as a field, and its values at inputs, `(n,)`, without a graph.

    Where layers of the model learn from batches, such as BatchNorm, they see this one in the mode
    that they are in, unless they have `observed` it already.

    Raises:
        FieldError: If the model returns no logits, or none that are finite.
        ParameterError: If a label is out of range.
    """
    check_points(function, points)
    check_finite(function, points)
    if not observed:
        observe(model, points)
    field = Margin(model)
    with frozen(field):
        values = Evaluator(function, field).values(points, labels).flatten()
    check_margins(function, values)
    return field, values


def observe(model: Model, points: Tensor) -> None:
    """Let layers that learn from batches, such as BatchNorm, see this one in their own mode."""
    if draws_or_couples(model) is not None and len(points):
        with torch.no_grad():
            model(points.clone())


def check_margins(function: str, values: Tensor) -> None:
    """Refuse margins, `(n,)`, that are not finite."""
    broken = ~values.isfinite()
    if broken.any():
        message = (
            f"{function}: `model` must return finite logits, got NaN or infinity for "
            f"{int(broken.sum())} of {len(values)} inputs."
        )
        raise FieldError(message)


def follow(field: Margin, projection: Projection) -> Moving:
    """Return projected points tied to the parameters, and the levels that they reached."""
    if len(projection) == 0:
        return Moving(projection.points, projection.residual)
    with frozen(field):
        level = Evaluator("attach", field).values(projection.points, projection.labels).flatten()
    with evaluating(field):
        return Moving(attach(field, projection), level)
