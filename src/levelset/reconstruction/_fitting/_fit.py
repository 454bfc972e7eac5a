"""Fitting a field to oriented points: a spline grid, smoothed by least squares, coarse to fine."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._tools.checks import check_finite, check_points, check_positive, check_same_rows
from levelset._typing import Floats
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.networks import SplineGrid
from levelset.reconstruction._fitting._lattice import REACH, refine
from levelset.reconstruction._fitting._level import Sample, distances, solve_level, trusted
from levelset.reconstruction._fitting._outside import Pins, open_nodes
from levelset.reconstruction._fitting._recipe import Recipe
from levelset.reconstruction._history import Step, Watch

__all__ = ["Fit", "fit"]

_QUALITY = 2.0  # standard deviations within which a point counts as met


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
