"""How far each input is from the nearest point of another class."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from levelset._tools.checks import check_labels, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_name, norm_of
from levelset._tools.results import Rows
from levelset._typing import Counts, Labels, Mask, PerPoint, Points, Progress
from levelset.attacks import Attack, direct_boundary
from levelset.attacks._problem import Bounds, box_of
from levelset.errors import ParameterError

__all__ = ["Distance", "Effort", "distance"]

Effort = Literal["quick", "standard", "thorough"]
ExtraAttack = Callable[..., Attack]

# Steps of the walk along the boundary; each is one forward and one gradient an input.
_STEPS: dict[str, int] = {"quick": 20, "standard": 80, "thorough": 300}
# A witness counts as on the boundary if its margin is within this share of its largest logit.
_ON_BOUNDARY = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class Distance(Rows):
    """An upper bound of the distance to the decision boundary, with its witness.

    Attributes:
        distance: Norm of the shortest perturbation found, `(n,)`, in the units of the points: 0
            where the input is misclassified, infinity where nothing was found.
        points: The witnesses, `(n, *d)`: inside the bounds, of another class than the label; NaN
            where nothing was found.
        classes: The class of each witness, `(n,)`; -1 where nothing was found.
        attack: Which of `attacks` found the witness, `(n,)`; -1 where none did.
        converged: Whether the witness lies on the boundary, its margin within 1e-4 of the size of
            its logits, `(n,)`; true where the input is misclassified.
        iterations: Gradients taken for each input, `(n,)`.
        evaluations: Forward passes spent on each input, `(n,)`.
        norm: The norm.
        attacks: Names of the attacks that were tried.
    """

    distance: PerPoint
    points: Points
    classes: Counts
    attack: Counts
    converged: Mask
    iterations: Counts
    evaluations: Counts
    norm: float
    attacks: tuple[str, ...]

    def summary(self) -> dict[str, int | float]:
        """Return counts and quantiles, ready for JSON; misclassified inputs are kept apart."""
        moved = self.distance[(self.distance > 0) & self.distance.isfinite()].double()
        name = norm_name(self.norm)
        found: dict[str, int | float] = {
            "points": len(self),
            "already_misclassified": int((self.distance == 0).sum()),
            "missed": int(self.distance.isinf().sum()),
            "converged": int(self.converged.sum()),
        }
        if len(moved):
            found[f"distance_{name}_median"] = float(moved.median())
            found[f"distance_{name}_min"] = float(moved.min())
        return found


def distance(
    model: nn.Module,
    points: Points,
    labels: Labels | None = None,
    *,
    norm: float = 2.0,
    bounds: Bounds | None = None,
    effort: Effort = "standard",
    extra_attacks: Sequence[ExtraAttack] = (),
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Distance:
    r"""Find for each input the nearest point that the model gives another class.

    The model's boundary with each of the nearest rivals is projected on, walked along, and the
    best point is polished onto it ([`direct_boundary`][levelset.attacks.direct_boundary]); what
    any of the `extra_attacks` finds nearer replaces it.

    The distance reported is an *upper bound*, and the point returned is its witness: inside the
    bounds, evaluated again, and of another class. The true distance may be smaller. It is exact
    for affine models where the bounds do not bind. It is not a certificate.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost: about 40, 100 or 320 forward and gradient evaluations an input for the three efforts.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; an input with another prediction is at distance 0. `None`
            for the model's own predictions.
        norm: 2 or infinity.
        bounds: Smallest and largest value of an input, numbers or tensors that broadcast; `None`
            for the classifier's own, or 0 to 1. `(-inf, inf)` for none.
        effort: How long to search: `quick`, `standard` or `thorough`.
        extra_attacks: More attacks to try, called as `attack(model, points, labels, norm=...,
            bounds=..., batch_size=...)`, and with `generator=...` if one is given.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: For the extra attacks; the search itself draws nothing.
        progress: Called as `progress(done, total)` in steps of the search.

    Returns:
        Distances and witnesses, in the order, dtype and device of `points`.

    Raises:
        ParameterError: If points lie outside the bounds, labels out of range, or `effort` is
            none of the three.
        FieldError: If the model returns another shape than `(n, k)`, or values that are not
            finite.

    Example:
        >>> import torch
        >>> from levelset.boundary import distance
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        >>> _ = model.bias.data.zero_()
        >>> distance(model, torch.tensor([[1.0, 0.5]])).distance  # |3 * 1 - 4 * 0.5| / 5
        tensor([0.2000])
    """
    norm = check_norm("distance", norm)
    if effort not in _STEPS:
        message = f"distance: `effort` must be one of {', '.join(_STEPS)}, got {effort!r}."
        raise ParameterError(message)
    check_points("distance", points)
    points = points.detach()
    with frozen(model):
        evaluator = Evaluator("distance", model, batch_size)
        box = box_of("distance", model, points, bounds)
        if labels is None:
            logits = evaluator.values(points)
            labels = logits.argmax(1) if logits.shape[1] else logits.new_zeros(0).long()
        found = [
            direct_boundary(
                model,
                points,
                labels,
                norm=norm,
                bounds=box,
                steps=_STEPS[effort],
                batch_size=batch_size,
                progress=progress,
            )
        ]
        shared: dict[str, Any] = {"norm": norm, "bounds": box, "batch_size": batch_size}
        if generator is not None:
            shared["generator"] = generator
        found += [attack(model, points, labels, **shared) for attack in extra_attacks]
        names = ("direct_boundary", *(_name(attack) for attack in extra_attacks))
        return _nearest(evaluator, points, labels, found, norm, names)


def _nearest(
    evaluator: Evaluator,
    points: Tensor,
    labels: Tensor,
    found: list[Attack],
    norm: float,
    names: tuple[str, ...],
) -> Distance:
    """Return the nearest witness of each row over all attacks, evaluated again."""
    lengths = torch.stack(
        [torch.where(a.success, norm_of(a.points - points, norm), torch.inf) for a in found]
    )
    best, winner = lengths.min(0)
    index = torch.arange(len(points), device=points.device)
    witnesses = torch.stack([a.points for a in found])[winner, index]
    logits = evaluator.values(witnesses)
    check_labels("distance", labels, points, max(logits.shape[1], 1))
    classes = logits.argmax(1) if logits.shape[1] else labels
    held = best.isfinite() & (classes != labels)
    shape = (-1, *[1] * (points.dim() - 1))
    return Distance(
        distance=torch.where(held, best, torch.inf),
        points=torch.where(held.view(shape), witnesses, math.nan),
        classes=torch.where(held, classes, -1),
        attack=torch.where(held, winner, -1),
        converged=held & (_on_boundary(logits, labels) | (best == 0)),
        iterations=torch.stack([a.gradients for a in found]).sum(0),
        evaluations=torch.stack([a.evaluations for a in found]).sum(0) + 1,
        norm=norm,
        attacks=names,
    )


def _on_boundary(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[1] == 0:
        return labels != labels
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (logits.amax(1) - own) <= _ON_BOUNDARY * logits.abs().amax(1)


def _name(attack: ExtraAttack) -> str:
    inner = getattr(attack, "func", attack)  # a functools.partial names what it wraps
    return getattr(inner, "__name__", type(inner).__name__)
