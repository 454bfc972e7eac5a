"""Square attack: random search that asks for logits only."""

import math

import torch

from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import Ball
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._windows import windows
from levelset.errors import ShapeError

__all__ = ["square"]


@attack(math.inf, 2.0)
def square(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    steps: int = 1000,
    starts: Points | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Search within a ball by windows at random places, without any gradient.

    L-infinity: it starts from vertical stripes of $\pm\epsilon$. Each step sets the perturbation
    inside a window at a random place to $\pm\epsilon$, one sign a channel, and keeps that if the
    margin falls. L2: it starts from a grid of bumps. Each step takes what length the perturbation
    has in one window and spends it in another, in the direction of what is there already plus a
    bump beside its negative. The windows shrink from step to step. As it asks for logits only, it
    is not fooled by gradients that vanish, explode or are noise; where it succeeds and
    [`pgd`][levelset.attacks.pgd] does not, the model masks its gradients.

    Points `(n, c, h, w)` have windows of h and w; `(n, h, w)` too; of points `(n, e)` they are
    runs of entries; any other shape is taken for a run a point.

    Cost: `steps` and three more forward passes an input, less for those that leave; no gradient.

    Args:
        steps: Number of windows tried; the paper takes 5,000 to 20,000.
        starts: Where to start, `(n, *d)`, such as the best points of a search by gradients;
            `None` for the stripes or the bumps.

    Raises:
        ShapeError: If `starts` has another shape than the points.
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.

    References:
        - M. Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack
          via random search", ECCV 2020: both forms.
    """
    problem = Problem("square", model, points, labels, targets, norm, bounds, batch_size)
    if starts is not None and starts.shape != points.shape:
        message = (
            f"square: `starts` must have the shape of `points` {tuple(points.shape)}, got "
            f"{tuple(starts.shape)}."
        )
        raise ShapeError(message)
    search = windows(problem, Ball(problem, radius), steps, Streams(generator, points))
    rows = search.begin(problem.open(), starts)
    for step in range(steps):
        if len(rows):
            rows = search.step(rows, step)
        if progress is not None:
            progress(step + 1, steps)
    return problem.result(radius)
