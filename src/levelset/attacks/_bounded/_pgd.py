"""Projected gradient descent from random starts, with a fixed or an adaptive step."""

import math

import torch

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm
from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._attack import Attack
from levelset.attacks._bounded._ascent import Ascent, Keep, straight
from levelset.attacks._bounded._auto_step import AutoStep
from levelset.attacks._losses import LossName
from levelset.attacks._problem import Problem

__all__ = ["pgd"]


@checked
def pgd(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    steps: int = 40,
    step_size: float | None = None,
    loss: LossName = "cross_entropy",
    keep: Keep = "first",
    restarts: int = 1,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Climb a loss within a ball about each input, from a random start.

    $$x_{m+1} = P\bigl(x_m + \alpha\, s(\nabla_x \ell(f(x_m), y))\bigr),$$

    where s is the step of norm 1 along which the linearised loss grows fastest (the sign for
    L-infinity, the normalised gradient for L2, the sign on the largest twentieth of the entries
    for L1), and P brings the point back into the ball and the box. The start is uniform in the
    ball, clipped to the box.

    With `step_size=None` the step adapts as Auto-PGD's does: it begins at twice the radius, has
    momentum, and is halved, going on from the best point so far, where the loss stops growing;
    for L1 the number of entries a step changes adapts too.

    Cross-entropy saturates: on a confident float32 network its gradient vanishes at inputs that
    the margin loss takes easily. Report the margin loss beside it.

    A failed attack proves nothing; the share of inputs that withstand is an upper bound of the
    robust accuracy. It is a number about the *protocol* too: papers that judge the last of 40
    iterates need `steps=40, step_size=..., keep="last"`.

    Cost: `steps` times `restarts` gradients and as many forward passes, and three more forward
    passes; with `keep="first"` an input leaves once it is through.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity, 2 or 1.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        steps: Steps a start.
        step_size: Length of each; `None` for the adaptive schedule.
        loss: What to raise: `cross_entropy`, `margin` or `ratio`.
        keep: `first`: an input leaves at its first point on the other side; `best`: all steps,
            the point of highest loss; `last`: all steps, the last point.
        restarts: Number of random starts; an input that is through at the end of one takes part
            in the next only with `keep="best"`.
        batch_size: Most points an evaluation; `None` for the number that runs fastest. It does
            not change what is drawn.
        generator: Draws one number, the seed of all; `None` for torch's global generator.
        progress: Called as `progress(done, total)` after each step.

    Returns:
        The perturbed inputs, all of them within the radius and the bounds.

    Raises:
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.
        FieldError: If the model is flat at every start.

    Example:
        >>> import torch
        >>> from levelset.attacks import pgd
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> _ = model.bias.data.zero_()
        >>> pgd(model, torch.tensor([[0.7, 0.5], [1.0, 0.0]]), radius=0.25, norm=2.0).success
        tensor([ True, False])

    References:
        - A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR
          2018; the margin loss as in Atzmon et al. 2019, section 5.2.
        - F. Croce, M. Hein, "Reliable evaluation of adversarial robustness", ICML 2020: the
          adaptive step and the ratio loss; "Mind the box", ICML 2021: both for L1.
    """
    norm = check_norm("pgd", norm, (math.inf, 2.0, 1.0))
    check_at_least_one("pgd", "steps", steps)
    check_at_least_one("pgd", "restarts", restarts)
    if step_size is not None:
        check_positive("pgd", "step_size", step_size)
    with frozen(model):
        problem = Problem(
            "pgd", model, points, labels, targets=targets, norm=norm, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        ascent = Ascent(problem, radius, loss, keep)
        streams = Streams(generator, points)
        for start in range(restarts):
            rows, ball = ascent.open(), ascent.ball
            here = ball.start(rows, streams, start)
            advance = AutoStep(ball, steps) if step_size is None else straight(ball, step_size)
            told = None if progress is None else _later(progress, start, restarts)
            ascent.climb(rows, here, steps, advance, told)
        return ascent.result()


def _later(progress: Progress, start: int, restarts: int) -> Progress:
    """Return the hook of one start among several."""

    def told(done: int, total: int, /) -> None:
        progress(start * total + done, restarts * total)

    return told
