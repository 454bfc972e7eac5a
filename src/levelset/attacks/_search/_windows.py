"""Random search by windows: perturbations changed inside a square at a time, kept if they help."""

import functools
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset.attacks._search._ball import Ball, column
from levelset.attacks._search._problem import Problem

__all__ = ["Windows", "windows"]

# Share of the area that a window covers at first, L-infinity and L2, and the shares of the steps
# from each of which on it is half of what it was before (Andriushchenko et al. 2020, section 4.3).
_FIRST_SHARE, _FIRST_SHARE_L2 = 0.8, 0.1
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
# Two directions of norm 1 whose sum has no larger entry cancel.
_OPPOSITE = 1e-6
# Random numbers are drawn for so many steps at once.
_CHUNK = 64
# An L2 window is this wide at least, as in the paper, unless that is more than an eighth of a small
# image; and the start has so many tiles along a side.
_LEAST_WIDTH, _LEAST_SHARE, _TILES = 3, 1 / 8, 5


def windows(problem: Problem, ball: Ball, steps: int, streams: Streams) -> "Windows":
    """Return the search for the norm of a problem."""
    kind = Signs if math.isinf(problem.norm) else Bumps
    return kind(problem, ball, steps, streams)


class Windows(ABC):
    """The perturbation of the lowest margin of each input, `problem.best`, and that margin.

    Args:
        problem: What is attacked.
        ball: Where the points may go.
        steps: How many windows are tried; their sizes depend on it.
        streams: Where random numbers come from.
    """

    first_share: float
    numbers: int

    def __init__(self, problem: Problem, ball: Ball, steps: int, streams: Streams) -> None:
        self.problem, self.ball, self.steps, self.streams = problem, ball, steps, streams
        self.shape = _as_image(tuple(problem.points.shape[1:]))
        self.lowest = torch.full_like(problem.distance, torch.inf)
        size = self.numbers + self.shape[0]
        self.drawn = problem.points.new_empty(len(problem.points), _CHUNK, size)

    def begin(self, rows: Tensor, starts: Tensor | None) -> Tensor:
        """Evaluate the starts, the method's own if there are none; return the rows not fooled."""
        if starts is None:
            return self._offer(rows, self._first(rows))
        return self._offer(rows, starts[rows].detach().to(self.problem.points))

    def step(self, rows: Tensor, step: int) -> Tensor:
        """Try one window a row, and return the rows that are not through."""
        if step % _CHUNK == 0:
            size = tuple(self.drawn.shape[1:])
            self.drawn[rows] = self.streams.uniform(rows, size, 1 + step // _CHUNK)
        height, width = self._window(step)
        numbers = self.drawn[rows, step % _CHUNK]
        return self._offer(rows, self._changed(rows, numbers, height, width))

    @abstractmethod
    def _first(self, rows: Tensor) -> Tensor:
        """Return where to start."""

    @abstractmethod
    def _changed(self, rows: Tensor, numbers: Tensor, height: int, width: int) -> Tensor:
        """Return the best points, changed inside a window.

        Args:
            rows: Which inputs, `(m,)`.
            numbers: Uniform from 0 to 1, `(m, numbers + channels)`.
            height: Of the window.
            width: Of the window.
        """

    @abstractmethod
    def _window(self, step: int) -> tuple[int, int]:
        """Return height and width of the window of a step."""

    def _area(self, step: int) -> float:
        """Return the area of the window of a step, in entries."""
        halvings = sum(step / self.steps > when for when in _HALVINGS)
        return self.first_share / 2**halvings * self.shape[1] * self.shape[2]

    def _offer(self, rows: Tensor, there: Tensor) -> Tensor:
        """Keep what lowers the margin; return the rows still on their own side."""
        margin = self.problem.margin(rows, there)
        # NaN compares false: a broken evaluation is not kept.
        lower = margin < self.lowest[rows]
        changed = rows[lower]
        self.problem.best[changed], self.lowest[changed] = there[lower], margin[lower]
        return rows[~self.problem.across(rows, margin)]


class Signs(Windows):
    """The L-infinity form: the perturbation inside the window is the radius, with one sign."""

    first_share = _FIRST_SHARE
    numbers = 2

    def _first(self, rows: Tensor) -> Tensor:
        """Return vertical stripes of random sign."""
        c, _, w = self.shape
        signs = _signs(self.streams.uniform(rows, (c, 1, w))).expand(-1, *self.shape)
        return self._to_edge(rows, self.problem.points[rows], signs)

    def _changed(self, rows: Tensor, numbers: Tensor, height: int, width: int) -> Tensor:
        inside = _window_at(numbers[:, :2], self.shape, height, width)
        signs = _signs(numbers[:, 2:]).view(-1, self.shape[0], 1, 1)
        return self._to_edge(rows, self.problem.best[rows], inside * signs)

    def _to_edge(self, rows: Tensor, points: Tensor, signs: Tensor) -> Tensor:
        # Twice the radius takes an entry to the edge of the ball from wherever it is.
        reach = 2.0 * self.ball.reach(rows)
        return self.ball.project(rows, points + reach * signs.reshape_as(points))

    def _window(self, step: int) -> tuple[int, int]:
        area, (_, h, w) = self._area(step), self.shape
        height = min(max(round(math.sqrt(area)), 1), h)
        return height, min(max(round(area / height), 1), w)


class Bumps(Windows):
    """The L2 form: length is taken from one window and spent in another, on two bumps.

    One channel of the window is set to the direction of what it holds plus that of a bump beside
    its negative, at the length that both windows had in that channel and its share of what the
    ball leaves unused.
    """

    first_share = _FIRST_SHARE_L2
    numbers = 5

    def _first(self, rows: Tensor) -> Tensor:
        """Return a grid of tiles, each with two bumps."""
        c, h, w = self.shape
        height, width = max(h // _TILES, 1), max(w // _TILES, 1)
        across, down = min(w // width, _TILES), min(h // height, _TILES)
        numbers = self.streams.uniform(rows, (c + 1, down, across))
        tiles = _pair(height, width, numbers[:, 0] < 0.5, self.problem.points).unsqueeze(1)
        tiles = _signs(numbers[:, 1:]).unsqueeze(4).unsqueeze(5) * tiles
        start = self.problem.points.new_zeros(len(rows), *self.shape)
        top, left = (h - down * height) // 2, (w - across * width) // 2
        grid = tiles.permute(0, 1, 2, 4, 3, 5).reshape(-1, c, down * height, across * width)
        start[:, :, top : top + down * height, left : left + across * width] = grid
        start = start / column(norm_of(start, 2.0), start)
        points = self.problem.points[rows]
        return self.ball.project(rows, points + self.ball.radius * start.view_as(points))

    def _changed(self, rows: Tensor, numbers: Tensor, height: int, width: int) -> Tensor:
        inputs = self.problem.points[rows]
        moved = (self.problem.best[rows] - inputs).view(-1, *self.shape)
        spent = _window_at(numbers[:, :2], self.shape, height, width)
        taken = _window_at(numbers[:, 2:4], self.shape, height, width) & ~spent
        bumps = _pair(height, width, numbers[:, 4] < 0.5, inputs)
        placed = moved.new_zeros(len(rows), 1, *self.shape[1:])
        placed.masked_scatter_(spent, bumps)
        signs = _signs(numbers[:, 5:]).view(-1, self.shape[0], 1, 1)
        bump = _unit(signs * placed)
        direction = bump + _unit(moved * spent)
        # A window that holds the very opposite is turned round: the sum has no direction.
        opposite = (direction.abs() <= _OPPOSITE).all(3, keepdim=True).all(2, keepdim=True)
        direction = torch.where(opposite, bump, direction)
        unused = (self.ball.radius**2 - moved.square().sum((1, 2, 3))).clamp(min=0.0)
        length = (moved * (spent | taken)).square().sum((2, 3))
        length = (length + unused.unsqueeze(1) / self.shape[0]).sqrt()
        there = _unit(direction) * length.unsqueeze(2).unsqueeze(3)
        there = torch.where(spent, there, moved.masked_fill(taken, 0.0))
        return self.ball.project(rows, inputs + there.view_as(inputs))

    def _window(self, step: int) -> tuple[int, int]:
        area, (_, h, w) = self._area(step), self.shape
        height = min(max(round(math.sqrt(area)), _least(h)), h)
        return height, min(max(round(area / height), _least(w)), w)


def _least(length: int) -> int:
    return min(_LEAST_WIDTH, max(math.ceil(_LEAST_SHARE * length), 1))


def _as_image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return channels, height and width of one point."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return 1, shape[0], shape[1]
    return 1, 1, math.prod(shape)


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)


def _window_at(uniform: Tensor, shape: tuple[int, int, int], height: int, width: int) -> Tensor:
    """Return which entries windows cover, `(m, 1, h, w)`; two numbers say where each begins."""
    rows = _run_at(uniform[:, 0], shape[1], height).unsqueeze(2)
    return (rows & _run_at(uniform[:, 1], shape[2], width).unsqueeze(1)).unsqueeze(1)


def _run_at(uniform: Tensor, length: int, width: int) -> Tensor:
    """Return which of `length` places a run covers, `(m, length)`; its start is random."""
    start = (uniform * (length - width + 1)).long().clamp(max=length - width).unsqueeze(1)
    place = torch.arange(length, device=uniform.device)
    return (place >= start) & (place < start + width)


def _unit(parts: Tensor) -> Tensor:
    """Return each channel `(m, c, h, w)` divided by its norm; zero where that is."""
    length = torch.linalg.vector_norm(parts, dim=(2, 3), keepdim=True)
    return parts / torch.where(length > 0, length, 1.0)


def _pair(height: int, width: int, turned: Tensor, like: Tensor) -> Tensor:
    """Return a bump beside its negative, `(*, height, width)`, one above the other if `turned`."""
    beside = _beside(height, width).to(like)
    above = _beside(width, height).to(like).T if height > 1 else beside
    return torch.where(turned.unsqueeze(-1).unsqueeze(-1), above, beside)


@functools.cache
def _beside(height: int, width: int) -> Tensor:
    half = width // 2
    return torch.cat([_bump(height, half), -_bump(height, width - half)], 1)


def _bump(height: int, width: int) -> Tensor:
    r"""Return $\sum_{j \ge t} 1 / (j + 1)^2$ at Chebyshev distance t from the middle, of norm 1."""
    down = (torch.arange(height) - height // 2).abs().unsqueeze(1)
    across = (torch.arange(width) - width // 2).abs().unsqueeze(0)
    away = torch.maximum(down, across)
    terms = 1.0 / torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64).square()
    sums = terms.flip(0).cumsum(0).flip(0)
    bump = sums[away]
    return bump / torch.linalg.vector_norm(bump).clamp(min=1e-300)
