"""Planes worth drawing: through inputs, an input and its nearest boundary, along its curvatures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.modes import frozen
from levelset._typing import Bounds
from levelset.boundary._distance import Effort, distance
from levelset.boundary._second_order._curvature import curvature
from levelset.boundary._second_order._surrogate import SoftplusSurrogate, calls_relu
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.fields import LogitDifference

__all__ = ["View", "principal_view", "three_inputs", "witness_view"]

# Room round what a plane is drawn for, as a share, and the sharpness of the softplus that stands
# for ReLUs where a boundary has no curvature of its own, as in an audit.
_ROOM = 0.35
_SHARPNESS = 5.0


@dataclass(frozen=True, eq=False)
class View:
    """A plane to draw, with orthonormal axes.

    Attributes:
        origin: The point (0, 0), `(*d)`, as the axes.
        u: First axis.
        v: Second axis.
        extent: Half the side of the square that is drawn.
        marks: Points to name, with their coordinates.
        points: Those points, `(m, *d)`.
        classes: What the model says of them.
        text: What the plane is, in a sentence.
    """

    origin: Tensor
    u: Tensor
    v: Tensor
    extent: float
    marks: dict[str, tuple[float, float]]
    points: Tensor
    classes: list[int]
    text: str


def three_inputs(model: Any, points: Tensor, names: Sequence[str]) -> View:
    """Return the plane through three inputs, round their middle.

    Args:
        model: The classifier.
        points: The inputs, `(3, *d)`.
        names: What they are called.

    Raises:
        ParameterError: If they are in line.
        ShapeError: If there are not three.
    """
    if len(points) != 3:
        message = f"section: a plane goes through three inputs, got {len(points)}."
        raise ShapeError(message)
    flat = points.double().flatten(1)
    middle = flat.mean(0)
    axes, sizes = _orthonormal(flat[1] - flat[0], flat[2] - flat[0])
    if sizes[1] <= 1e-6 * sizes[0] or sizes[0] == 0:
        message = (
            f"section: {', '.join(names)} are in line, and span no plane. Choose others, or "
            "one input alone for the plane through it and its nearest boundary."
        )
        raise ParameterError(message)
    places = (flat - middle) @ axes.T
    marks = {
        name: (float(x), float(y)) for name, (x, y) in zip(names, places.tolist(), strict=True)
    }
    extent = (1.0 + _ROOM) * float(places.abs().max())
    text = f"The plane through {names[0]}, {names[1]} and {names[2]}."
    return _view(model, middle, axes, extent, points, marks, text)


def witness_view(
    model: Any, point: Tensor, name: str, *, witness: Tensor | None = None,
    effort: Effort = "standard", bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
) -> View:  # fmt: skip
    """Return the plane of an input, its nearest point of another class, and a random tangent.

    Args:
        model: The classifier.
        point: The input, `(*d)`.
        name: What it is called.
        witness: That point; `None` to search for it.
        effort: Of the search.
        bounds: Of inputs; `None` for the classifier's own, or 0 to 1.
        generator: Of the search and of the tangent.

    Raises:
        DataError: If no point of another class was found.
    """
    if witness is None:
        witness, _ = _witness(model, point, name, effort, bounds, generator)
    ahead = (witness - point).double().flatten()
    length = float(ahead.norm())
    draw = torch.randn(len(ahead), generator=generator, dtype=torch.float64).to(ahead)
    text = (
        f"The plane through {name}, the nearest point of another class that was found "
        f"({length:.4g} away, to the right), and a random direction along the boundary there."
    )
    return _beside(model, point, witness, draw, name, text)


def principal_view(
    model: Any, point: Tensor, name: str, *, effort: Effort = "standard",
    bounds: Bounds | None = None, generator: torch.Generator | None = None,
) -> View:  # fmt: skip
    """Return the plane of an input's nearest boundary and the direction in which that bends most.

    The arguments are as those of `witness_view`. Where the network has ReLUs, a softplus stands for
    them in the curvature.

    Raises:
        DataError: If no point of another class was found.
        FieldError: If the curvature cannot be measured.
    """
    witness, length = _witness(model, point, name, effort, bounds, generator)
    pair = witness.unsqueeze(0)
    with frozen(model), torch.no_grad():
        logits_of = as_logits("section", model, pair)
        own = logits_of(point.unsqueeze(0)).argmax(1)
        logits = logits_of(pair).scatter(1, own.unsqueeze(1), -torch.inf)
    field = LogitDifference(model, int(own), int(logits.argmax(1)))
    smoothing = SoftplusSurrogate(_SHARPNESS) if calls_relu(field, pair) else None
    bent = curvature(
        field, pair, count=1, ends="extreme", smoothing=smoothing, level=None, generator=generator
    )
    largest = bent.principal[0].abs().argmax()
    text = (
        f"The plane through {name}, the nearest point of another class that was found "
        f"({length:.4g} away, to the right), and the direction in which the boundary bends most "
        f"there: its curvature along it is {float(bent.principal[0, largest]):.3g}."
    )
    return _beside(model, point, witness, bent.directions[0, largest], name, text)


def _witness(
    model: Any, point: Tensor, name: str, effort: Effort, bounds: Bounds | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, float]:  # fmt: skip
    """Return the nearest point of another class than an input's, and how far it is."""
    nearest = distance(model, point.unsqueeze(0), effort=effort, bounds=bounds, generator=generator)
    length = float(nearest.distance[0])
    if not 0.0 < length < float("inf"):
        message = (
            f"section: no point of another class was found near {name}. Choose another "
            "input, or three."
        )
        raise DataError(message)
    return nearest.points[0], length


def _beside(
    model: Any, point: Tensor, witness: Tensor, direction: Tensor, name: str, text: str
) -> View:
    """Return the plane of an input, its witness to the right, and a direction."""
    ahead = (witness - point).double().flatten()
    axes, sizes = _orthonormal(ahead, direction.double().flatten())
    marks = {name: (0.0, 0.0), "witness": (sizes[0], 0.0)}
    both = torch.stack([point, witness])
    return _view(model, point.double(), axes, 2.0 * sizes[0], both, marks, text)


def _view(
    model: Any, origin: Tensor, axes: Tensor, extent: float, points: Tensor,
    marks: dict[str, tuple[float, float]], text: str,
) -> View:  # fmt: skip
    origin, u, v = (each.to(points).view(points.shape[1:]) for each in (origin, *axes))
    with frozen(model), torch.no_grad():
        classes = as_logits("section", model, points)(points).argmax(1).tolist()
    return View(origin, u, v, extent, marks, points, classes, text)


def _orthonormal(one: Tensor, other: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """Return orthonormal axes of two directions, `(2, e)`, and the sizes of what spans them."""
    size = float(one.norm())
    first = one / size if size else one
    rest = other - (other @ first) * first
    rest = rest - (rest @ first) * first
    second = float(rest.norm())
    return torch.stack([first, rest / second if second else rest]), (size, second)
