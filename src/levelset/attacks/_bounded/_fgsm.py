"""One step: the fast gradient sign method, and the same after a random step."""

import math

import torch

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm
from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.attacks._attack import Attack
from levelset.attacks._bounded._ascent import Ascent, straight
from levelset.attacks._losses import LossName
from levelset.attacks._problem import Problem
from levelset.errors import ParameterError

__all__ = ["fgsm", "r_fgsm"]


@checked
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

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity or 2.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        loss: What to raise: `cross_entropy`, `margin` or `ratio`.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.

    Returns:
        The perturbed inputs, all of them within the radius and the bounds.

    Raises:
        ParameterError: If `radius` is not positive, points lie outside the bounds, or a target
            equals its label.
        FieldError: If the model is flat at every input.

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
    norm = check_norm("fgsm", norm)
    with frozen(model):
        problem = Problem(
            "fgsm", model, points, labels, targets=targets, norm=norm, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        ascent = Ascent(problem, radius, loss)
        rows = ascent.open()
        ascent.climb(rows, problem.points[rows], 1, straight(ascent.ball, radius))
        return ascent.result()


@checked
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
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        radius: Largest change of an entry, $\epsilon$, in the units of the points.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        first_step: Length of the random step, $\alpha$, less than the radius; `None` for half.
        loss: What to raise: `cross_entropy`, `margin` or `ratio`.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws one number, the seed of all; `None` for torch's global generator.

    Returns:
        The perturbed inputs, all of them within the radius and the bounds.

    Raises:
        ParameterError: If `radius` is not positive, `first_step` not between 0 and it, points lie
            outside the bounds, or a target equals its label.
        FieldError: If the model is flat at every start.

    References:
        - F. Tramer et al., "Ensemble adversarial training", ICLR 2018; used in Bell 2023,
          section 5.2.
    """
    check_positive("r_fgsm", "radius", radius)
    if first_step is not None and not 0.0 < first_step < radius:
        message = f"r_fgsm: `first_step` must lie between 0 and the radius, got {first_step}."
        raise ParameterError(message)
    first = radius / 2 if first_step is None else first_step
    with frozen(model):
        problem = Problem(
            "r_fgsm", model, points, labels, targets=targets, norm=math.inf, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        ascent = Ascent(problem, radius, loss)
        streams, rows = Streams(generator, points), ascent.open()
        noise = streams.normal(rows, tuple(points.shape[1:])).sign()
        here = ascent.ball.project(rows, problem.points[rows] + first * noise)
        ascent.climb(rows, here, 1, straight(ascent.ball, radius - first))
        return ascent.result()
