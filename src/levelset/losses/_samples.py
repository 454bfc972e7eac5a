"""Samples of the level sets of a classifier's margin, found near inputs, for losses to move."""

from typing import NamedTuple

import torch
from torch import Tensor

from levelset._tools.calling import Caller, tensor_of
from levelset._tools.checks import check_finite, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.least_norm import least_norm
from levelset._tools.modes import draws_or_couples, evaluating, frozen
from levelset._typing import Model
from levelset.errors import FieldError
from levelset.fields import Margin

__all__ = ["Places", "check_margins", "follow", "margins", "observe", "places_at"]


class Places(NamedTuple):
    """Points, and what a field is at them.

    Attributes:
        points: `(n, *d)`.
        values: `(n,)`.
        gradient: `(n, e)`, e the size of a point.
    """

    points: Tensor
    values: Tensor
    gradient: Tensor

    def at(self, rows: Tensor) -> "Places":
        """Return some of them."""
        return Places(*(part.index_select(0, rows) for part in self))


def places_at(evaluator: Evaluator, points: Tensor, labels: Tensor) -> Places:
    """Return points with the values and derivatives of the evaluator's field."""
    values, jacobian = evaluator.value_and_jacobian(points, labels)
    return Places(points, values[:, 0], jacobian[:, 0])


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


def follow(field: Margin, places: Places, labels: Tensor) -> Tensor:
    """Return places as they move with the parameters, as `attach` does, by known derivatives."""
    if len(places.points) == 0:
        return places.points
    with evaluating(field), torch.enable_grad():
        caller = Caller("attach", field)
        out = caller(caller.laid_out(places.points), labels, owned=True)
        values = tensor_of("attach", "field", out, len(labels)).to(places.points.dtype)
        change = torch.where(values.isfinite(), values - values.detach(), 0.0)
        move = least_norm(places.gradient.unsqueeze(1), change.unsqueeze(1))
    return places.points - move.view_as(places.points)
