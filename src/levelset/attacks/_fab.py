"""Fast adaptive boundary attack: projections on the linearised boundary, drawn to the input."""

import math

import torch
from torch import Tensor, nn

from levelset._tools.checks import check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_of
from levelset._tools.random import Streams
from levelset._typing import Labels, Points, Progress
from levelset.attacks._ascent import check_steps
from levelset.attacks._attack import Attack
from levelset.attacks._ball import Ball, column
from levelset.attacks._hyperplane import step_to_hyperplane
from levelset.attacks._polish import polish
from levelset.attacks._problem import Bounds, Problem

__all__ = ["fab"]

# Croce & Hein 2020, section 4: overshoot of a projection, largest share of the projection of the
# input, and how much of the way from the input a point across keeps.
_OVERSHOOT, _MOST_BIAS, _BACKWARD = 1.05, 0.1, 0.9


def fab(
    model: nn.Module,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float | None = None,
    norm: float = math.inf,
    bounds: Bounds | None = None,
    steps: int = 100,
    restarts: int = 1,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of another class by projections on the linearised boundary.

    Each step projects the present point $x_i$ and the input $x$ on the hyperplane where the
    linearised margin at $x_i$ vanishes, inside the box, and goes on from a mean of the two,

    $$x_{i+1} = (1 - a) (x_i + 1.05\, \delta_i) + a (x + 1.05\, \delta),
      \qquad a = \min\Bigl(\frac{\lVert \delta_i \rVert}{\lVert \delta_i \rVert +
      \lVert \delta \rVert}, 0.1\Bigr).$$

    A point that is across is kept if it is the nearest so far, and the next step starts a tenth
    of the way back to the input. At the end the nearest is brought back onto the boundary.

    Unlike [`pgd`][levelset.attacks.pgd] it does not use the size of a gradient, only where the
    linearised boundary is: scaling the logits does not fool it. It minimises the norm; a `radius`
    only says what is near enough. Of the boundaries with the `k - 1` other classes, it takes the
    one with the largest other logit, one backward pass a step, where the paper takes all `k - 1`
    and then the nearest.

    Cost: `steps` times `restarts` gradients and twice as many forward passes.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        targets: The classes to reach, `(n,)`; `None` for any other than the label.
        radius: Largest norm that counts as success; an input leaves once it is within. `None` to
            look for the nearest point, however far.
        norm: Infinity, 2 or 1.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        steps: Steps a start.
        restarts: Number of starts: the first at the input, the others uniform in half the ball
            of the nearest point so far (of the radius, where there is none).
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws one number, the seed of all; `None` for torch's global generator.
            Nothing is drawn with one start.
        progress: Called as `progress(done, total)` after each step.

    Returns:
        The nearest points found of another class, or of the target's.

    Raises:
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.
        FieldError: If the model is flat at every input.

    References:
        - F. Croce, M. Hein, "Minimally distorted adversarial examples with a fast adaptive
          boundary attack", ICML 2020.
    """
    norm = check_norm("fab", norm, (math.inf, 2.0, 1.0))
    check_steps("fab", steps)
    check_steps("fab", restarts, "restarts")
    if radius is not None:
        check_positive("fab", "radius", radius)
    with frozen(model):
        problem = Problem(
            "fab", model, points, labels, targets=targets, norm=norm, bounds=bounds,
            batch_size=batch_size,
        )  # fmt: skip
        streams = Streams(generator, points) if restarts > 1 else None
        for start in range(restarts):
            rows = _far(problem, radius)
            here = problem.points[rows]
            if start > 0 and streams is not None:
                here = _around(problem, rows, radius, streams, start)
            for step in range(steps):
                rows, here = _step(problem, rows, here, radius, check=start == step == 0)
                if progress is not None:
                    progress(start * steps + step + 1, restarts * steps)
        polish(problem, problem.open())
        return _within(problem.result(), radius)
'''
