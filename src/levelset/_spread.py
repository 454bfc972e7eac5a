"""Points spread evenly over a level set: walk over it, then let them repel one another."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._projection import Newton, Projection, check_tolerance, project
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.bounds import read_numbers
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_level,
    check_points,
    check_same_rows,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.precision import at_least_single
from levelset._tools.random import draw_seed
from levelset._typing import Corners, Field, FieldLabels, Points, Progress
from levelset.errors import DataError, NotConvergedError, ParameterError, ShapeError

__all__ = ["sample_level_set"]

# Points of the walk for each point wanted: on a curve, on other level sets, and where points have
# many coordinates; and how far it may go beyond that before it is stopped.
_ON_CURVE, _OVERSAMPLING, _OVERSAMPLING_MANY, _EXCESS = 100, 25, 5, 1.6
# Most coordinates for which a tree finds neighbours faster than all distances do.
_FEW = 16
# Steps from each point of the front of the walk.
_STEPS = 8
# Rounds of moving points to the mean of what is nearest to them (more on a curve, along which
# differences even out slowly), and to the centre of the smallest
# ball around it; steps of the search for that ball; rounds of plain repulsion.
_MEAN_ROUNDS, _CURVE_ROUNDS, _BALL_ROUNDS, _BALL_STEPS, _REPEL_ROUNDS = 15, 60, 10, 20, 30
# Neighbours that repel a point, and numbers in a matrix of distances.
_NEIGHBOURS, _BLOCK = 8, 2**24


@checked
def sample_level_set(
    field: Field,
    points: Points,
    n: int,
    *,
    level: float = 0.0,
    labels: FieldLabels = None,
    bounds: Corners | None = None,
    method: Newton = Newton(),  # noqa: B008 - frozen
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Projection:
    r"""Spread n points evenly over the level set $\{x : F(x) = c\}$.

    Starts are projected onto the level set. From there a walk covers it: tangent steps of random
    direction, each projected back, kept where no point is near yet; the steps shorten until 25
    times n points lie on it, about equally far apart. Of these the n that are farthest from one
    another repel: each moves to the mean, later to the centre of the smallest ball, of the part of
    the walk that is nearest to it, and back onto the level set. On a surface the farthest that any
    of its points is from a sample ends at 1.2 to 1.3 times what hexagons reach, $0.62 \sqrt{A /
    n}$.

    A level set of more dimensions than the walk can cover is sampled as far
    as the walk came, and its points repel by distance alone.

    Pieces that neither a start nor a step reaches are missed: give starts all over the space.

    Cost: about 200 n evaluations with gradient; distances between points by a tree.

    Args:
        field: The field; maps `(n, *d)` to `(n,)`, or to `(n, l)` for `l` equations.
        points: Starts, `(m, *d)`, at least one; they need not lie on the level set.
        n: How many points to return.
        level: The level c, in units of the field.
        labels: Passed to the field; one label for all points.
        bounds: Lowest and highest corner of a box that holds the samples, `(2, e)`, or two numbers
            for a cube; `None` for no box where the level set ends within two diagonals of the box
            around `points` and their projections, else for that box.
        method: The iteration that projects.
        tol: Largest |F - c| of a sample, in units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of the walk; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in rounds of repulsion.

    Returns:
        The samples, `(n, *d)`; all converged.

    Raises:
        NotConvergedError: If no start, or too few steps, reach the level set in the box.
        DataError: If there is no start, or one is not finite.
        ShapeError: If points have no coordinates, or the box another number of them.
        ParameterError: If `n` is below 1, labels differ, or a low bound is not below the high one.

    Example:
        >>> import torch
        >>> from levelset import sample_level_set
        >>> from levelset.shapes import Sphere
        >>> starts = torch.tensor([[0.5, 0.2, 0.9], [-1.0, 0.1, 0.3]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = sample_level_set(Sphere(), starts, 100, generator=generator)
        >>> len(samples), bool(samples.converged.all())
        (100, True)

    References:
        - Atzmon et al. 2019, supplement, figure A1: three ways to draw samples, which this
          replaces.
        - R. Bridson, "Fast Poisson disk sampling in arbitrary dimensions", SIGGRAPH sketches 2007:
          the front of the walk.
        - M. Bădoiu, K. Clarkson, "Smaller core-sets for balls", SODA 2003: the smallest ball.
    """
    _check(points, n, level, tol, labels)
    row = None if labels is None or not len(labels) else labels[:1]
    with frozen(field):
        surface = _Surface(field, points.detach(), level, row, method, tol, batch_size)
        draws = torch.Generator().manual_seed(draw_seed(generator))
        walk = _Walk(surface, draws)
        walk.cover(_first_points(surface, points, bounds), n)
        samples = _farthest(walk.points, n)
        rounds = _rounds(walk)
        for done, move in enumerate(rounds, start=1):
            moved, arrived = surface.on(move(samples, walk.points))
            samples = torch.where(arrived.unsqueeze(1), moved, samples)
            if progress is not None:
                progress(done, len(rounds))
        return surface.project(samples, points)


@dataclass(eq=False)
class _Surface:
    """The level set within a box: projecting onto it and stepping along it, on flat points.

    These are in single precision where the caller's are in half.
    """

    field: Field
    like: Tensor
    level: float
    label: Tensor | None
    method: Newton
    tol: float
    batch_size: int | None
    low: Tensor | None = None
    high: Tensor | None = None
    equations: int = 1

    def project(self, flat: Tensor, like: Tensor) -> Projection:
        """Return flat points projected, in the shape of the caller's points."""
        shaped = flat.to(like.dtype).view(-1, *self.like.shape[1:])
        result = project(
            self.field, shaped, level=self.level, labels=self._labels(len(shaped)),
            method=self.method, tol=self.tol, batch_size=self.batch_size,
        )  # fmt: skip
        outside = ~self.contains(result.points.flatten(1))
        result.converged[outside] = False
        return result

    def on(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return where flat points project to, and which of them arrive within the box."""
        result = self.project(flat, self.like)
        return at_least_single(result.points.flatten(1)), result.converged

    def is_curve(self, flat: Tensor) -> bool:
        """Return whether the level set through some points has one dimension."""
        self.tangents(flat[:1], flat.new_zeros(1, 0, flat.shape[1]))
        return flat.shape[1] - self.equations == 1

    def contains(self, flat: Tensor) -> Tensor:
        """Return which flat points lie in the box."""
        if self.low is None or self.high is None:
            return torch.ones(len(flat), dtype=torch.bool, device=flat.device)
        return ((flat >= self.low) & (flat <= self.high)).all(1)

    def tangents(self, flat: Tensor, vectors: Tensor) -> Tensor:
        """Return the unit tangential parts of vectors `(n, s, e)`, s at each of n points."""
        evaluator = Evaluator("sample_level_set", self.field, self.batch_size)
        shaped = flat.to(self.like.dtype).view(-1, *self.like.shape[1:])
        _, jacobian = evaluator.value_and_jacobian(shaped, self._labels(len(flat)))
        normals = torch.linalg.qr(at_least_single(jacobian).transpose(1, 2))[0]
        along = vectors - (vectors @ normals) @ normals.transpose(1, 2)
        length = torch.linalg.vector_norm(along, dim=2, keepdim=True)
        self.equations = jacobian.shape[1]
        return along / length.clamp(min=torch.finfo(along.dtype).tiny)

    def _labels(self, rows: int) -> Tensor | None:
        return None if self.label is None else self.label.expand(rows, *self.label.shape[1:])


class _Walk:
    """Points all over the level set, no two nearer than a spacing.

    Attributes:
        points: Where, `(m, e)`.
        is_covered: Whether every part that was reached has one within two spacings.
    """

    def __init__(self, surface: _Surface, draws: torch.Generator) -> None:
        self.surface, self.draws = surface, draws
        self.points = at_least_single(surface.like.flatten(1)[:0])
        self.is_covered = False

    def cover(self, seeds: Tensor, n: int) -> None:
        """Walk with ever shorter steps until there are enough points for n samples."""
        many = _OVERSAMPLING if seeds.shape[1] <= _FEW else _OVERSAMPLING_MANY
        wanted = (_ON_CURVE if self.surface.is_curve(seeds) else many) * n
        most = int(_EXCESS * wanted) + 1
        extent = float((seeds.amax(0) - seeds.amin(0)).norm())
        spacing = max(extent, 1e-3 * float(seeds.norm(dim=1).max())) or 1.0
        self.points = self._apart(seeds[:0], seeds, spacing)
        for _ in range(100):
            self._advance(spacing, most)
            count = len(self.points)
            if count >= wanted or not self.is_covered:
                break
            free = max(self.points.shape[1] - self.surface.equations, 1)
            # Counts of a coarse walk say little about the next: halve at most.
            spacing *= max(0.5, min((count / (1.2 * wanted)) ** (1.0 / free), 0.9))
            self.points = self._apart(self.points, seeds, spacing, keep=True)
        if len(self.points) < n:
            message = (
                f"sample_level_set: `points` must lead to {n} points of the level set in the box, "
                f"got {len(self.points)}. Give starts nearer to it, or wider `bounds`."
            )
            raise NotConvergedError(message)

    def _advance(self, spacing: float, most: int) -> None:
        """Let the front walk until it meets nothing new."""
        front = self.points
        while len(front) and len(self.points) < most:
            ends = self._step(front, spacing, _STEPS)
            front = self._apart(self.points, ends, spacing)[: most - len(self.points)]
            self.points = torch.cat([self.points, front])
        self.is_covered = not len(front)

    def _step(self, origin: Tensor, spacing: float, steps: int) -> Tensor:
        """Return where `steps` tangent steps from each point, one to two spacings long, end."""
        shape = (len(origin), steps, origin.shape[1])
        drawn = torch.randn(shape, generator=self.draws, dtype=torch.float64).to(origin)
        length = 1.0 + torch.rand(*shape[:2], 1, generator=self.draws, dtype=torch.float64)
        along = self.surface.tangents(origin, drawn) * (spacing * length.to(origin))
        ends, arrived = self.surface.on((origin.unsqueeze(1) + along).flatten(0, 1))
        return ends[arrived]

    def _apart(self, old: Tensor, new: Tensor, spacing: float, *, keep: bool = False) -> Tensor:
        """Return those of `new` a spacing away from the old and from one another.

        With `keep` the old ones come first.
        """
        if len(old) and len(new):
            new = new[_nearest(new, old)[0] >= spacing]
        order = torch.randperm(len(new), generator=self.draws).numpy()
        chosen = new[torch.from_numpy(_independent(new, spacing, order)).to(new.device)]
        return torch.cat([old, chosen]) if keep else chosen


def _independent(points: Tensor, spacing: float, order: np.ndarray) -> np.ndarray:
    """Return a mask of points no two of which are nearer than a spacing, and no more would fit.

    In rounds, all pairs at once: a point that comes before all its remaining neighbours is chosen,
    and these are dropped.
    """
    chosen = np.zeros(len(points), dtype=bool)
    if not len(points):
        return chosen
    left, right = _near_pairs(points, spacing)
    alive = ~chosen
    while alive.any():
        both = alive[left] & alive[right]
        left, right = left[both], right[both]
        first = np.full(len(points), len(points))
        np.minimum.at(first, left, order[right])
        np.minimum.at(first, right, order[left])
        winners = alive & (order < first)
        chosen |= winners
        alive &= ~winners
        alive[left[winners[right]]] = alive[right[winners[left]]] = False
    return chosen


def _first_points(surface: _Surface, points: Tensor, bounds: Corners | None) -> Tensor:
    """Set the box of a surface and return the points of it that the starts project to."""
    flat = at_least_single(surface.like.flatten(1))
    if bounds is not None:
        surface.low, surface.high = _box(bounds, flat)
    seeds, arrived = surface.on(flat)
    if not bool(arrived.any()):
        message = (
            f"sample_level_set: `points` must lead to the level {surface.level:g}, but none of the "
            f"{len(points)} starts reaches it in the box. Give starts nearer, wider `bounds`, "
            "or more steps by `method`."
        )
        raise NotConvergedError(message)
    seeds = seeds[arrived]
    if bounds is None:
        _choose_box(surface, torch.cat([flat, seeds]), seeds)
    return seeds


def _choose_box(surface: _Surface, around: Tensor, seeds: Tensor) -> None:
    """Leave a surface unbounded if a coarse walk stays near, else bound it by what is around."""
    low, high = around.amin(0), around.amax(0)
    margin = 2.0 * float((high - low).norm())
    surface.low, surface.high = low - margin, high + margin
    scout = _Walk(surface, torch.Generator().manual_seed(0))
    spacing = max(0.05 * margin, torch.finfo(around.dtype).tiny)
    scout.points = scout._apart(seeds[:0], seeds, spacing)
    scout._advance(spacing, most=2000)
    reach = scout.points.amin(0) - surface.low, surface.high - scout.points.amax(0)
    is_inside = scout.is_covered and float(torch.stack(reach).min()) > 2.0 * spacing
    slack = 1e-6 * margin
    surface.low = None if is_inside else low - slack
    surface.high = None if is_inside else high + slack


def _farthest(points: Tensor, n: int) -> Tensor:
    """Return n points, each the farthest from those before it."""
    size = points.square().sum(1)
    chosen = [0]
    away = size + size[0] - 2.0 * (points @ points[0])
    for _ in range(n - 1):
        chosen.append(int(away.argmax()))
        last = chosen[-1]
        away = torch.minimum(away, size + size[last] - 2.0 * (points @ points[last]))
    return points[torch.tensor(chosen, device=points.device)]


def _rounds(walk: _Walk) -> Sequence[Callable[[Tensor, Tensor], Tensor]]:
    """Return how samples move in each round of repulsion."""
    if not walk.is_covered:
        return [_away] * _REPEL_ROUNDS
    is_curve = walk.surface.is_curve(walk.points)
    return [_means] * (_CURVE_ROUNDS if is_curve else _MEAN_ROUNDS) + [_balls] * _BALL_ROUNDS


def _nearest(points: Tensor, cloud: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance of each point from a cloud, and which point of it is nearest."""
    if points.shape[1] > _FEW:
        parts = [torch.cdist(part, cloud).min(1) for part in _blocks(points, len(cloud))]
        return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])
    tree = cKDTree(cloud.double().cpu().numpy())
    distance, which = tree.query(points.double().cpu().numpy())
    return (
        torch.from_numpy(distance).to(points),
        torch.from_numpy(which).to(points.device, torch.int64),
    )


def _near_pairs(points: Tensor, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of all pairs nearer than a spacing."""
    if points.shape[1] <= _FEW:
        tree = cKDTree(points.double().cpu().numpy())
        pairs = tree.query_pairs(spacing, output_type="ndarray")
        return pairs[:, 0], pairs[:, 1]
    found, first = [], 0
    for part in _blocks(points, len(points)):
        left, right = (torch.cdist(part, points) < spacing).nonzero().T
        left = left + first
        found.append(torch.stack([left, right])[:, left < right])
        first += len(part)
    pairs = torch.cat(found, dim=1).cpu().numpy()
    return pairs[0], pairs[1]


def _blocks(points: Tensor, columns: int) -> tuple[Tensor, ...]:
    """Return the points in parts whose distances to so many others fit into memory."""
    size = max(_BLOCK // max(columns, 1), 1)
    return tuple(points[rows] for rows in row_batches(len(points), size))


def _means(samples: Tensor, cover: Tensor) -> Tensor:
    owners = _nearest(cover, samples)[1]
    count = torch.bincount(owners, minlength=len(samples)).unsqueeze(1)
    mean = torch.zeros_like(samples).index_add(0, owners, cover) / count.clamp(min=1)
    return torch.where(count > 0, mean, samples)


def _balls(samples: Tensor, cover: Tensor) -> Tensor:
    """Return the centres of the smallest balls: step towards the farthest, ever less."""
    owners = _nearest(cover, samples)[1]
    centre = samples.clone()
    for step in range(1, _BALL_STEPS + 1):
        away = (cover - centre[owners]).square().sum(1)
        farthest = away.new_full((len(samples),), -math.inf)
        farthest = farthest.scatter_reduce(0, owners, away, "amax")
        is_farthest = (away >= farthest[owners]).nonzero().flatten()
        target = centre.clone()
        target[owners[is_farthest]] = cover[is_farthest]
        centre = centre + (target - centre) / (step + 1)
    return centre


def _away(samples: Tensor, cover: Tensor) -> Tensor:
    """Return samples pushed off their nearest neighbours, by a third of the distance at most."""
    count = min(_NEIGHBOURS, len(samples) - 1)
    if count < 1:
        return samples
    moved = []
    for part in _blocks(samples, len(samples)):
        nearest, which = torch.cdist(part, samples).topk(count + 1, largest=False)
        apart = part.unsqueeze(1) - samples[which[:, 1:]]
        distance = nearest[:, 1:].clamp(min=torch.finfo(part.dtype).tiny)
        weight = (distance[:, :1] / distance) ** 3
        push = (weight.unsqueeze(2) * apart / distance.unsqueeze(2)).sum(1)
        moved.append(part + push * distance[:, :1] / (3.0 * count**0.5))
    return torch.cat(moved)


def _box(bounds: Corners, flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of the box, `(e,)` each."""
    corners = read_numbers(
        "sample_level_set", "bounds", bounds, "two corners, (2, e), or two numbers"
    ).to(flat)
    size = flat.shape[1]
    if corners.dim() == 1 and corners.numel() == 2:
        corners = corners.unsqueeze(1).expand(2, size)
    if corners.shape[:1] != (2,) or corners[0].numel() != size:
        message = (
            f"sample_level_set: `bounds` must be two corners (2, {size}) or two numbers, got "
            f"{tuple(corners.shape)}."
        )
        raise ShapeError(message)
    low, high = corners.flatten(1)
    if not bool((low < high).all()):
        message = f"sample_level_set: `bounds` must have low below high, got {low} and {high}."
        raise ParameterError(message)
    return low, high


def _check(points: Tensor, n: int, level: float, tol: float, labels: Tensor | None) -> None:
    check_points("sample_level_set", points)
    if not len(points):
        message = "sample_level_set: `points` must hold at least one start, got none."
        raise DataError(message)
    if not points[0].numel():
        got = tuple(points.shape)
        message = f"sample_level_set: `points` must have coordinates, got the shape {got}."
        raise ShapeError(message)
    check_finite("sample_level_set", points)
    check_at_least_one("sample_level_set", "n", n)
    check_level("sample_level_set", level)
    check_tolerance("sample_level_set", tol, points)
    check_same_rows("sample_level_set", points, labels, "labels")
    if labels is not None and bool((labels != labels[:1]).any()):
        message = (
            "sample_level_set: `labels` must be the same for all points, as one level set is "
            "sampled, got several. Call it once for each."
        )
        raise ParameterError(message)
