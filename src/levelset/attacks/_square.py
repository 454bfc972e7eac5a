"""Square attack: random search that asks for logits only."""

import math

import torch
from torch import Tensor

from levelset._tools.random import Streams
from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import Ball, column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._problem import Problem
from levelset.errors import ShapeError

__all__ = ["square"]

# Share of the area that a window covers: at first, and from each of these shares of the steps on,
# half of what it was before (Andriushchenko et al. 2020, section 4.3).
_FIRST_SHARE = 0.8
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
# Random numbers are drawn for so many steps at once.
_CHUNK = 64


@attack()
def square(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    radius: float,
    bounds: Bounds | None = None,
    steps: int = 1000,
    starts: Points | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Search within an L-infinity ball by windows of random sign, without any gradient.

    It starts from vertical stripes of $\pm\epsilon$. Each step sets the perturbation inside a
    window at a random place to $\pm\epsilon$, one sign a channel, and keeps that if the margin
    falls. The windows shrink from step to step. As it asks for logits only, it is not fooled by
    gradients that vanish, explode or are noise; where it succeeds and
    [`pgd`][levelset.attacks.pgd] does not, the model masks its gradients.

    Points `(n, c, h, w)` have windows of h and w; `(n, h, w)` too; of points `(n, e)` they are
    runs of entries; any other shape is taken for a run a point.

    Cost: `steps` and three more forward passes an input, less for those that leave; no gradient.

    Args:
        radius: Largest change of an entry, in the units of the points.
        steps: Number of windows tried; the paper takes 5,000 to 20,000.
        starts: Where to start, `(n, *d)`, such as the best points of a search by gradients;
            `None` for the stripes.

    Raises:
        ShapeError: If `starts` has another shape than the points.
        ParameterError: If an option is out of range, points lie outside the bounds, or a target
            equals its label.

    References:
        - M. Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack
          via random search", ECCV 2020, the L-infinity form.
    """
    problem = Problem("square", model, points, labels, targets, math.inf, bounds, batch_size)
    if starts is not None and starts.shape != points.shape:
        message = (
            f"square: `starts` must have the shape of `points` {tuple(points.shape)}, got "
            f"{tuple(starts.shape)}."
        )
        raise ShapeError(message)
    search = _Windows(problem, Ball(problem, radius), steps, Streams(generator, points))
    rows = search.begin(problem.open(), starts)
    for step in range(steps):
        if len(rows):
            rows = search.step(rows, step)
        if progress is not None:
            progress(step + 1, steps)
    return problem.result(radius)


class _Windows:
    """The best perturbation of each input so far, and its margin."""

    def __init__(self, problem: Problem, ball: Ball, steps: int, streams: Streams) -> None:
        self.problem, self.ball, self.steps, self.streams = problem, ball, steps, streams
        self.shape = _as_image(tuple(problem.points.shape[1:]))
        self.lowest = torch.full_like(problem.distance, torch.inf)
        self.drawn = problem.points.new_empty(len(problem.points), _CHUNK, 2 + self.shape[0])

    def begin(self, rows: Tensor, starts: Tensor | None) -> Tensor:
        """Evaluate the starts, vertical stripes if there are none; return the rows not fooled."""
        if starts is not None:
            points = starts[rows].detach().to(self.problem.points)
            return self._offer(rows, points, torch.zeros_like(points))
        c, _, w = self.shape
        signs = _signs(self.streams.uniform(rows, (c, 1, w)))
        return self._offer(rows, self.problem.points[rows], signs.expand(-1, *self.shape))

    def step(self, rows: Tensor, step: int) -> Tensor:
        """Try one window a row, and return the rows that are not through."""
        c, h, w = self.shape
        if step % _CHUNK == 0:
            size = (_CHUNK, 2 + c)
            self.drawn[rows] = self.streams.uniform(rows, size, 1 + step // _CHUNK)
        numbers = self.drawn[rows, step % _CHUNK]
        height, width = self._window(step)
        inside = _window_at(numbers[:, 0], h, height).unsqueeze(2)
        inside = inside & _window_at(numbers[:, 1], w, width).unsqueeze(1)
        signs = _signs(numbers[:, 2:]).view(-1, c, 1, 1)
        return self._offer(rows, self.problem.best[rows], inside.unsqueeze(1) * signs)

    def _offer(self, rows: Tensor, points: Tensor, signs: Tensor) -> Tensor:
        """Keep what lowers the margin; return the rows still on their own side."""
        # Twice the radius takes an entry to the edge of the ball from wherever it is.
        there = self.ball.project(rows, points + 2 * self.ball.radius * signs.reshape_as(points))
        margin = self.problem.margin(rows, there)
        # NaN compares false: a broken evaluation is not kept.
        lower = margin < self.lowest[rows]
        self.problem.best[rows] = torch.where(column(lower, there), there, self.problem.best[rows])
        self.lowest[rows] = torch.where(lower, margin, self.lowest[rows])
        return rows[~self.problem.across(rows, margin)]

    def _window(self, step: int) -> tuple[int, int]:
        """Return height and width of the window of a step."""
        halvings = sum(step / self.steps > when for when in _HALVINGS)
        _, h, w = self.shape
        area = _FIRST_SHARE / 2**halvings * h * w
        height = min(max(round(math.sqrt(area)), 1), h)
        return height, min(max(round(area / height), 1), w)


def _as_image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return channels, height and width of one point."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    return 1, 1, math.prod(shape)


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)


def _window_at(uniform: Tensor, length: int, width: int) -> Tensor:
    """Return which of `length` places a window covers, `(m, length)`; its start is random."""
    start = (uniform * (length - width + 1)).long().clamp(max=length - width).unsqueeze(1)
    place = torch.arange(length, device=uniform.device)
    return (place >= start) & (place < start + width)
