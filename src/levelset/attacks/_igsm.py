"""Small steps from the input: the iterative gradient sign method, plain and with momentum."""

import math

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._ascent import Advance, Ascent, Keep, straight
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import Ball, column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import LossName
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["igsm", "mi_fgsm"]

# Kurakin et al. take 1.25 times the steps that would just reach the edge of the ball.
_REACH = 1.25


@attack(math.inf, 2.0)
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
        step_size: Length of each; `None` for 1.25 `radius / steps`.

    References:
        - A. Kurakin, I. Goodfellow, S. Bengio, "Adversarial examples in the physical world",
          2016; Bell 2023, section 1.4, Eq. 5.
    """
    problem = Problem("igsm", model, points, labels, targets, norm, bounds, batch_size)
    ascent = Ascent(problem, radius, loss, keep)
    size = _REACH * radius / steps if step_size is None else step_size
    rows = ascent.open()
    ascent.climb(rows, problem.points[rows], steps, straight(ascent.ball, size), progress)
    return ascent.result()


@attack(math.inf, 2.0)
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
        step_size: Length of each; `None` for `radius / steps`.
        momentum: How much of the earlier gradients stays, $\mu$; 0 for none.

    References:
        - Y. Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018; used in Bell
          2023, section 5.2.
    """
    if not (math.isfinite(momentum) and momentum >= 0):
        message = f"mi_fgsm: `momentum` must be 0 or more, got {momentum}."
        raise ParameterError(message)
    problem = Problem("mi_fgsm", model, points, labels, targets, norm, bounds, batch_size)
    ascent = Ascent(problem, radius, loss, keep)
    advance = _averaged(ascent.ball, radius / steps if step_size is None else step_size, momentum)
    rows = ascent.open()
    ascent.climb(rows, problem.points[rows], steps, advance, progress)
    return ascent.result()


def _averaged(ball: Ball, step_size: float, momentum: float) -> Advance:
    """Return the rule of a fixed step along the running sum of normalised gradients."""
    average = torch.zeros_like(ball.centres)

    def advance(rows: Tensor, points: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        del loss
        size = column(norm_of(gradient, 1.0), gradient)
        average[rows] = momentum * average[rows] + gradient / torch.where(size > 0, size, 1.0)
        return ball.project(rows, points + step_size * ball.steepest(rows, points, average[rows]))

    return advance
