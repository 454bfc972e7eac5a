"""One step: the fast gradient sign method, and the same after a random step."""

import math

import torch

from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.attacks._search._ascent import Ascent, straight
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import LossName
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["fgsm", "r_fgsm"]


@attack(math.inf, 2.0)
def fgsm(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    loss: LossName = "cross_entropy",
    batch_size: int | None = None,
) -> Attack:
    r"""Take one step of the length of the radius along the gradient of a loss.

    $$x' = x + \epsilon \, \operatorname{sign} \nabla_x \ell(f(x), y),$$

    clipped to the box; for L2, the gradient over its own norm. For a linear classifier of two
    classes that the box does not cut, L-infinity, it is the strongest attack there is; for
    networks, the weakest of its family.

    Cost: one gradient and three forward passes an input.

    Example:
        >>> import torch
        >>> from levelset.attacks import fgsm
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> _ = model.bias.data.zero_()
        >>> fgsm(model, torch.tensor([[0.75, 0.5], [1.0, 0.0]]), radius=0.25).success
        tensor([ True, False])

    References:
        - I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples",
          ICLR 2015; Bell 2023, section 1.4, Eq. 4.
    """
    problem = Problem("fgsm", model, points, labels, targets, norm, bounds, batch_size)
    ascent = Ascent(problem, radius, loss)
    rows = ascent.open()
    ascent.climb(rows, problem.points[rows], 1, straight(ascent.ball, radius))
    return ascent.result()


@attack()
def r_fgsm(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    bounds: Bounds | None = None,
    first_step: float | None = None,
    loss: LossName = "cross_entropy",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Attack:
    r"""Take a random step first, and the gradient step (L-infinity) from there.

    $$x' = x + \alpha \operatorname{sign} N(0, I), \qquad
      x'' = x' + (\epsilon - \alpha) \operatorname{sign} \nabla_x \ell(f(x'), y).$$

    The random step leaves the kinks next to the input, behind which a model trained on `fgsm`
    hides its gradient.

    Cost: one gradient and three forward passes an input.

    Args:
        radius: Largest change of an entry, $\epsilon$, in the units of the points.
        first_step: Length of the random step, $\alpha$, less than the radius; `None` for half.

    References:
        - F. Tramer et al., "Ensemble adversarial training", ICLR 2018; used in Bell 2023,
          section 5.2.
    """
    if first_step is not None and not 0.0 < first_step < radius:
        message = f"r_fgsm: `first_step` must lie between 0 and the radius, got {first_step}."
        raise ParameterError(message)
    first = radius / 2 if first_step is None else first_step
    problem = Problem("r_fgsm", model, points, labels, targets, math.inf, bounds, batch_size)
    ascent = Ascent(problem, radius, loss)
    streams, rows = Streams(generator, points), ascent.open()
    noise = streams.normal(rows, tuple(points.shape[1:])).sign()
    iterates = ascent.ball.project(rows, problem.points[rows] + first * noise)
    ascent.climb(rows, iterates, 1, straight(ascent.ball, radius - first))
    return ascent.result()
