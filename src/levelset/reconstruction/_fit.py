"""Fitting a field to oriented points: a spline grid, smoothed by least squares, coarse to fine."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from scipy.spatial import cKDTree

from levelset._typing import Floats, Integers, Singles
from levelset.networks import SplineGrid
from levelset.reconstruction._facing import Facing, facing, loosened
from levelset.reconstruction._grid import (
    REACH,
    Band,
    Pins,
    Stencil,
    all_nodes,
    band_around,
    band_at,
    gradients,
    halve,
    least_squares,
    open_nodes,
    refine,
    roughness,
    rows_to_matrix,
    scaled,
    stencil,
    values,
)
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._multigrid import (
    Additive,
    Cycle,
    coarse_cycle,
    galerkin,
    inverse_diagonal,
    lumped,
    normal_matrix,
)
from levelset.reconstruction._orientation import OrientedPoints
from levelset.reconstruction._settings import Recipe

__all__ = ["distances", "fit", "solve_level", "trusted"]

_REPORTED = 5_000  # points that the progress of a fit is measured at
_QUALITY = 2.0  # standard deviations within which a point counts as met
_BLOCKS = 32  # a side, in which noise and density are taken for one
_NEAR = 48  # points whose reach says how dense they are there
_SOME = 1_000  # points that say how dense they are on the whole


def fit(
    points: OrientedPoints,
    *,
    cells: int = 128,
    seconds: float | None = None,
    progress: Watch | None = None,
) -> SplineGrid:
    r"""Return the smooth field whose zero level runs through oriented points.

    Grids of 16, 32, ... `cells` cells a side are solved one after the other, each from the last. A
    solution minimises squared residuals over the squared noise, deviations of the slope from 1, and
    the squared second derivatives near the surface, which is the energy of a bent plate; the weight
    of the last is fixed, so that the noise around alone says how smooth the result is, and where
    noise differs, density too. Each grid beyond 32 cells is solved again with weights that let
    outliers and sharp edges be. Where two sheets face each other among the nearest points, the
    second derivative across them counts a tenth (`loosened`). From the third on the field itself
    says which side of a point is outside, and takes points far from it out. Grids beyond 32 cells
    have unknowns near the surface only; elsewhere they are the coarser ones, so that nothing new
    appears far from the points; beyond 128 cells, in the cells around points only, so that holes
    stay as they are. Two more things keep stray sheets away. On the coarsest two, nodes that see
    the open in two fifths of all directions are drawn to their distance from the points, whatever
    the normals there say. And cells of less than half the usual gap between the points are not used
    beyond 32 a side.

    If Ctrl-C is pressed, or `progress` raises, after the first solution, the last one is returned
    for `KeyboardInterrupt`; other exceptions pass.

    Cost: about 5 seconds on one core and 0.7 GB for 30,000 points and 128 cells.

    Args:
        points: The cloud in the unit frame, its normals, some of which may point the wrong way,
            and the noise around each.
        cells: Most cells a side: 16 times a power of two.
        seconds: Most wall-clock time; the grid reached by then is returned.
        progress: Called with a `Step` after each solution.

    Returns:
        The field, negative inside. Near the points it is about the signed distance, up to a
        factor: where they are noisy its slope is less than 1.

    References:
        - F. Calakli, G. Taubin, "SSD: Smooth Signed Distance Surface Reconstruction", Computer
          Graphics Forum 30 (2011): values, gradients and Hessian in one quadratic energy. We take
          the normals from the field itself but on the coarsest grids, as estimated ones follow the
          noise; weigh roughness near the surface only, so that it does not depend on the grid;
          and reweight, which sharp edges gain most from.
    """
    run = _Run(points, cells, seconds, progress)
    try:
        run.solve()
    except KeyboardInterrupt:
        if not run.solutions:
            raise
    return run.network()


class _Run:
    """A fit under way."""

    def __init__(
        self, points: OrientedPoints, cells: int, seconds: float | None, progress: Watch | None
    ) -> None:
        self.recipe = Recipe()
        self.points = points.without_outliers()
        self.cells, self.seconds, self.progress = cells, seconds, progress
        self.start = time.perf_counter()
        self.spacing = _spacing(self.points.points)
        self.facing = facing(self.points)
        self.grid = _ball(self.recipe.coarsest)
        self.solutions = 0

    def late(self) -> bool:
        """Return whether the time is used up."""
        return self.seconds is not None and time.perf_counter() - self.start > self.seconds

    def solve(self) -> None:
        """Solve one grid after the other."""
        sizes = self.sizes()
        total = sum(self.recipe.passes_at(size) for size in sizes)
        for size in sizes:
            start = refine(self.grid) if size > self.recipe.coarsest else self.grid
            points = self.points.thinned(self.recipe.most_at(size))
            if size > self.recipe.given:
                points = trusted(points, start, self.recipe)
            pins = self.pins(size) if size <= self.recipe.dense else None
            for grid, loss in solve_level(points, start, pins, self.recipe, self.late, self.facing):
                self.grid = grid
                self.report(size, loss, total)
            if self.late():
                return

    def sizes(self) -> list[int]:
        """Return the cells a side of each grid; the gaps between the points limit them."""
        sizes = [self.recipe.coarsest]
        least, dense = self.recipe.resolved * self.spacing, self.recipe.dense
        while sizes[-1] < self.cells and (sizes[-1] < dense or REACH / sizes[-1] > least):
            sizes.append(2 * sizes[-1])
        return sizes

    def pins(self, size: int) -> Pins:
        """Return the nodes that lie outside whatever the normals say."""
        recipe = self.recipe
        least = max(recipe.clearance, recipe.clearance_gap * self.spacing)
        clearance = np.maximum(least, recipe.clearance_noise * self.points.spread)
        return open_nodes(self.points.points, size, clearance, recipe.open)

    def report(self, size: int, loss: float, total: int) -> None:
        """Count a solution, and pass it on."""
        self.solutions += 1
        if self.progress is None:
            return
        every = slice(None, None, len(self.points.points) // _REPORTED + 1)
        away = np.abs(distances(self.points.points[every], self.grid)[0])
        step = Step(
            f"fitting, {size} cells", self.solutions, total,
            time.perf_counter() - self.start, loss, float(np.median(away)),
            float((away < _QUALITY * self.points.spread[every]).mean()),
        )  # fmt: skip
        self.progress(step)

    def network(self) -> SplineGrid:
        """Return the field of the last solution."""
        network = SplineGrid(len(self.grid) - 2, REACH)
        with torch.no_grad():
            network.coefficients.copy_(torch.from_numpy(self.grid))
        return network


def _spacing(points: Floats) -> float:
    """Return the usual distance between neighbours: the root of the area that a point has."""
    count = min(9, len(points))
    farthest = cKDTree(points).query(points, count)[0].reshape(len(points), count)[:, -1]
    return float(np.median(farthest) * np.sqrt(np.pi / max(count - 1, 1)))


def _ball(cells: int) -> Floats:
    """Return roughly the distance to a ball, the start of the first solution."""
    line = (np.arange(cells + 2) - 0.5) * (2 * REACH / cells) - REACH
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    return np.sqrt(x * x + y * y + z * z) - 0.6


def distances(points: Floats, grid: Floats) -> tuple[Floats, Floats]:
    """Return the distances of points to the zero level to first order, and unit gradients there.

    The slope is taken for at least 0.1, so that distances stay finite.
    """
    at = stencil(points, len(grid) - 2)
    slope = gradients(at, grid)
    size = np.linalg.norm(slope, axis=1)
    unit = slope / np.maximum(size, 1e-9)[:, None]
    return values(at, grid) / np.maximum(size, 0.1), unit


def trusted(points: OrientedPoints, grid: Floats, recipe: Recipe) -> OrientedPoints:
    """Return the points near a coarser field's surface, with its directions as their normals."""
    away, unit = distances(points.points, grid)
    width = 2 * REACH / (len(grid) - 2)
    cut = np.maximum(recipe.cut * points.spread, recipe.cut_cells * width)
    weights = points.weights * (np.abs(away) < cut)
    oriented = replace(points, normals=unit, weights=weights, confidence=np.ones(len(weights)))
    return oriented.without_outliers()


@dataclass(frozen=True, eq=False)
class _System:
    """The equations of a level, without their weights: points, slopes, pins, roughness.

    Attributes:
        band: The unknowns.
        matrix: The rows, one below the other.
        target: What they should be.
        counts: How many there are of each sort.
        corners: For each row of points, values and slopes, the first of the nodes that it sees.
        rough: For each row of roughness the position of its node in the band.
        near: How much roughness counts at each node, before the reweighting.
        coarser: The coarser grids, finest first, each with the matrix from it to the next finer.
    """

    band: Band
    matrix: csr_matrix
    target: Floats
    counts: tuple[int, int, int, int]
    corners: Integers
    rough: Integers
    near: Floats
    coarser: list[tuple[csr_matrix, Band]]

    def of_points(self, matrix: csr_matrix) -> Singles:
        """Return the rows of points of a matrix like this one, `(k, 27)`."""
        return np.asarray(matrix.data[: 27 * len(self.corners)].reshape(-1, 27))

    def misses(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the values at the points, and the squared Hessian at each node."""
        rows: Singles = self.matrix @ x.astype(np.float32)
        bends = np.bincount(self.rough, rows[-self.counts[-1] :] ** 2, len(x))
        return rows[: self.counts[0]].astype(np.float64), bends.astype(np.float64)


def _system(
    points: OrientedPoints,
    grid: Floats,
    pins: Pins | None,
    recipe: Recipe,
    sheets: Facing | None,
) -> _System:
    cells = len(grid) - 2
    at = stencil(points.points, cells)
    if cells <= recipe.dense:
        band = all_nodes(cells)
    elif cells <= recipe.whole:
        band = band_around(cells, grid, at.nodes, recipe.band * 2 * REACH / cells)
    else:
        band = band_at(cells, at.nodes, recipe.layers)
    columns, count = band.place[at.nodes], len(band.nodes)
    blunt = 0.5 * recipe.debias * points.spread**2
    whole = cells <= recipe.given
    nodes, known = pins or Pins(np.zeros(0, np.int64), np.zeros(0))
    slope = points.normals.T.ravel() if whole else np.ones(len(columns))
    rough = roughness(band)
    if sheets is not None:
        rough = loosened(rough, band, sheets)
    blocks = [
        rows_to_matrix(columns, at.value - blunt[:, None] * at.laplacian, count),
        *(rows_to_matrix(columns, part, count) for part in _slopes(at, points.normals, whole)),
        rows_to_matrix(band.place[nodes, None], np.ones((len(nodes), 1)), count),
        *(kind.matrix for kind in rough),
    ]
    bent = np.concatenate([kind.node for kind in rough])
    noise, total = _around(band, points)
    near = _layer(grid.ravel()[band.nodes], cells, noise, recipe)
    near *= recipe.smoothness_at(noise, total)
    return _System(
        band,
        vstack(blocks, format="csr"),
        np.concatenate([np.zeros(len(columns)), slope, known, np.zeros(len(bent))]),
        (len(columns), len(slope), len(nodes), len(bent)),
        np.resize(at.nodes[:, 0], len(columns) + len(slope)),
        bent,
        near,
        _coarser(band),
    )


def _slopes(at: Stencil, normals: Floats, whole: bool) -> Sequence[Floats]:
    """Return rows for all derivatives, or for the one along the normal."""
    if whole:
        return at.gradient
    return [sum(n[:, None] * part for n, part in zip(normals.T, at.gradient, strict=True))]


def _around(band: Band, points: OrientedPoints) -> tuple[Floats, Floats]:
    """Return the noise at nodes, and how many points there would be were all as dense as there.

    Both are those of the points nearest to the middle of a block of nodes.
    """
    total = len(points.points)
    if points.spread.min() == points.spread.max():
        return np.full(len(band.nodes), points.spread[0]), np.full(len(band.nodes), float(total))
    block = max(1, band.cells // _BLOCKS)
    keys = np.ravel_multi_index(tuple((band.grid_index // block).T), (band.side,) * 3)
    blocks, member = np.unique(keys, return_inverse=True)
    first = block * np.stack(np.unravel_index(blocks, (band.side,) * 3), 1)
    middle = (first + 0.5 * block - 1.0) * band.width - REACH
    tree = cKDTree(points.points)
    nearest = tree.query(middle)[1]
    # a disc of many points: their noise widens it little
    some, near = np.arange(0, total, total // _SOME + 1), min(_NEAR, total)
    square = tree.query(points.points[np.r_[some, nearest]], [near])[0][:, 0] ** 2
    usual, square = square[: len(some)].mean(), square[len(some) :]
    return points.spread[nearest][member], (total * usual / square)[member]


def _layer(start: Floats, cells: int, noise: Floats, recipe: Recipe) -> Floats:
    """Return a bell across the surface that integrates to 1, plus a little everywhere."""
    if cells == recipe.coarsest:
        return np.full(len(start), 0.5)
    width = np.maximum(recipe.width * 2 * REACH / cells, recipe.width_noise * noise)
    bell = np.exp(-0.5 * (start / width) ** 2) / (width * np.sqrt(2 * np.pi))
    return bell + recipe.far


def _coarser(band: Band) -> list[tuple[csr_matrix, Band]]:
    """Return the coarser grids, and the matrices from them, down to 4 cells a side."""
    grids = []
    while band.cells > 4 and band.cells % 2 == 0:
        grids.append(halve(band))
        band = grids[-1][1]
    return grids


def solve_level(
    points: OrientedPoints,
    grid: Floats,
    pins: Pins | None,
    recipe: Recipe,
    stop: Callable[[], bool],
    sheets: Facing | None = None,
) -> Iterator[tuple[Floats, float]]:
    r"""Solve one level, and again with weights that follow the residuals; yield after each pass.

    The first pass minimises

    $$\sum_i \frac{F(p_i)^2}{\sigma_i^2} + a \sum_i (n_i \cdot \nabla F(p_i) - 1)^2
      + \lambda \int w\, |\nabla^2 F|^2,$$

    with $\sigma_i$ the noise around each point and $w$ a bell across the zero level of the
    coarser field that integrates to 1 across it: the last term is, to first order,
    $\lambda \int_S (\kappa_1^2 + \kappa_2^2)$, whatever the size of the cells; $\lambda$ follows
    the noise around. The later passes replace the first term by $\sqrt{1 + r^2}$ and the last by
    $\log(1 + |\nabla^2 F|^2 / b^2)$, so that neither stray points nor edges count in full.

    Args:
        points: Points that count; on the coarsest levels the normals give the whole gradient.
        grid: Where to begin; about a distance, `(cells + 2,) * 3`.
        pins: Nodes outside, whose values are drawn towards their distance from the points.
        recipe: The constants.
        stop: Ends the search when true.
        sheets: Where sheets face each other, across which roughness counts less.

    Yields:
        The coefficients, and the loss over the number of points.
    """
    system = _system(points, grid, pins, recipe, sheets)
    nodes = system.band.nodes
    x = grid.ravel()[nodes].astype(np.float64)
    cycle: Cycle | None = None
    for k in range(recipe.passes_at(system.band.cells)):
        trust, give = points.weights, np.ones(len(nodes))
        if k > 0:
            miss, bends = system.misses(x)
            trust = trust / np.sqrt(1 + (miss / (recipe.tail * points.spread)) ** 2)
            give = 1 / (1 + bends / recipe.bend**2)
        hard = system.band.width**3 * system.near * give
        matrix, target = _equations(system, points, trust, hard, recipe)
        diagonal, normal = _diagonal(matrix), None
        if system.band.free.all():
            normal = _squared(system, matrix)
        # later weights differ too little to be worth another cycle
        cycle = cycle or _cycle(system, matrix, hard, diagonal, normal)
        x = least_squares(
            matrix, target, x, system.band.free, Additive(inverse_diagonal(diagonal), cycle),
            tol=recipe.tol_at(system.band.cells), max_iter=recipe.max_iter, stop=stop,
            normal=normal,
        )  # fmt: skip
        rest = (matrix @ x.astype(np.float32) - target).astype(np.float64)
        new = grid.ravel().copy()
        new[nodes] = x
        yield new.reshape(grid.shape), float(rest @ rest) / len(points.points)
        if stop():
            return


def _equations(
    system: _System, points: OrientedPoints, trust: Floats, hard: Floats, recipe: Recipe
) -> tuple[csr_matrix, Singles]:
    """Return the equations for fixed weights, each multiplied by the root of its own."""
    steep = recipe.slope * points.weights * points.confidence**recipe.doubt
    weights = [
        trust / points.spread**2,
        np.resize(steep, system.counts[1]),
        np.full(system.counts[2], recipe.pin * system.band.width**3),
        hard[system.rough],
    ]
    scale = np.sqrt(np.concatenate(weights))
    return scaled(system.matrix, scale), (scale * system.target).astype(np.float32)


def _diagonal(matrix: csr_matrix) -> Singles:
    """Return the diagonal of the normal equations of a matrix."""
    squared = csr_matrix((matrix.data**2, matrix.indices, matrix.indptr), shape=matrix.shape)
    return np.asarray(squared.T @ np.ones(matrix.shape[0], np.float32))


def _squared(system: _System, matrix: csr_matrix) -> csr_matrix:
    """Return the normal equations of weighted equations, in double precision."""
    rest = matrix[len(system.corners) :].astype(np.float64)
    rows = system.of_points(matrix).astype(np.float64)
    points = normal_matrix(rows, system.corners, system.band)
    return (points + rest.T.tocsr() @ rest).tocsr()


def _cycle(
    system: _System,
    matrix: csr_matrix,
    hard: Floats,
    diagonal: Singles,
    normal: csr_matrix | None,
) -> Cycle:
    """Return the cycle on the coarser grids for weighted equations, squared or not."""
    if not system.coarser:
        return Cycle([], [], None)
    refinements = [refinement for refinement, _ in system.coarser]
    if normal is not None:
        return coarse_cycle(galerkin(normal, refinements[0]), refinements)
    rows = system.of_points(matrix)
    fixed = np.where(system.band.free, np.float32(0), diagonal)
    below = lumped(rows, system.corners, hard, fixed, system.band, system.coarser[0])
    return coarse_cycle(below, refinements)
