"""Fast adaptive boundary attack: projections on the linearised boundary, drawn to the input."""

import math

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column, uniform_in_ball
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._hyperplane import step_to_hyperplane
from levelset.attacks._search._polish import polish
from levelset.attacks._search._problem import Problem

__all__ = ["fab"]

# Croce & Hein 2020, section 4: overshoot of a projection, largest share of the projection of the
# input, and how much of the way from the input a point across keeps.
_OVERSHOOT, _MOST_BIAS, _BACKWARD = 1.05, 0.1, 0.9


@attack(math.inf, 2.0, 1.0)
def fab(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float | None = None,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    steps: int = 100,
    restarts: int = 1,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of another class by projections on the linearised boundary.

    Each step projects the present point $x_i$ and the input $x$ on the half-space where the
    margin linearised at $x_i$ is negative, inside the box, by the shortest steps $\delta_i$ and
    $\delta$, and goes on from a mean of the two,

    $$x_{i+1} = (1 - a) (x_i + 1.05\, \delta_i) + a (x + 1.05\, \delta),
      \qquad a = \min\Bigl(\frac{\lVert \delta_i \rVert}{\lVert \delta_i \rVert +
      \lVert \delta \rVert}, 0.1\Bigr).$$

    A point that is across is kept if it is the nearest so far, and is taken a tenth of the way
    back to the input first. At the end of a start the nearest is brought back onto the boundary.

    Unlike [`pgd`][levelset.attacks.pgd] it does not use the size of a gradient, only where the
    linearised boundary is: scaling the logits does not fool it. It minimises the norm; a `radius`
    only says what is near enough.

    Three things differ from the paper. It takes the one boundary with the largest other logit, so
    one backward pass a step, where the paper takes the nearest of all `k - 1`. It projects on the
    half-space, where the paper projects on the plane, from across too: on adversarially trained
    networks that plane is often out of the box's reach from there, and the step runs to the far
    corner (median L2 on the MNIST network of Madry et al. 7.9 instead of 1.5). And it tests a
    point by the evaluation that linearises there, not by another.

    Cost: `steps` times `restarts` gradients and as many forward passes, and
    about 12 more forward passes a start.

    Args:
        radius: Largest norm that counts as success; an input leaves once it is within. `None` to
            look for the nearest point, however far.
        steps: Steps a start.
        restarts: Number of starts: the first at the input, the others uniform in half the
            ball that reaches to the nearest point so far, or to the radius.
        generator: Draws one number, the seed of all; `None` for torch's global generator.
            Nothing is drawn with one start.

    References:
        - F. Croce, M. Hein, "Minimally distorted adversarial examples with a fast adaptive
          boundary attack", ICML 2020.
    """
    problem = Problem("fab", model, points, labels, targets, norm, bounds, batch_size)
    streams = Streams(generator, points) if restarts > 1 else None
    for start in range(restarts):
        rows = _unsettled(problem, radius)
        iterates = problem.points[rows]
        if streams is not None and start > 0:
            iterates = _around(problem, rows, radius, streams, start)
        for step in range(steps):
            rows, iterates = _step(problem, rows, iterates, radius, check=start == step == 0)
            if progress is not None:
                progress(start * steps + step + 1, restarts * steps)
        _finish(problem, rows, iterates)
    if radius is not None:
        problem.forget(problem.distance > radius)
    return problem.result()


def _step(
    problem: Problem, rows: Tensor, points: Tensor, radius: float | None, *, check: bool
) -> tuple[Tensor, Tensor]:
    """Keep what is nearest, drop the rows that are near enough, and move the others on."""
    if len(rows) == 0:
        return rows, points
    value, gradient = problem.margin_and_gradient(rows, points)
    if check and not gradient.nan_to_num().any():
        problem.refuse_flat(rows, points)
    reached = value < 0
    problem.offer(rows, points, value)
    if radius is not None:
        stay = problem.distance[rows] > radius
        rows, points, reached = rows[stay], points[stay], reached[stay]
        value, gradient = value[stay], gradient[stay]
    inputs = problem.points[rows]
    back = torch.where(column(reached, points), torch.lerp(inputs, points, _BACKWARD), points)
    return rows, _drawn_to_input(problem, inputs, points, back, value, gradient)


def _finish(problem: Problem, rows: Tensor, points: Tensor) -> None:
    """Keep the points after the last step where they are nearest; bring all onto the boundary."""
    if len(rows):
        problem.offer(rows, points, problem.margin(rows, points))
    polish(problem, problem.open())


def _drawn_to_input(
    problem: Problem, inputs: Tensor, at: Tensor, points: Tensor, value: Tensor, gradient: Tensor
) -> Tensor:
    """Return the mean of the projections of `points` and of the inputs, linearised `at`."""
    step = _step_across(problem, points, at, value, gradient)
    step_of_input = _step_across(problem, inputs, at, value, gradient)
    size, other = norm_of(step, problem.norm), norm_of(step_of_input, problem.norm)
    both = size + other
    bias = (size / torch.where(both > 0, both, 1.0)).clamp(max=_MOST_BIAS)
    there, of_input = points + _OVERSHOOT * step, inputs + _OVERSHOOT * step_of_input
    return problem.clip(torch.lerp(there, of_input, column(bias, points)))


def _step_across(
    problem: Problem, points: Tensor, at: Tensor, value: Tensor, gradient: Tensor
) -> Tensor:
    """Return the shortest step to the far side of the linearised boundary; zero from there."""
    there = value + (gradient * (points - at)).flatten(1).sum(1)
    return step_to_hyperplane(
        points, gradient, there.clamp(min=0.0), problem.low, problem.high, problem.norm
    )


def _unsettled(problem: Problem, radius: float | None) -> Tensor:
    """Return the rows for which a nearer point would still matter."""
    return problem.open() if radius is None else (problem.distance > radius).nonzero().flatten()


def _around(
    problem: Problem, rows: Tensor, radius: float | None, streams: Streams, start: int
) -> Tensor:
    """Return points drawn in half the ball that reaches to the nearest point so far."""
    reach = problem.distance[rows]
    if radius is not None:
        reach = reach.clamp(max=radius)
    reach = torch.where(reach.isfinite(), reach, 1.0)
    inputs = problem.points[rows]
    delta = uniform_in_ball(rows, tuple(inputs.shape[1:]), problem.norm, streams, start)
    return problem.clip(inputs + column(0.5 * reach, inputs) * delta)
