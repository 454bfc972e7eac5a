"""Small steps from the input: the iterative gradient sign method, plain and with momentum."""

import math

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_of
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._attack import Attack
from levelset.attacks._ball import Ball, column
from levelset.attacks._bounded._ascent import Advance, Ascent, Keep, straight
from levelset.attacks._losses import LossName
from levelset.attacks._problem import Problem
from levelset.errors import ParameterError

__all__ = ["igsm", "mi_fgsm"]

# Kurakin et al. take 1.25 times the steps that would just reach the edge of the ball.
_REACH = 1.25


@checked
def igsm(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    steps: int = 10,
    step_size: float | None = None,
    loss: LossName = "cross_entropy",
    keep: Keep = "first",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Take several small steps along the sign of the gradient, staying within the radius.

    $$x_{m+1} = \operatorname{Clip}_{x, \epsilon} \{ x_m + \alpha \operatorname{sign}
      \nabla_x \ell(f(x_m), y) \}, \qquad x_0 = x.$$

    Also known as the basic iterative method (BIM). It starts at the input itself and draws
    nothing; [`pgd`][levelset.attacks.pgd] starts at random. Towards a target, the loss of the
    target is lowered.

    Cost: `steps` gradients and three more forward passes an input, less for those that leave.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity or 2.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        steps: Number of steps.
        step_size: Length of each; `None` for 1.25 `radius / steps`.
        loss: What to raise: `cross_entropy`, `margin` or `ratio`.
        keep: `first`: an input leaves at its first point on the other side; `best`: all steps,
            the point of highest loss; `last`: all steps, the last point.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` after each step.

    Returns:
        The perturbed inputs, all of them within the radius and the bounds.

    Raises:
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.
        FieldError: If the model is flat at every input.

    References:
        - A. Kurakin, I. Goodfellow, S. Bengio, "Adversarial examples in the physical world",
          2016; Bell 2023, section 1.4, Eq. 5.
    """
    norm = check_norm("igsm", norm)
    check_at_least_one("igsm", "steps", steps)
    size = _step_size("igsm", step_size, _REACH * radius / steps)
    with frozen(model):
        problem = Problem(
            "igsm", model, points, labels, targets=targets, norm=norm, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        ascent = Ascent(problem, radius, loss, keep)
        rows = ascent.open()
        ascent.climb(rows, problem.points[rows], steps, straight(ascent.ball, size), progress)
        return ascent.result()


@checked
def mi_fgsm(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    steps: int = 10,
    step_size: float | None = None,
    momentum: float = 1.0,
    loss: LossName = "cross_entropy",
    keep: Keep = "first",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Take small steps along an average of the gradients met so far.

    $$g_{m+1} = \mu\, g_m + \frac{\nabla_x \ell(f(x_m), y)}{\lVert \nabla_x \ell(f(x_m), y)
      \rVert_1}, \qquad x_{m+1} = \operatorname{Clip}_{x, \epsilon} \{ x_m + \alpha
      \operatorname{sign} g_{m+1} \}.$$

    The average depends less on the one model, so that its points fool other models more often
    ([`transfer`][levelset.attacks.transfer]); give `keep="last"` for that.

    Cost: `steps` gradients and three more forward passes an input, less for those that leave.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity or 2.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        steps: Number of steps.
        step_size: Length of each; `None` for `radius / steps`.
        momentum: How much of the earlier gradients stays, $\mu$; 0 for none.
        loss: What to raise: `cross_entropy`, `margin` or `ratio`.
        keep: `first`: an input leaves at its first point on the other side; `best`: all steps,
            the point of highest loss; `last`: all steps, the last point.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` after each step.

    Returns:
        The perturbed inputs, all of them within the radius and the bounds.

    Raises:
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.
        FieldError: If the model is flat at every input.

    References:
        - Y. Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018; used in Bell
          2023, section 5.2.
    """
    norm = check_norm("mi_fgsm", norm)
    check_at_least_one("mi_fgsm", "steps", steps)
    if not (math.isfinite(momentum) and momentum >= 0):
        message = f"mi_fgsm: `momentum` must be 0 or more, got {momentum}."
        raise ParameterError(message)
    size = _step_size("mi_fgsm", step_size, radius / steps)
    with frozen(model):
        problem = Problem(
            "mi_fgsm", model, points, labels, targets=targets, norm=norm, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        ascent = Ascent(problem, radius, loss, keep)
        rows = ascent.open()
        advance = _averaged(ascent.ball, size, momentum)
        ascent.climb(rows, problem.points[rows], steps, advance, progress)
        return ascent.result()


def _averaged(ball: Ball, step_size: float, momentum: float) -> Advance:
    """Return the rule of a fixed step along the running sum of normalised gradients."""
    average = torch.zeros_like(ball.centres)

    def advance(rows: Tensor, here: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        del loss
        size = column(norm_of(gradient, 1.0), gradient)
        average[rows] = momentum * average[rows] + gradient / torch.where(size > 0, size, 1.0)
        return ball.project(rows, here + step_size * ball.steepest(rows, here, average[rows]))

    return advance


def _step_size(function: str, step_size: float | None, default: float) -> float:
    if step_size is None:
        return default
    check_positive(function, "step_size", step_size)
    return step_size
