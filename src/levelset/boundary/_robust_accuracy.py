"""The share of inputs that no attack within a radius moves into another class."""

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.checks import check_labels, check_points, check_positive
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm
from levelset._tools.proportions import clopper_pearson
from levelset._tools.results import Rows
from levelset._typing import Bounds, Counts, Labels, Mask, Model, Norm, Points, Progress, Summary
from levelset.attacks import Attack, direct_boundary, pgd, random_direction, square
from levelset.attacks._search._problem import box_of
from levelset.boundary._ensemble import Effort
from levelset.errors import LevelSetWarning, NoGradientError, ParameterError
from levelset.fields import Margin

__all__ = ["RobustAccuracy", "robust_accuracy"]

# Two evaluations of a model that draws random numbers differ by more than this share of the logits.
_NOISE = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class RobustAccuracy(Rows):
    """Which inputs are classified right and were not moved into another class: an upper bound.

    Attributes:
        robust: Whether an input is classified right and withstood every attack, `(n,)`.
        correct: Whether it is classified right to begin with, `(n,)`.
        points: The witnesses, `(n, *d)`: within the radius and the bounds, of another class than
            the label; the input itself where it is misclassified, NaN where it withstood.
        attack: Which of `attacks` broke it, `(n,)`; -1 where none did or none was needed.
        evaluations: Forward passes spent on each input, `(n,)`.
        gradients: Gradients taken for each input, `(n,)`.
        radius: The radius, in the units of the points.
        norm: The norm that the radius is in.
        attacks: Names of the attacks, in the order they were made.
    """

    _headline: ClassVar = ("points", "norm", "radius", "accuracy", "clean_accuracy")

    robust: Mask
    correct: Mask
    points: Points
    attack: Counts
    evaluations: Counts
    gradients: Counts
    radius: float
    norm: float
    attacks: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of the inputs that are robust; NaN without inputs."""
        return _share(self.robust)

    @property
    def clean_accuracy(self) -> float:
        """Share of the inputs that are classified right; NaN without inputs."""
        return _share(self.correct)

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval (Clopper-Pearson) of `accuracy` over all inputs of this kind."""
        low, high = clopper_pearson(self.robust.sum(), len(self.robust))
        return float(low), float(high)

    def summary(self) -> Summary:
        """Return accuracies, interval and cost, ready for JSON."""
        low, high = self.interval
        broken = torch.bincount(self.attack[self.attack >= 0], minlength=len(self.attacks))
        counts = {
            f"broken_{i + 1}_{name}": int(count)
            for i, (name, count) in enumerate(zip(self.attacks, broken.tolist(), strict=True))
        }
        return {
            "points": len(self),
            "radius": self.radius,
            "clean_accuracy": self.clean_accuracy,
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "evaluations": int(self.evaluations.sum()),
            "gradients": int(self.gradients.sum()),
            **counts,
        }


@checked
def robust_accuracy(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    effort: Effort = "standard",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> RobustAccuracy:
    r"""Return which inputs withstand a cascade of attacks within a radius.

    Each attack takes the inputs that still stand, and those that break most for their cost come
    first. Auto-PGD climbs the margin, the ratio of logit differences and the cross-entropy from
    several random starts, and towards single rivals; the boundary is walked along. What gradients
    cannot break, because they are masked, a search without them may: Square (L-infinity), or
    random directions (L2). Its thousands of evaluations are spent where they pay, on inputs whose
    margin the gradients brought down most, and it goes on from the point of the lowest margin. An
    input without any gradient always takes part.

    Each effort makes the attacks of the one below first, from the same seeds, so it never leaves
    more inputs standing. The share that stands is an *upper bound* of the robust accuracy, each
    broken input has a witness, and no input is certified
    ([`certified_radius`][levelset.boundary.certified_radius] does that).

    A warning says where the number may be far too high: the model answers at random, has no
    gradient at some inputs, or returns probabilities.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost, for an input that stands to the end: 60, 110 or 160 gradients and as many forward
    passes for the three efforts; at the higher ones up to 1,000 or 6,000 forward passes more for
    an input that Square takes (about a tenth of them).

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity or 2.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        effort: How long to search: `quick`, `standard` or `thorough`.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws one number, the seed of all; `None` for a fixed seed.
        progress: Called as `progress(done, total)` in steps of attacks, while they go on.

    Returns:
        Which inputs are robust, with a witness for each that is not.

    Raises:
        ParameterError: If the radius is not positive, points lie outside the bounds, labels are
            out of range, or `effort` is none of the three.
        FieldError: If the model returns another shape than `(n, k)`, or values that are not
            finite.

    Example:
        >>> import torch
        >>> from levelset.boundary import robust_accuracy
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> _ = model.bias.data.zero_()
        >>> points = torch.tensor([[0.7, 0.5], [1.0, 0.0]])
        >>> robust_accuracy(model, points, torch.tensor([0, 0]), radius=0.25).robust
        tensor([False,  True])

    References:
        - F. Croce, M. Hein, "Reliable evaluation of adversarial robustness", ICML 2020: the
          cascade of Auto-PGD and Square. Choosing the inputs that Square takes by their margins,
          and starting it from the gradients' best points, is this library's.
    """
    norm = check_norm("robust_accuracy", norm)
    check_positive("robust_accuracy", "radius", radius)
    if effort not in get_args(Effort):
        names = ", ".join(get_args(Effort))
        message = f"robust_accuracy: `effort` must be one of {names}, got {effort!r}."
        raise ParameterError(message)
    check_points("robust_accuracy", points)
    points = points.detach()
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
    with frozen(model):
        box = box_of("robust_accuracy", model, points, bounds)
        model = as_logits("robust_accuracy", model, points)
        cascade = _Cascade(model, points, labels, radius, batch_size)
        stages = _stages(effort, norm, cascade.classes)
        shared = {"bounds": box, "batch_size": batch_size}
        steps = [stage.steps + 1 for stage in stages]
        for index, stage in enumerate(stages):
            hook = _within(progress, sum(steps[:index]), steps[index], sum(steps))
            cascade.run(index, stage, seed=seed + index, progress=hook, **shared)
    return cascade.result(norm, tuple(stage.attack.__name__ for stage in stages))


@dataclass(frozen=True)
class _Stage:
    """One attack of the cascade.

    Attributes:
        attack: Called as `attack(model, points, labels, **options)`.
        steps: Its length, for the progress.
        options: Its own options.
        near: It takes inputs whose lowest margin is at most this share of the margin at the input.
        resumes: Whether it starts from the points of the lowest margins so far.
        bounded: Whether the radius is one of its arguments; if not, farther witnesses are dropped.
        rival: The rank of the class it aims at, by the logits at the input; rank 0 is the label.
    """

    attack: Callable[..., Attack]
    steps: int
    options: dict[str, Any] = field(default_factory=dict)
    near: float = 1.0
    resumes: bool = False
    bounded: bool = True
    rival: int | None = None


def _stages(effort: Effort, norm: float, classes: int) -> list[_Stage]:
    """Return the attacks of an effort, those of the effort below first."""
    ratio = "ratio" if classes >= 3 else "margin"
    made = [_climb(norm, "margin", 20), _climb(norm, ratio, 40)]
    if effort == "quick":
        return [*made, *_blind(norm, 200, 0.1)]
    rivals = range(1, min(classes, 4))
    made += [
        _climb(norm, "margin", 50),
        *_blind(norm, 200, 0.1),
        *(_climb(norm, "margin", 20, near=0.5, rival=rival) for rival in rivals),
        *_blind(norm, 1_000, 0.25),
    ]
    if effort == "standard":
        return made
    of_target = "ratio" if classes >= 4 else "margin"
    return [
        *made,
        _climb(norm, "cross_entropy", 50, near=0.5),
        *(_climb(norm, of_target, 50, near=0.35, rival=rival) for rival in rivals),
        _Stage(direct_boundary, 95, {"norm": norm, "steps": 95}, near=0.35, bounded=False),
        *_blind(norm, 5_000, 0.35),
    ]


def _climb(
    norm: float, loss: str, steps: int, near: float = 1.0, rival: int | None = None
) -> _Stage:
    options = {"norm": norm, "loss": loss, "steps": steps}
    return _Stage(pgd, steps, options, near=near, rival=rival)


def _blind(norm: float, steps: int, near: float) -> list[_Stage]:
    """Return a search without gradients."""
    if math.isinf(norm):
        return [_Stage(square, steps, {"steps": steps}, near=near, resumes=True)]
    draws = {"draws": max(steps // 50, 1)}
    return [_Stage(random_direction, steps, draws, near=near, bounded=False)]


class _Cascade:
    """Which inputs still stand, the lowest margin each was brought down to, and what it cost."""

    def __init__(
        self, model: Model, points: Tensor, labels: Tensor, radius: float, batch_size: int | None
    ) -> None:
        self.model, self.points, self.radius = model, points, radius
        evaluator = Evaluator("robust_accuracy", model, batch_size)
        logits = evaluator.values(points)
        self.classes = logits.shape[1]
        self.labels = labels.to(points.device)
        check_labels("robust_accuracy", self.labels, points, self.classes)
        self.labels = self.labels.long()
        _warn_if_random(logits, evaluator.values(points))
        self.margin = Evaluator("robust_accuracy", Margin(model), batch_size)
        self.correct = logits.argmax(1) == self.labels if self.classes else self.labels == 0
        # The label first, also where another class has the same logit.
        own = self.labels.unsqueeze(1)
        self.ranked = logits.scatter(1, own, math.inf).argsort(1, descending=True)
        self.stands = self.correct.clone()
        self.lowest_points = points.clone()
        self.at_inputs = self._margins(torch.arange(len(points), device=points.device), points)
        self.lowest = self.at_inputs.clone()
        self.flat = self._flat()
        self.attack = torch.full_like(self.labels, -1)
        self.evaluations = torch.full_like(self.labels, 4)
        self.gradients = torch.ones_like(self.labels)

    def run(
        self, index: int, stage: _Stage, *, seed: int, progress: Progress | None, **shared: Any
    ) -> None:
        """Make one attack on the inputs that stand and that it is for; keep what it breaks."""
        near = (self.lowest <= stage.near * self.at_inputs) | self.flat
        rows = (self.stands & near).nonzero().flatten()
        if len(rows):
            # The searches without gradients take every input of a model that has none.
            with contextlib.suppress(NoGradientError):
                self._keep(index, rows, self._made(stage, rows, seed, progress, shared))
        if progress is not None:
            progress(1, 1)

    def result(self, norm: float, attacks: tuple[str, ...]) -> RobustAccuracy:
        """Return what stands, with the witnesses of what does not."""
        column = self.stands.view(-1, *[1] * (self.points.dim() - 1))
        return RobustAccuracy(
            robust=self.stands,
            correct=self.correct,
            points=torch.where(column, math.nan, self.lowest_points),
            attack=self.attack,
            evaluations=self.evaluations,
            gradients=self.gradients,
            radius=self.radius,
            norm=norm,
            attacks=attacks,
        )

    def _made(
        self,
        stage: _Stage,
        rows: Tensor,
        seed: int,
        progress: Progress | None,
        shared: dict[str, Any],
    ) -> Attack:
        options = {**shared, **stage.options, "progress": progress}
        if stage.bounded:
            options["radius"] = self.radius
        if stage.attack is random_direction:
            options["reach"] = self.radius
        if stage.attack is not direct_boundary:
            options["generator"] = torch.Generator().manual_seed(seed)
        if stage.rival is not None:
            options["targets"] = self.ranked[rows, stage.rival]
        if stage.resumes:
            options["starts"] = self.lowest_points[rows]
        return stage.attack(self.model, self.points[rows], self.labels[rows], **options)

    def _keep(self, index: int, rows: Tensor, made: Attack) -> None:
        """Keep witnesses within the radius, and points of a lower margin than before."""
        self.evaluations[rows] += made.evaluations + 1
        self.gradients[rows] += made.gradients
        within = made.distance <= self.radius
        broken = made.success & within
        # What failed within a radius may still be the lowest point; what reached further is not.
        margins = self._margins(rows, made.points)
        usable = broken | (made.distance.isinf() & ~made.success)
        lower = broken | (usable & (margins < self.lowest[rows]))
        self.lowest_points[rows[lower]] = made.points[lower]
        self.lowest[rows[lower]] = margins[lower]
        self.attack[rows[broken]] = index
        self.stands[rows[broken]] = False

    def _margins(self, rows: Tensor, points: Tensor) -> Tensor:
        if not self.classes:
            return points.new_zeros(len(points))
        return self.margin.values(points, self.labels[rows]).squeeze(1)

    def _flat(self) -> Tensor:
        """Return the inputs at which the margin has no gradient, with a warning if there are."""
        right = self.correct.nonzero().flatten()
        flat = torch.zeros_like(self.correct)
        if len(right):
            try:
                _, slope = self.margin.value_and_jacobian(self.points[right], self.labels[right])
                flat[right] = ~(slope.flatten(1) != 0).any(1)
            except NoGradientError:
                flat[right] = True
        if bool(flat.any()):
            message = (
                f"robust_accuracy: the margin of `model` has no gradient at {int(flat.sum())} of "
                f"{len(flat)} inputs, so attacks by gradients fail there whether or not the model "
                "is robust. Searches without gradients take those inputs; give effort='thorough'."
            )
            warnings.warn(message, LevelSetWarning, stacklevel=5)
        return flat


def _warn_if_random(logits: Tensor, again: Tensor) -> None:
    size = logits.abs().amax() if logits.numel() else 0.0
    differs = ((logits - again).abs() > _NOISE * size).any(1) if logits.numel() else logits.bool()
    if bool(differs.any()):
        message = (
            f"robust_accuracy: `model` answers {int(differs.sum())} of {len(logits)} inputs "
            "otherwise when it is asked again, so a witness may be lost and the number means "
            "little. Give a model that draws no random numbers, or the average of its answers."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=5)


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _within(progress: Progress | None, before: int, steps: int, total: int) -> Progress | None:
    """Return the hook of one attack among several, in steps of all."""
    if progress is None:
        return None
    return lambda done, whole: progress(before + steps * done // max(whole, 1), total)
