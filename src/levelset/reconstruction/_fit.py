"""Fitting a field to oriented points: a spline grid, smoothed by least squares, coarse to fine."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._tools.checks import check_finite, check_points, check_positive, check_same_rows
from levelset._typing import Floats, Singles
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.networks import SplineGrid
from levelset.reconstruction._grid import (
    REACH,
    Band,
    Multilevel,
    Pins,
    Roughness,
    Stencil,
    all_nodes,
    band_around,
    gradients,
    halve,
    least_squares,
    open_nodes,
    refine,
    roughness,
    rows_to_matrix,
    stencil,
    values,
)
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._settings import Recipe

__all__ = ["Fit", "Sample", "distances", "fit", "solve_level", "trusted"]

_QUALITY = 2.0  # standard deviations within which a point counts as met
# The squares of the six second differences' entries at a node sum to this, with a cell's side 1.
_DIAGONAL = 42.0


@dataclass(frozen=True, eq=False)
class Sample:
    """Points with normals, as numpy arrays in the unit frame.

    Attributes:
        points: `(n, 3)`.
        normals: Unit, outward, `(n, 3)`.
        weights: How much each counts, `(n,)`, 0 to 1.
        sure: How much each normal counts, `(n,)`, 0 to 1.
        noise: Standard deviation of the noise, a coordinate.
    """

    points: Floats
    normals: Floats
    weights: Floats
    sure: Floats
    noise: float

    def used(self) -> "Sample":
        """Return the points that count at all."""
        rows = self.weights > 0
        points, normals = self.points[rows], self.normals[rows]
        return Sample(points, normals, self.weights[rows], self.sure[rows], self.noise)


@dataclass(frozen=True, eq=False)
class Fit:
    """A field through oriented points.

    Attributes:
        network: The field, negative inside. Near the points it is about the signed distance, up
            to a factor: where they are noisy its slope is less than 1.
        residuals: Distance of each point to the zero level, to first order, `(n,)`, float64,
            negative inside.
        used: Which points the finest grid took part in fitting; the others are outliers, `(n,)`.
        flipped: Share of the points whose given normal pointed against the field.
        history: One entry a solution.
    """

    network: SplineGrid
    residuals: Tensor
    used: Tensor
    flipped: float
    history: tuple[Step, ...]


def fit(
    points: Tensor,
    normals: Tensor,
    *,
    noise: float,
    weights: Tensor | None = None,
    confidence: Tensor | None = None,
    cells: int = 128,
    seconds: float | None = None,
    progress: Watch | None = None,
) -> Fit:
    r"""Return the smooth field whose zero level runs through oriented points.

    Grids of 16, 32, ... `cells` cells a side are solved one after the other, each from the last.
    A solution minimises squared residuals over the squared noise, deviations of the slope from 1,
    and the squared second derivatives near the surface, which is the energy of a bent plate; the
    weight of the last is fixed, so that the noise alone says how smooth the result is. Each grid
    beyond 32 cells is solved again with weights that let outliers and sharp edges be. From the
    third on the field itself says which side of a point is outside, and takes points far from it
    out. Grids beyond 32 cells have unknowns near the surface only; elsewhere they are the coarser
    ones, so that nothing new appears far from the points. Two more things keep stray sheets away.
    On the coarsest two, nodes that see the open in two fifths of all directions are drawn to
    their distance from the points, whatever the normals there say. And cells of less than half
    the usual gap between the points are not used beyond 32 a side.

    If Ctrl-C is pressed, or `progress` raises, after the first solution, the last one is returned
    for `KeyboardInterrupt`; other exceptions pass.

    Cost: 5 to 12 seconds on one core and 0.8 GB for 30,000 points and 128 cells.

    Args:
        points: The cloud in the unit frame, `(n, 3)`, every coordinate within 1.1 of 0.
        normals: Unit vectors outward, `(n, 3)`; some may point the wrong way.
        noise: Standard deviation of the points, a coordinate, in their units.
        weights: How much each point counts, `(n,)`, 0 to 1; `None` for 1.
        confidence: How sure the side of each normal is, `(n,)`, 0 to 1; `None` for 1.
        cells: Most cells a side: 16 times a power of two.
        seconds: Most wall-clock time; the grid reached by then is returned.
        progress: Called with a `Step` after each solution.

    Returns:
        The field, and what it says of the points.

    Raises:
        ShapeError: If the arrays have other shapes or dtypes.
        DataError: If they are not finite, or no point has a weight.
        ParameterError: If `noise` or `seconds` is not positive, `cells` is no such number, or
            `weights` or `confidence` leaves 0 to 1.

    References:
        - F. Calakli, G. Taubin, "SSD: Smooth Signed Distance Surface Reconstruction", Computer
          Graphics Forum 30 (2011): values, gradients and Hessian in one quadratic energy. We take
          the normals from the field itself but on the coarsest grids, as estimated ones follow the
          noise; weigh roughness near the surface only, so that it does not depend on the grid;
          and reweight, which sharp edges gain most from.
    """
    _check(points, normals, noise, cells, seconds)
    sample = _sample(points, normals, noise, weights, confidence)
    run = _Run(sample, cells, seconds, progress)
    try:
        run.solve()
    except KeyboardInterrupt:
        if not run.history:
            raise
    return run.result()


class _Run:
    """A fit under way."""

    def __init__(
        self, sample: Sample, cells: int, seconds: float | None, progress: Watch | None
    ) -> None:
        self.recipe = Recipe()
        self.sample, self.cells, self.seconds, self.progress = sample, cells, seconds, progress
        self.start = time.perf_counter()
        self.spacing = _spacing(sample.used().points)
        self.grid = _ball(self.recipe.coarsest)
        self.used = sample.weights > 0
        self.flipped = 0.0
        self.history: list[Step] = []

    def late(self) -> bool:
        """Return whether the time is used up."""
        return self.seconds is not None and time.perf_counter() - self.start > self.seconds

    def solve(self) -> None:
        """Solve one grid after the other."""
        sizes = self.sizes()
        total = sum(self.recipe.passes_at(size) for size in sizes)
        for size in sizes:
            start = refine(self.grid) if size > self.recipe.coarsest else self.grid
            sample = self.sample
            if size > self.recipe.given:
                sample, self.flipped = trusted(sample, start, self.recipe)
                self.used = sample.weights > 0
            pins = self.pins(size) if size <= self.recipe.dense else None
            for grid, loss in solve_level(sample.used(), start, pins, self.recipe, self.late):
                self.grid = grid
                self.tell(size, loss, total)
            if self.late():
                return

    def sizes(self) -> list[int]:
        """Return the grids: cells need not be much smaller than the gaps between the points."""
        sizes = [self.recipe.coarsest]
        least, dense = self.recipe.resolved * self.spacing, self.recipe.dense
        while sizes[-1] < self.cells and (sizes[-1] < dense or REACH / sizes[-1] > least):
            sizes.append(2 * sizes[-1])
        return sizes

    def pins(self, size: int) -> Pins:
        """Return what lies outside whatever the normals say."""
        recipe = self.recipe
        gaps = (recipe.clearance_noise * self.sample.noise, recipe.clearance_gap * self.spacing)
        clearance = max(recipe.clearance, *gaps)
        return open_nodes(self.sample.used().points, size, clearance, recipe.open)

    def tell(self, size: int, loss: float, total: int) -> None:
        """Record a solution, and hand it on."""
        away = np.abs(distances(self.sample.points, self.grid)[0])[self.sample.weights > 0]
        step = Step(
            f"fitting, {size} cells", len(self.history) + 1, total,
            time.perf_counter() - self.start, loss, float(np.median(away)),
            float((away < _QUALITY * self.sample.noise).mean()),
        )  # fmt: skip
        self.history.append(step)
        if self.progress is not None:
            self.progress(step)

    def result(self) -> Fit:
        """Return what is there."""
        network = SplineGrid(len(self.grid) - 2, REACH)
        with torch.no_grad():
            network.coefficients.copy_(torch.from_numpy(self.grid))
        away = torch.from_numpy(distances(self.sample.points, self.grid)[0])
        used = torch.from_numpy(self.used)
        return Fit(network, away, used, self.flipped, tuple(self.history))


def _spacing(points: Floats) -> float:
    """Return the usual distance between neighbours: the root of the area that a point has."""
    count = min(9, len(points))
    farthest = cKDTree(points).query(points, count)[0].reshape(len(points), count)[:, -1]
    return float(np.median(farthest) * np.sqrt(np.pi / max(count - 1, 1)))


def _ball(cells: int) -> Floats:
    """Return about the distance to a ball, where the first search begins."""
    line = (np.arange(cells + 2) - 0.5) * (2 * REACH / cells) - REACH
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    return np.sqrt(x * x + y * y + z * z) - 0.6


def _check(
    points: Tensor, normals: Tensor, noise: float, cells: int, seconds: float | None
) -> None:
    for name, array in (("points", points), ("normals", normals)):
        check_points("fit", array, name)
        if array.dim() != 2 or array.shape[1] != 3:
            message = f"fit: `{name}` must have the shape (n, 3), got {tuple(array.shape)}."
            raise ShapeError(message)
        check_finite("fit", array, name)
    check_same_rows("fit", points, normals, "normals")
    check_positive("fit", "noise", noise)
    if seconds is not None:
        check_positive("fit", "seconds", seconds)
    coarsest = Recipe().coarsest
    times, rest = divmod(cells, coarsest)
    if times < 1 or rest or times & (times - 1):
        message = f"fit: `cells` must be {coarsest} times a power of two, got {cells}."
        raise ParameterError(message)


def _sample(
    points: Tensor,
    normals: Tensor,
    noise: float,
    weights: Tensor | None,
    confidence: Tensor | None,
) -> Sample:
    """Return the points as arrays, with checked weights."""
    own = []
    for name, given in (("weights", weights), ("confidence", confidence)):
        check_same_rows("fit", points, given, name)
        array = torch.ones(len(points)) if given is None else given
        if not (torch.isfinite(array).all() and (array >= 0).all() and (array <= 1).all()):
            message = f"fit: `{name}` must lie in 0 to 1."
            raise ParameterError(message)
        own.append(array)
    if not (own[0] > 0).any():
        message = f"fit: some point must count, got {len(points)} points, all of weight 0."
        raise DataError(message)
    p, n, w, c = (array.detach().cpu().double().numpy() for array in (points, normals, *own))
    return Sample(p, n, w, c, noise)


def distances(points: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Return the distances of points to the zero level to first order, and unit gradients there.

    The slope is taken for at least 0.1, so that distances stay finite.
    """
    at = stencil(points, len(grid) - 2)
    slope = gradients(at, grid)
    size = np.linalg.norm(slope, axis=1)
    unit = slope / np.maximum(size, 1e-9)[:, None]
    return values(at, grid) / np.maximum(size, 0.1), unit


def trusted(sample: Sample, grid: Floats, recipe: Recipe) -> tuple[Sample, float]:
    """Take the points far from a coarser field out, and let the field say where outside is.

    Returns:
        The sample with the field's directions as normals, and the share of the points whose own
        normal pointed the other way.
    """
    away, unit = distances(sample.points, grid)
    width = 2 * REACH / (len(grid) - 2)
    cut = max(recipe.cut * sample.noise, recipe.cut_cells * width)
    against = (unit * sample.normals).sum(1) < 0
    weights = sample.weights * (np.abs(away) < cut)
    flipped = float((sample.weights * against).sum() / sample.weights.sum())
    return replace(sample, normals=unit, weights=weights, sure=np.ones(len(weights))), flipped


class _Coarser(NamedTuple):
    """What the preconditioner knows of a coarser grid."""

    refinement: csr_matrix
    width: float
    value: csr_matrix
    slope: csr_matrix


@dataclass(frozen=True, eq=False)
class _System:
    """The equations of a level, without their weights.

    Attributes:
        band: The unknowns.
        value: Values at the points.
        slope: Slopes along the normals, or all three derivatives, as one block.
        slope_target: What they should be.
        rough: The second differences.
        near: How much roughness counts at each node, before the reweighting.
        pin: Values at the pinned nodes.
        pin_target: What they should be.
        coarser: The coarser grids.
    """

    band: Band
    value: csr_matrix
    slope: csr_matrix
    slope_target: Floats
    rough: list[Roughness]
    near: Floats
    pin: csr_matrix
    pin_target: Floats
    coarser: list[_Coarser]


def _system(sample: Sample, grid: Floats, pins: Pins | None, recipe: Recipe) -> _System:
    cells = len(grid) - 2
    at = stencil(sample.points, cells)
    if cells <= recipe.dense:
        band = all_nodes(cells)
    else:
        band = band_around(cells, grid, at.nodes, recipe.band * 2 * REACH / cells)
    columns, count = band.place[at.nodes], len(band.nodes)
    blunt = 0.5 * recipe.debias * sample.noise**2
    value = rows_to_matrix(columns, at.value - blunt * at.laplacian, count)
    whole = cells <= recipe.given
    slopes = _slopes(at, sample.normals, whole)
    slope = vstack([rows_to_matrix(columns, part, count) for part in slopes], format="csr")
    target = sample.normals.T.ravel() if whole else np.ones(len(sample.points))
    coarser = _coarser(band, sample, whole)
    near = _layer(grid.ravel()[band.nodes], cells, sample.noise, recipe)
    nodes, pinned = pins or Pins(np.zeros(0, np.int64), np.zeros(0))
    pin = rows_to_matrix(band.place[nodes, None], np.ones((len(nodes), 1)), count)
    return _System(band, value, slope, target, roughness(band), near, pin, pinned, coarser)


def _slopes(at: Stencil, normals: Floats, whole: bool) -> list[Floats]:
    """Return rows for all derivatives, or for the one along the normal."""
    if whole:
        return list(at.gradient.transpose(1, 0, 2))
    return [np.einsum("na,nak->nk", normals, at.gradient)]


def _layer(start: Floats, cells: int, noise: float, recipe: Recipe) -> Floats:
    """Return a bell across the surface that integrates to 1, plus a little everywhere."""
    if cells == recipe.coarsest:
        return np.full(len(start), 0.5)
    width = max(recipe.width * 2 * REACH / cells, recipe.width_noise * noise)
    bell = np.exp(-0.5 * (start / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return bell + recipe.far


def _coarser(band: Band, sample: Sample, whole: bool) -> list[_Coarser]:
    found = []
    while band.cells > 8 and band.cells % 2 == 0:
        refinement, band = halve(band)
        at = stencil(sample.points, band.cells)
        columns = band.place[at.nodes]
        absent = columns < 0
        squares = sum(part**2 for part in _slopes(at, sample.normals, whole))
        parts = [np.where(absent, 0.0, part) for part in (at.value**2, squares)]
        columns = np.where(absent, 0, columns)
        value, slope = (rows_to_matrix(columns, part, len(band.nodes)) for part in parts)
        found.append(_Coarser(refinement, band.width, value, slope))
    return found


def solve_level(
    sample: Sample,
    grid: Floats,
    pins: Pins | None,
    recipe: Recipe,
    stop: Callable[[], bool],
) -> Iterator[tuple[Floats, float]]:
    r"""Solve one level, and again with weights that follow the residuals; yield after each pass.

    The first pass minimises

    $$\sum_i \frac{F(p_i)^2}{\sigma^2} + a \sum_i (n_i \cdot \nabla F(p_i) - 1)^2
      + \lambda \int w\, |\nabla^2 F|^2,$$

    with $w$ a bell across the zero level of the coarser field that integrates to 1 across it:
    the last term is, to first order, $\lambda \int_S (\kappa_1^2 + \kappa_2^2)$, whatever the
    size of the cells. The later passes replace the first term by $\sqrt{1 + r^2}$ and the last by
    $\log(1 + |\nabla^2 F|^2 / b^2)$, so that neither stray points nor edges count in full.

    Args:
        sample: Points that count; on the coarsest levels the normals give the whole gradient.
        grid: Where to begin; about a distance, `(cells + 2,) * 3`.
        pins: Nodes outside, whose values are drawn towards their distance from the points.
        recipe: The constants.
        stop: Ends the search when true.

    Yields:
        The coefficients, and the loss over the number of points.
    """
    system = _system(sample, grid, pins, recipe)
    nodes = system.band.nodes
    x = grid.ravel()[nodes].astype(np.float64)
    for k in range(recipe.passes_at(system.band.cells)):
        trust, give = sample.weights, np.ones(len(nodes))
        if k > 0:
            miss = (system.value @ x.astype(np.float32)) / sample.noise
            trust = trust / np.sqrt(1 + (miss / recipe.tail) ** 2)
            give = 1 / (1 + _squared_hessian(system.rough, x) / recipe.bend**2)
        x, loss = _solve(system, sample, trust, give, x, recipe, stop)
        new = grid.ravel().copy()
        new[nodes] = x
        yield new.reshape(grid.shape), loss / len(sample.points)
        if stop():
            return


def _solve(
    system: _System,
    sample: Sample,
    trust: Floats,
    give: Floats,
    start: Floats,
    recipe: Recipe,
    stop: Callable[[], bool],
) -> tuple[Floats, float]:
    """Return the minimiser for fixed weights, and the minimum."""
    cell = system.band.width**3
    hard = recipe.smoothness_at(sample.noise, len(sample.points)) * cell * system.near * give
    fit = trust / sample.noise**2
    steep = recipe.slope * sample.weights * sample.sure**recipe.doubt
    hold = recipe.pin * cell
    blocks = [
        _scaled(system.value, np.sqrt(fit)),
        _scaled(system.slope, np.sqrt(np.resize(steep, system.slope.shape[0]))),
        system.pin * np.float32(np.sqrt(hold)),
        *(_scaled(kind.matrix, np.sqrt(hard[kind.node])) for kind in system.rough),
    ]
    matrix = vstack(blocks, format="csr")
    target = np.zeros(matrix.shape[0], np.float32)
    slope = system.slope_target * np.sqrt(np.resize(steep, len(system.slope_target)))
    known = np.concatenate([slope, system.pin_target * np.sqrt(hold)])
    target[len(fit) : len(fit) + len(known)] = known
    held = hold * (system.pin.T @ np.ones(len(system.pin_target)))
    precondition = _preconditioner(system, matrix, fit, steep, hard, held)
    x = least_squares(
        matrix, target, start, system.band.free, precondition,
        tol=recipe.tol, max_iter=recipe.max_iter, stop=stop,
    )  # fmt: skip
    rest = matrix @ x.astype(np.float32) - target
    return x, float(rest.astype(np.float64) @ rest)


def _preconditioner(
    system: _System,
    matrix: csr_matrix,
    fit: Floats,
    steep: Floats,
    hard: Floats,
    held: Floats,
) -> Multilevel:
    squared = matrix.data.astype(np.float64) ** 2
    finest: Floats = np.bincount(matrix.indices, squared, matrix.shape[1]).astype(np.float64)
    inverse = [_inverse(finest)]
    for level in system.coarser:
        hard, held = level.refinement.T @ hard, level.refinement.T @ held
        data = level.value.T @ fit + level.slope.T @ steep
        inverse.append(_inverse(data + held + _DIAGONAL * hard / level.width**4))
    return Multilevel([level.refinement for level in system.coarser], inverse)


def _inverse(diagonal: Floats) -> Singles:
    return (1 / np.maximum(diagonal, 1e-12)).astype(np.float32)


def _scaled(matrix: csr_matrix, scale: Floats) -> csr_matrix:
    """Return the matrix with each row multiplied by a number."""
    data = matrix.data * np.repeat(scale.astype(np.float32), np.diff(matrix.indptr))
    return csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _squared_hessian(rough: list[Roughness], x: Floats) -> Floats:
    total = np.zeros(len(x))
    for kind in rough:
        total += np.bincount(kind.node, (kind.matrix @ x.astype(np.float32)) ** 2, len(x))
    return total
