"""The share of inputs that no attack within a radius moves into another class."""

import math
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm
from levelset._tools.proportions import clopper_pearson
from levelset._tools.results import Rows
from levelset._typing import Bounds, Counts, Labels, Mask, Model, Norm, Points, Progress, Summary
from levelset.attacks._search._ball import column
from levelset.attacks._search._objective import LossName
from levelset.attacks._search._problem import Problem
from levelset.boundary._cascade import Cascade, Stage, warn_if_flat, warn_if_random
from levelset.boundary._ensemble import Effort
from levelset.errors import ParameterError

__all__ = ["RobustAccuracy", "robust_accuracy"]


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
    cannot break, because they are masked, a search without them may: Square. Its thousands of
    evaluations are spent where they pay, on inputs whose margin the gradients brought down most,
    and it goes on from the point of the lowest margin. An input without any gradient always takes
    part.

    Each effort makes the attacks of the one below first, from the same seeds, so it never leaves
    more inputs standing. An input draws by its own content: what becomes of it does not depend on
    the other inputs. The share that stands is an *upper bound* of the robust accuracy, each
    broken input has a witness, and no input is certified
    ([`certified_radius`][levelset.boundary.certified_radius] does that).

    A warning says where the number may be far too high: the model answers at random, has no
    gradient at some inputs, or returns probabilities.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost, for an input that stands to the end: 62 gradients and as many forward passes, and four
    more. Where the margin came down to half of what it was, up to 110 gradients more at `standard`
    and 300 at `thorough`; and where it came down to a tenth, a quarter or 0.4, up to 200, 1,400 or
    6,400 windows of Square.

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
        generator: Draws one number, the seed of all; `None` for one with the seed 0.
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
    own = torch.Generator().manual_seed(0) if generator is None else generator
    seed = int(torch.randint(2**62, (), generator=own, device=own.device))
    with frozen(model):
        problem = Problem(
            "robust_accuracy", model, points, labels, None, norm, bounds, batch_size, look=True
        )
        warn_if_random("robust_accuracy", problem)
        cascade = Cascade(problem, radius, seed)
        warn_if_flat("robust_accuracy", cascade)
        stages = _stages(effort, problem.logits.shape[1])
        steps = [stage.steps + 1 for stage in stages]
        for number, stage in enumerate(stages):
            hook = _within(progress, sum(steps[:number]), steps[number], sum(steps))
            cascade.run(number, stage, hook)
        cascade.judge()
    return _result(cascade, radius, tuple(stage.name for stage in stages))


def _stages(effort: Effort, classes: int) -> list[Stage]:
    """Return the attacks of an effort, those of the effort below first, each with its number."""
    ratio: LossName = "ratio" if classes >= 3 else "margin"
    made = [
        Stage("step"),
        Stage("climb", 20, resumes=True),
        Stage("climb", 40, ratio),
        Stage("square", 200, near=0.1),
    ]
    if effort == "quick":
        return made
    rivals = range(1, min(classes, 4))
    made += [
        Stage("climb", 50, near=0.7),
        Stage("square", 200, near=0.1),
        *(Stage("climb", 20, rival=rival, near=0.5) for rival in rivals),
        Stage("square", 1_000, near=0.25),
    ]
    if effort == "standard":
        return made
    of_target: LossName = "ratio" if classes >= 4 else "margin"
    return [
        *made,
        Stage("climb", 50, "cross_entropy", near=0.5),
        *(Stage("climb", 50, of_target, rival=rival, near=0.35) for rival in rivals),
        Stage("walk", 95, near=0.25),
        Stage("square", 5_000, near=0.4, goes_on=((1_000, 0.2), (2_500, 0.12))),
    ]


def _result(cascade: Cascade, radius: float, attacks: tuple[str, ...]) -> RobustAccuracy:
    """Return what stands, with the witnesses of what does not."""
    problem = cascade.problem
    return RobustAccuracy(
        robust=cascade.stands,
        correct=cascade.correct,
        points=torch.where(column(cascade.stands, problem.points), math.nan, problem.best),
        attack=cascade.broken_by,
        evaluations=problem.forwards,
        gradients=problem.gradients,
        radius=radius,
        norm=problem.norm,
        attacks=attacks,
    )


def _share(mask: Mask) -> float:
    return float(mask.double().mean())


def _within(progress: Progress | None, before: int, steps: int, total: int) -> Progress | None:
    """Return the hook of one attack among several, in steps of all."""
    if progress is None:
        return None
    return lambda done, whole: progress(before + steps * done // max(whole, 1), total)
