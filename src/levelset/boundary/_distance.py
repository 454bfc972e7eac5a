"""How far each input is from the nearest point of another class."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.checks import check_labels, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.medians import median
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_name
from levelset._tools.results import Rows
from levelset._tools.rounding import resolution, rounding
from levelset._typing import (
    Bounds,
    Counts,
    Labels,
    Mask,
    Model,
    Norm,
    PerPoint,
    Points,
    Progress,
    Summary,
)
from levelset.attacks import Attack
from levelset.attacks._search._problem import box_of
from levelset.boundary._ensemble import Effort, Ensemble, members
from levelset.errors import NoGradientError, ParameterError
from levelset.fields import Margin

__all__ = ["Distance", "Effort", "distance"]

ExtraAttack = Callable[..., Attack]

# A witness counts as on the boundary if its margin is within this share of its largest logit.
_ON_BOUNDARY = 1e-4
# Or if its margin is within this multiple of the rounding error.
_ROUNDINGS = 10.0


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
        converged: Whether the witness lies on the boundary, `(n,)`: its margin is within 1e-4 of
            the size of the logits, or about as small as their rounding allows; true where the
            input is misclassified.
        gradients: Gradients taken for each input, `(n,)`.
        evaluations: Forward passes spent on each input, `(n,)`.
        norm: The norm.
        attacks: Names of the attacks that were tried.
    """

    _headline: ClassVar = ("points", "norm", "missed", "distance_{norm}_median")

    distance: PerPoint
    points: Points
    classes: Counts
    attack: Counts
    converged: Mask
    gradients: Counts
    evaluations: Counts
    norm: float
    attacks: tuple[str, ...]

    def summary(self) -> Summary:
        """Return counts and quantiles, ready for JSON; misclassified inputs are kept apart."""
        moved = self.distance[(self.distance > 0) & self.distance.isfinite()].double()
        name = norm_name(self.norm)
        numbers: Summary = {
            "points": len(self),
            "already_misclassified": int((self.distance == 0).sum()),
            "missed": int(self.distance.isinf().sum()),
            "converged": int(self.converged.sum()),
        }
        if len(moved):
            numbers[f"distance_{name}_median"] = median(moved)
            numbers[f"distance_{name}_min"] = float(moved.min())
        return numbers


@checked
def distance(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    effort: Effort = "standard",
    extra_attacks: Sequence[ExtraAttack] = (),
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Distance:
    r"""Find for each input the nearest point that the model gives another class.

    The least over an ensemble. First the model's boundary with the nearest rivals is projected
    on, walked along, and the best point is polished onto it
    ([`direct_boundary`][levelset.attacks.direct_boundary]). Then come random directions, which
    need no gradient, for inputs that have no witness yet. Where they find the nearest point, the
    boundary is walked along from there. Each effort makes the attacks of the one below first, so
    that no distance is larger than by that. The highest adds a second attack by gradients (`alma`
    for L2, `fmn` for L-infinity), random directions for all inputs, and for L-infinity attacks of
    fixed radius, [`pgd`][levelset.attacks.pgd] and [`square`][levelset.attacks.square], within
    radii that shrink with each witness: where gradients are masked, they come nearer. Each attack
    takes the inputs that it can still improve, so the result is never above that of any member.

    The distance reported is an *upper bound*, and the point returned is its witness: inside the
    bounds, evaluated again, and of another class by more than rounding can undo, so that it is of
    that class in any batch. The true distance may be smaller. It is exact for affine models where
    the bounds do not bind. It is not a certificate. Where no point is clear of the boundary by its
    rounding, the distance is that of a tie, and `classes` names what ties with the label.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost: 26 (L-infinity: 46), 95 (99) or 595 (650) gradients an input for the three efforts,
    and 10, 20 or 170 forward passes more; for inputs that gradients find nothing for, up
    to four times as many. At the highest effort, L-infinity, up to 3,000 forward passes more for an
    input at which windows bring the margin down.

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
        generator: For the extra attacks. The random directions have a seed of their own, so that
            a measurement neither reads nor moves the global random state.
        progress: Called as `progress(done, total)` in steps of attacks, while they go on.

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

    References:
        - Atzmon et al. 2019, reply: attacks aimed at the decision boundary.
        - F. Croce, M. Hein, "Minimally distorted adversarial examples with a fast adaptive
          boundary attack", ICML 2020: the projection of the input inside the box.
    """
    norm = check_norm("distance", norm)
    if effort not in get_args(Effort):
        message = (
            f"distance: `effort` must be one of {', '.join(get_args(Effort))}, got {effort!r}."
        )
        raise ParameterError(message)
    check_points("distance", points)
    points = points.detach()
    with frozen(model):
        box = box_of("distance", model, points, bounds)
        model = as_logits("distance", model, points)
        evaluator = Evaluator("distance", model, batch_size)
        logits = evaluator.values(points)
        classes = logits.shape[1]
        if labels is None:
            labels = logits.argmax(1) if classes else logits.new_zeros(0).long()
        labels = labels.to(points.device)
        check_labels("distance", labels, points, classes)
        ensemble = Ensemble(model, points, labels.long(), norm)
        tried = members(effort, norm, points, extra_attacks)
        shared: dict[str, Any] = {"bounds": box, "batch_size": batch_size}
        steps = [int(member.options.get("steps", 0)) + 1 for member in tried]
        for index, member in enumerate(tried):
            hook = _within(progress, sum(steps[:index]), steps[index], sum(steps))
            extra = index > 0 and member.attack in extra_attacks
            own: dict[str, Any] = {} if extra else {"progress": hook}
            if extra and generator is not None:
                own = {"generator": generator}
            ensemble.run(index, member, **shared, **own)
            if hook is not None:
                hook(1, 1)
        names = tuple(member.name for member in tried)
        return _judged(evaluator, ensemble, logits, names)


def _within(progress: Progress | None, before: int, steps: int, total: int) -> Progress | None:
    """Return the hook of one attack among several, in steps of all."""
    if progress is None:
        return None
    return lambda done, whole: progress(before + steps * done // max(whole, 1), total)


def _judged(
    evaluator: Evaluator, ensemble: Ensemble, at_inputs: Tensor, names: tuple[str, ...]
) -> Distance:
    """Evaluate the nearest witnesses once more, and return them with their classes."""
    labels, lengths, witnesses = ensemble.labels, ensemble.lengths, ensemble.witnesses
    logits = evaluator.values(witnesses)
    own, rivals = labels.unsqueeze(1), labels
    margin = lengths.clone()
    if logits.shape[1]:
        others = logits.scatter(1, own, -torch.inf)
        margin, rivals = logits.gather(1, own).squeeze(1) - others.amax(1), others.argmax(1)
    met = lengths.isfinite()
    size = torch.maximum(logits.abs(), at_inputs.abs()).amax(1) if logits.shape[1] else margin
    shape = (-1, *[1] * (ensemble.points.dim() - 1))
    return Distance(
        distance=lengths,
        points=torch.where(met.view(shape), witnesses, math.nan),
        # A tie may be given its label again; the class it ties with is what lies beyond.
        classes=torch.where(met, rivals, -1),
        attack=torch.where(met, ensemble.winner, -1),
        converged=met & ((lengths == 0) | _on_boundary(evaluator, ensemble, size, margin)),
        gradients=ensemble.gradients,
        evaluations=ensemble.evaluations + 2,
        norm=ensemble.norm,
        attacks=names,
    )


def _on_boundary(evaluator: Evaluator, ensemble: Ensemble, size: Tensor, margin: Tensor) -> Tensor:
    """Return whether the margins are small beside the logits, or as small as rounding allows."""
    close = margin.abs() <= _ON_BOUNDARY * size
    # Logits that are small themselves, (0, f) for one, say nothing of how small a margin can be.
    rows = (~close & ensemble.lengths.isfinite() & (ensemble.lengths > 0)).nonzero().flatten()
    if len(rows):
        model, points = ensemble.model, ensemble.witnesses[rows]
        field = Evaluator(evaluator.function, Margin(model), evaluator.batch_size)
        try:
            _, jacobian = field.value_and_jacobian(points, ensemble.labels[rows])
        except NoGradientError:
            return close
        slack = rounding(jacobian.view_as(points), points, size[rows], resolution(model, points))
        close[rows] = margin[rows].abs() <= _ROUNDINGS * slack
    return close
