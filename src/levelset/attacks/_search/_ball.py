"""The perturbations an attack of fixed radius may use: a norm ball about each input, in the box."""

import math

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset.attacks._search._problem import Problem

__all__ = ["Ball", "column", "uniform_in_ball"]

# Of the entries, the share that one L1 step changes: Tramer & Boneh 2019 take 1 %, Croce & Hein
# 2021 start from 20 %; in between, more entries a step reach the boundary in fewer steps.
_L1_SHARE = 0.05
# Scalings by which an L2 projection in a box approaches its end.
_SCALINGS = 5
# Draws that one start needs beyond its first are numbered from here.
_OTHER_DRAW = 2**32


class Ball:
    """The points within `radius` of their inputs and inside the box.

    Whatever `project` returns is inside by the very test that judges it: the norm of the
    difference of two floating-point arrays, compared with the radius.

    Args:
        problem: Its inputs, norm and box.
        radius: One for all inputs, or, L-infinity alone, one each, `(n,)`.
    """

    def __init__(self, problem: Problem, radius: float | Tensor) -> None:
        self.problem, self.norm = problem, problem.norm
        self.centres = problem.points
        self.radii: Tensor | None = None
        if isinstance(radius, Tensor):
            self.radii, self.radius = radius.clone(), math.nan
        else:
            self.radius = _below(radius, problem.points)
        if math.isinf(self.norm):
            self.low, self.high = self._sides(slice(None))

    def reach(self, rows: Tensor) -> float | Tensor:
        """Return the radius, or those of `rows` in a shape that broadcasts against points."""
        return self.radius if self.radii is None else column(self.radii[rows], self.centres)

    def within(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Return which perturbations of `rows` are no longer than their radius, `(m,)`."""
        return lengths <= (self.radius if self.radii is None else self.radii[rows])

    def shrink(self, rows: Tensor, radii: Tensor) -> None:
        """Give the inputs `rows` other radii, `(m,)`."""
        assert self.radii is not None, "one radius for all does not shrink for some"
        self.radii[rows] = radii
        self.low[rows], self.high[rows] = self._sides(rows)

    def _sides(self, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return the least and largest values within the radius and the box."""
        centres = self.centres[rows]
        radius = self.radius if self.radii is None else column(self.radii[rows], centres)
        low, high = centres - radius, centres + radius
        # The rounding of the sides is undone where it would let a difference exceed the radius.
        low = torch.where(centres - low > radius, _next(low, math.inf), low)
        high = torch.where(high - centres > radius, _next(high, -math.inf), high)
        return torch.maximum(low, self.problem.low), torch.minimum(high, self.problem.high)

    def project(self, rows: Tensor, points: Tensor) -> Tensor:
        """Return points of the inputs `rows`, brought into the ball and the box.

        The nearest ones, but for L2 where the box binds: then those after a few rounds.
        """
        if math.isinf(self.norm):
            return torch.minimum(torch.maximum(points, self.low[rows]), self.high[rows])
        centres = self.centres[rows]
        near = self._onto_cross_polytope if self.norm == 1.0 else self._onto_sphere
        points = near(points, centres)
        eps = torch.finfo(points.dtype).eps
        for slack in (4.0, 64.0, 1024.0, 16384.0):
            if bool((norm_of(points - centres, self.norm) <= self.radius).all()):
                break
            points = self._scaled(points, centres, self.radius * (1.0 - slack * eps))
        return points

    def steepest(
        self, rows: Tensor, points: Tensor, gradient: Tensor, share: Tensor | None = None
    ) -> Tensor:
        """Return the step of norm 1 along which a linear function grows; zero where none does.

        For L1 it is the sign on the share of entries with the largest derivatives, a twentieth by
        default, among those that the box leaves free to move that way.
        """
        if math.isinf(self.norm):
            return gradient.sign()
        if self.norm == 2.0:
            length = norm_of(gradient, self.norm)
            return gradient / column(torch.where(length > 0, length, 1.0), gradient)
        ends = torch.where(gradient > 0, self.problem.high, self.problem.low)
        size = torch.where(points != ends, gradient.abs(), 0.0).flatten(1)
        e = size.shape[1]
        part = size.new_full((len(size),), _L1_SHARE) if share is None else share[rows]
        count = (part * e).long().clamp(1, e)
        least = size.sort(1, descending=True).values.gather(1, (count - 1).unsqueeze(1))
        chosen = (size >= least) & (size > 0)
        step = chosen.to(gradient.dtype) / chosen.sum(1, keepdim=True).clamp(min=1)
        return step.view_as(gradient) * gradient.sign()

    def start(self, rows: Tensor, streams: Streams, index: int) -> Tensor:
        """Return points drawn uniformly from the ball, then clipped to the box."""
        shape = tuple(self.centres.shape[1:])
        delta = uniform_in_ball(rows, shape, self.norm, streams, index)
        return self.project(rows, self.centres[rows] + self.reach(rows) * delta)

    def _scaled(self, points: Tensor, centres: Tensor, radius: float) -> Tensor:
        """Return points further away than `radius` scaled to it, all of them clipped to the box."""
        delta = points - centres
        length = norm_of(delta, self.norm)
        factor = torch.where(length > radius, radius / torch.where(length > 0, length, 1.0), 1.0)
        return self.problem.clip(centres + delta * column(factor, delta))

    def _onto_sphere(self, points: Tensor, centres: Tensor) -> Tensor:
        """Return clip(centre + s delta), s in [0, 1] so that its norm is the radius, if it can be.

        That is the nearest point of ball and box. The norm of what clipping leaves grows with s,
        and at most in proportion, so scaling s by radius over norm climbs to the answer.
        """
        delta = points - centres
        scale = self._share(delta, delta.new_ones(len(delta)))
        for _ in range(_SCALINGS):
            clipped = self.problem.clip(centres + delta * column(scale, delta))
            scale = self._share(clipped - centres, scale)
        return self.problem.clip(centres + delta * column(scale, delta))

    def _share(self, delta: Tensor, scale: Tensor) -> Tensor:
        """Return the scale times radius over norm, at most 1."""
        length = norm_of(delta, self.norm)
        factor = self.radius / torch.where(length > 0, length, self.radius)
        return (scale * factor).clamp(max=1.0)

    def _onto_cross_polytope(self, points: Tensor, centres: Tensor) -> Tensor:
        r"""Return the nearest points within the L1 ball and the box (Croce & Hein 2021, prop. 2.1).

        Entry i moves by clip(|d_i| - t, 0, room_i), where room_i is the way from the input to the
        side of the box; the sum falls piecewise linearly in t, so t is found by sorting.
        """
        delta = (points - centres).flatten(1)
        ends = torch.where(points >= centres, self.problem.high, self.problem.low)
        room = (ends - centres).abs().flatten(1)
        size = delta.abs()
        kinks, order = torch.cat([size, size - room], 1).clamp(min=0.0).sort(1, descending=True)
        slope = torch.where(order < size.shape[1], 1.0, -1.0).to(size.dtype).cumsum(1)
        sums = torch.zeros_like(kinks)
        sums[:, 1:] = (slope[:, :-1] * (kinks[:, :-1] - kinks[:, 1:])).cumsum(1)
        # The first kink at which the sum has reached the radius, or the last one of all.
        place = (sums < self.radius).sum(1, keepdim=True).clamp(max=kinks.shape[1] - 1)
        before = slope.gather(1, (place - 1).clamp(min=0))
        excess = sums.gather(1, place) - self.radius
        cut = kinks.gather(1, place) + excess / torch.where(before > 0, before, 1.0)
        cut = cut.clamp(min=0.0)
        moved = torch.minimum((size - cut).clamp(min=0.0), room) * delta.sign()
        return centres + moved.view_as(points)


def uniform_in_ball(
    rows: Tensor, shape: tuple[int, ...], norm: float, streams: Streams, index: int
) -> Tensor:
    """Return points drawn uniformly from the unit ball of a norm, `(m, *shape)`."""
    if math.isinf(norm):
        return 2.0 * streams.uniform(rows, shape, index) - 1.0
    delta = streams.normal(rows, shape, index)
    if norm == 1.0:
        # Half the sum of two squares is exponential; normalised, it is uniform on the sphere.
        other = streams.normal(rows, shape, index + _OTHER_DRAW)
        delta = delta.sign() * (delta.square() + other.square())
    length = streams.uniform(rows, (1,), index + 2 * _OTHER_DRAW).squeeze(1)
    length = length ** (1.0 / max(math.prod(shape), 1)) / norm_of(delta, norm)
    return delta * column(length, delta)


def _below(radius: float, points: Tensor) -> float:
    """Return the largest number of the points' dtype that is not above `radius`."""
    rounded = torch.tensor(radius, dtype=points.dtype)
    return float(rounded if float(rounded) <= radius else _next(rounded, -math.inf))


def _next(values: Tensor, towards: float) -> Tensor:
    return torch.nextafter(values, torch.full_like(values, towards))


def column(values: Tensor, points: Tensor) -> Tensor:
    """Return one number a point, `(n,)`, in a shape that broadcasts against the points."""
    return values.view(-1, *[1] * (points.dim() - 1))
