"""Refining a near point to the corner it belongs to: projections on several planes at once."""

import copy
import math

import torch
from torch import Tensor

from levelset._tools.norms import norm_of
from levelset._tools.random import Streams
from levelset.attacks._search._ball import column
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._walk import linearise

__all__ = ["Cuts", "refine", "start_over"]

# Linearisations kept a row; the one that bears least on the projection makes room.
_MOST = 6
# Steps of the accelerated gradient on the dual, and of Newton's method after them.
_ASCENTS, _NEWTONS = 24, 6
# How far beyond the planes to aim, as a share of the distance, so that the point is across.
_BEYOND, _ROUNDINGS = 1e-7, 100.0
# A value so far below 0, as a share of slope times distance, says that the planes kept are none
# of the boundary's at this point.
_DEEP = 1e-3
# A projection is evaluated unless it is further away than the nearest witness by this share.
_SLACK = 1e-4
# Most gradients from one start.
_STEPS = 12


class Cuts:
    r"""A few half-spaces a row, and the projection of the inputs on what they have in common.

    $$\min_z \lVert z - x \rVert_2 \quad \text{with} \; n_i \cdot z \le o_i, \; z \in \text{box},$$

    by its dual: $z = \operatorname{clip}(x - \sum \lambda_i n_i)$, $\lambda \ge 0$, where the
    derivative in $\lambda_i$ is $n_i \cdot z - o_i$. Accelerated projected gradients find which
    planes and sides bind; Newton's method on those ends exactly.
    """

    def __init__(self, inputs: Tensor) -> None:
        n = len(inputs)
        self.inputs = inputs.flatten(1).double()
        self.shape = inputs.shape
        self.normals = self.inputs.new_zeros(n, _MOST, self.inputs.shape[1])
        self.offsets = self.inputs.new_zeros(n, _MOST)
        self.weights = self.inputs.new_zeros(n, _MOST)
        self.used = torch.zeros_like(self.weights, dtype=torch.bool)

    def add(self, points: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Take in the linearisation at `points`; one that is flat or not finite is passed over."""
        size = norm_of(gradient.double(), 2.0)
        sound = ((size > 0) & size.isfinite() & value.isfinite()).nonzero().flatten()
        scale = 1.0 / size[sound]
        normal = gradient[sound].flatten(1).double() * scale.unsqueeze(1)
        offset = (normal * points[sound].flatten(1)).sum(1) - value[sound] * scale
        place = torch.where(self.used, self.weights, -1.0).argmin(1)[sound]
        self.normals[sound, place], self.offsets[sound, place] = normal, offset
        self.weights[sound, place], self.used[sound, place] = 0.0, True

    def of(self, rows: Tensor) -> "Cuts":
        """Return the planes of some rows, a mask `(m,)`."""
        part = copy.copy(self)
        part.inputs, part.shape = self.inputs[rows], torch.Size((int(rows.sum()), *self.shape[1:]))
        part.normals, part.offsets = self.normals[rows], self.offsets[rows]
        part.weights, part.used = self.weights[rows], self.used[rows]
        return part

    def forget(self, rows: Tensor) -> None:
        """Drop the planes of some rows, a mask `(m,)`."""
        self.used[rows], self.weights[rows], self.normals[rows] = False, 0.0, 0.0

    def project(self, low: Tensor, high: Tensor, beyond: Tensor) -> Tensor:
        """Return the points of the box nearest to the inputs that lie `beyond` all planes."""
        dual = _Dual(self, low, high, beyond)
        self.weights = dual.newton(dual.ascend(self.weights))
        return dual.at(self.weights)[1].view(self.shape).to(low.dtype)


class _Dual:
    """The dual problem of one projection."""

    def __init__(self, cuts: Cuts, low: Tensor, high: Tensor, beyond: Tensor) -> None:
        self.cuts = cuts
        self.low, self.high = (side.expand(cuts.shape).flatten(1).double() for side in (low, high))
        self.offsets = cuts.offsets - beyond.double().unsqueeze(1)

    def at(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the points before and after clipping, and the derivative, negative if unused."""
        normals = self.cuts.normals
        raw = self.cuts.inputs - (weights.unsqueeze(1) @ normals).squeeze(1)
        there = torch.minimum(torch.maximum(raw, self.low), self.high)
        slope = (normals @ there.unsqueeze(2)).squeeze(2) - self.offsets
        return raw, there, torch.where(self.cuts.used, slope, -1.0)

    def ascend(self, weights: Tensor) -> Tensor:
        """Take accelerated gradient steps."""
        normals = self.cuts.normals
        # No clip makes the dual bend more than the Gram matrix says, nor that more than its rows.
        curvature = (normals @ normals.transpose(1, 2)).abs().sum(2).amax(1, keepdim=True)
        pace = 1.0 / curvature.clamp(min=1e-30)
        ahead, inertia = weights, 1.0
        for _ in range(_ASCENTS):
            new = (ahead + pace * self.at(ahead)[2]).clamp(min=0.0) * self.cuts.used
            grown = (1.0 + math.sqrt(1.0 + 4.0 * inertia**2)) / 2.0
            ahead = (new + (inertia - 1.0) / grown * (new - weights)).clamp(min=0.0)
            weights, inertia = new, grown
        return weights

    def newton(self, weights: Tensor) -> Tensor:
        """Solve for the planes and sides that bind; keep the weights of the least violation."""
        best, least = weights, torch.full_like(weights[:, 0], torch.inf)
        normals = self.cuts.normals
        for _ in range(_NEWTONS + 1):
            raw, _, slope = self.at(weights)
            violation = torch.where(weights > 0, slope.abs(), slope.clamp(min=0.0)).amax(1)
            better = violation < least
            best = torch.where(better.unsqueeze(1), weights, best)
            least = torch.minimum(least, violation)
            free = ((raw > self.low) & (raw < self.high)).double()
            binding = ((weights > 0) | (slope > 0)).double() * self.cuts.used
            gram = (normals * free.unsqueeze(1)) @ normals.transpose(1, 2)
            gram = gram * binding.unsqueeze(1) * binding.unsqueeze(2)
            # Ones where nothing binds; a touch everywhere, for planes that coincide.
            gram = gram + torch.diag_embed(1.0 - binding + 1e-12)
            step = torch.linalg.solve_ex(gram, slope * binding).result
            weights = (weights + step.nan_to_num(0.0, 0.0, 0.0)).clamp(min=0.0) * self.cuts.used
        return best


def refine(problem: Problem, rows: Tensor, points: Tensor, rivals: Tensor, steps: int) -> Tensor:
    r"""Project the inputs on all linearisations met, L2, from `points` on.

    Where $f_{label} - f_{rival}$ is the largest of a few affine pieces, its far side is the
    convex set that their planes cut out. Each projection either lies in it, and is its nearest
    point, or is cut off by the plane found there: so corners are found exactly, which single and
    averaged planes only come near. Where it is the smallest of several, each of them is a set
    of its own; the planes are dropped where they turn out to belong to another.

    A row leaves where its projection is across, or further away than its nearest witness.

    Args:
        problem: Keeps the nearest witness.
        rows: Inputs to work on, `(m,)`.
        points: Where to linearise first, `(m, *d)`.
        rivals: The class to reach, `(m,)`.
        steps: Most gradients a row.

    Returns:
        Whether a projection was across, `(m,)`: the nearest point as far as the planes tell.
    """
    ended = torch.zeros_like(rows, dtype=torch.bool)
    inputs, place = problem.points[rows], torch.arange(len(rows), device=rows.device)
    cuts, length = Cuts(inputs), norm_of(points - inputs, 2.0)
    share = max(_BEYOND, _ROUNDINGS * torch.finfo(inputs.dtype).eps)
    for step in range(steps):
        if len(place) == 0:
            break
        value, gradient = linearise(problem, rows[place], points, rivals[place])
        deep = value < -_DEEP * norm_of(gradient, 2.0) * length
        if step:
            ended[place] = (value < 0) & ~deep
        cuts.forget(deep)
        cuts.add(points, value, gradient)
        goal = cuts.project(problem.low, problem.high, share * length)
        length = norm_of(goal - inputs[place], 2.0)
        stay = ~ended[place] & (length < (1.0 + _SLACK) * problem.distance[rows[place]])
        place, points, length = place[stay], problem.clip(goal[stay]), length[stay]
        cuts = cuts.of(stay)
    return ended


def start_over(problem: Problem, rows: Tensor, rivals: Tensor, gradients: int) -> None:
    """Refine from random points as far away as the best one, towards one rival after another.

    Args:
        problem: Keeps the nearest witness.
        rows: Inputs that have one, `(m,)`.
        rivals: The rivals of each in the order of trying, `(k, m)`.
        gradients: How many each row may spend.
    """
    # Of fixed seed: the directions are a part of the method.
    streams = Streams(torch.Generator().manual_seed(0), problem.points)
    last = problem.gradients[rows] + gradients - _STEPS
    start = 0
    while len(rows):
        inputs = problem.points[rows]
        direction = streams.normal(rows, tuple(inputs.shape[1:]), start)
        reach = problem.distance[rows] / norm_of(direction, 2.0)
        points = problem.clip(inputs + column(reach, direction) * direction)
        refine(problem, rows, points, rivals[start % len(rivals)], _STEPS)
        stay = problem.gradients[rows] <= last
        rows, last, rivals = rows[stay], last[stay], rivals[:, stay]
        start += 1
