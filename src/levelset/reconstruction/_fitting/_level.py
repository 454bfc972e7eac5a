"""One grid of a fit: its equations, and their solution with weights that follow the residuals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, vstack

from levelset._typing import Floats, Singles
from levelset.reconstruction._fitting._equations import (
    Roughness,
    Stencil,
    gradients,
    roughness,
    stencil,
    values,
)
from levelset.reconstruction._fitting._lattice import (
    REACH,
    Band,
    all_nodes,
    band_around,
    halve,
    rows_to_matrix,
)
from levelset.reconstruction._fitting._outside import Pins
from levelset.reconstruction._fitting._recipe import Recipe
from levelset.reconstruction._fitting._solver import Multilevel, least_squares

__all__ = ["Sample", "distances", "solve_level", "trusted"]

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
