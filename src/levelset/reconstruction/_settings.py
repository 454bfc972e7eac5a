"""Settings of a reconstruction: the fast default, or the published method."""

from dataclasses import dataclass

import numpy as np

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_batch_size, check_positive
from levelset._typing import Floats
from levelset.errors import ParameterError
from levelset.reconstruction._grid import REACH

__all__ = ["Fast", "Paper", "Recipe"]

_GRIDS = (32, 64, 128, 256)


@checked
@dataclass(frozen=True)
class Fast:
    r"""The default: normals from the points, then a spline field by least squares.

    1. Noise: paraboloids are fitted to neighbourhoods of growing size; the size at which the misfit
       stops to grow with the noise alone gives its standard deviation, and the number of
       neighbours for a normal; place by place where it differs by a factor of 2. Points far from
       every paraboloid are outliers.
    2. Sides: normals are dipoles whose couplings are largest when all point out of one solid. The
       signs of 5,000 evenly spread ones are chosen together, the strongest couplings first; each
       object is turned so that its volume is positive; every point follows its neighbours.
    3. Field: a quadratic spline F on grids of 16, 32, ... `grid` cells a side minimises
       $F(p_i)^2 / \sigma_i^2$, $(n_i \cdot \nabla F(p_i) - 1)^2$ and the squared second derivatives
       near the surface, the energy of a bent plate, by conjugate gradients with a multigrid
       preconditioner. Fine grids are solved again with weights that leave outliers and edges out.
    4. Mesh: marching cubes near F = 0; the corners are projected onto it by Newton steps.

    For [`curve`][levelset.reconstruction.curve], see there.

    Attributes:
        grid: Most cells a side of the finest grid of a surface's field: 32, 64, 128, 256. Fewer
            are taken where the points are far apart; 256 only if their gaps are less than a cell,
            and their noise a sixth of it, and then near the points alone. Curves need none.
        seconds: Wall-clock time to stay within; `None` for the method's own.

    References:
        - F. Calakli, G. Taubin, "SSD: Smooth Signed Distance Surface Reconstruction", Computer
          Graphics Forum 30 (2011): the energy of step 3.
        - W. Briggs, V. E. Henson, S. McCormick, "A Multigrid Tutorial", SIAM 2000: the
          preconditioner.
        - T. Lewiner et al., "Efficient implementation of marching cubes' cases with topological
          guarantees", Journal of Graphics Tools 8 (2003): step 4.
    """

    grid: int = 256
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.grid not in _GRIDS:
            message = f"Fast: `grid` must be one of {', '.join(map(str, _GRIDS))}, got {self.grid}."
            raise ParameterError(message)
        _check_seconds("Fast", self.seconds)


@checked
@dataclass(frozen=True)
class Paper:
    r"""Training with the level sets' distances, as Atzmon et al. 2019 published it.

    The values are those of section 5.3 and supplement 2.4, with Eq. 13 as the loss. Where they
    leave something open, the released code decides: batches of 10,000 points, p = 1, and weights
    drawn so that the network begins as the distance from a sphere.

    Attributes:
        epochs: Passes over all points.
        batch_size: Most points of the cloud a step.
        learning_rate: Of Adam.
        halve_at: Epochs after which the learning rate is halved.
        weight: First and last value of the factor lambda in Eq. 13.
        weight_epochs: Epochs over which lambda grows, linearly.
        sigma: Standard deviation of the noise that is added to the points for starts, in units of
            the cloud's radius.
        iterations: Most Newton steps of the projection on the zero level set.
        lifetime: Steps of training for which a sample of the zero level set is used. It follows
            its level set from step to step by one Newton step that costs nothing, as it is part
            of attaching it. At 1, each is used once, as published; that costs twice as much.
        power: The exponent p of Eq. 13.
        seconds: Wall-clock time to stay within; `None` for all epochs. The published network
            takes about half a CPU-day for all epochs of 30,000 points, 3 CPU-seconds a batch.
    """

    epochs: int = 5_000
    batch_size: int = 10_000
    learning_rate: float = 1e-3
    halve_at: tuple[int, ...] = (500, 1_500, 3_500)
    weight: tuple[float, float] = (1.0, 5.0)
    weight_epochs: int = 1_000
    sigma: float = 0.1
    iterations: int = 10
    lifetime: int = 10
    power: float = 1.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("epochs", "weight_epochs", "lifetime", "iterations"):
            check_at_least_one("Paper", name, getattr(self, name))
        check_batch_size("Paper", self.batch_size)
        check_positive("Paper", "learning_rate", self.learning_rate)
        check_positive("Paper", "sigma", self.sigma)
        if not min(self.weight) >= 0:
            message = f"Paper: `weight` must be two numbers of at least 0, got {self.weight}."
            raise ParameterError(message)
        check_at_least_one("Paper", "power", self.power)
        _check_seconds("Paper", self.seconds)

    @checked
    def weight_at(self, epoch: int) -> float:
        """Return lambda after some epochs."""
        share = min(epoch / self.weight_epochs, 1.0)
        return self.weight[0] + share * (self.weight[1] - self.weight[0])

    @checked
    def rate_at(self, epoch: int) -> float:
        """Return the learning rate after some epochs."""
        return float(self.learning_rate * 0.5 ** sum(epoch >= mark for mark in self.halve_at))


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None:
        check_positive(name, "seconds", seconds)


@dataclass(frozen=True)
class Recipe:
    """The constants of a fit, in the unit frame; one set for every cloud.

    They were chosen on scans of a bunny, a rocker arm, a fan disk and a cow, of 2,000 to 60,000
    points with noise from 0.0014 to 0.02, by the distance of the result to the true surface.

    Attributes:
        coarsest: Cells a side of the first grid.
        given: Cells a side of the finest grid that uses the normals of the points; finer ones take
            the directions of the field.
        shown: Most points that a grid is fitted to, over the square of its cells a side, 32 or
            more: a coarse one takes an even choice of a large cloud, as it resolves no more.
        resolved: Least side of a cell, in gaps between neighbours.
        dense: Cells a side of the finest grid on which all nodes are unknown.
        whole: Cells a side of the finest grid that is unknown along the whole surface; finer ones
            are around the points only, and leave holes as they are.
        gap: Widest usual gap between neighbours, in cells, for such a grid.
        blur: Most noise, in cells, on such a grid.
        layers: Nodes of such a grid around those that points see, the last of which is fixed.
        band: Distance from the surface, in cells, within which nodes of finer grids are unknown.
        smoothness: Weight of the roughness against the squared residuals over the squared noise,
            for 30,000 points with a noise of 0.01. It goes with the square root of their number
            over the noise, both as around each node: the better the points are, the less does it
            count all the same.
        bend: Curvature above which the roughness counts less and less: edges are let be.
        slope: Weight of the squared deviation of the slope from 1.
        doubt: Power of the confidence in a normal with which it counts.
        tail: Residual, in standard deviations, above which a point counts less.
        cut: Residual on the coarser grid, in standard deviations, that takes a point out.
        cut_cells: The same in cells of the finer grid; the larger of the two holds.
        width: Half width of the layer along the surface in which roughness counts, in cells.
        width_noise: The same in standard deviations; the larger of the two holds.
        far: What roughness counts elsewhere, against its integral across that layer.
        pin: Weight, on grids without a band, of the squared deviation from the distance to the
            points at nodes that see the open, integrated over space.
        clearance: Least distance of such a node from every point.
        clearance_noise: The same in standard deviations.
        clearance_gap: The same in gaps between neighbours; the largest of the three holds.
        open: Least share of the directions in which such a node sees nothing.
        debias: Share of the curvature's effect on noisy points that is undone. Isotropic noise
            moves points to the outside of a bend, by half the squared noise times the Laplacian
            of the distance; smoothing moves the surface to the inside, so not all is undone.
        passes: Solutions of each grid, with new weights, coarsest first; the last number holds for
            all finer ones.
        tol: Factor by which the residual of the normal equations must fall.
        tol_dense: The same where all nodes are unknown. Those far from the points, which decide on
            phantoms, have a small part in the residual.
        max_iter: Most iterations of conjugate gradients a pass.
    """

    coarsest: int = 16
    given: int = 32
    shown: int = 30
    resolved: float = 0.5
    dense: int = 32
    whole: int = 128
    gap: float = 0.9
    blur: float = 0.15
    layers: int = 1
    band: float = 5.0
    smoothness: float = 20.0
    bend: float = 7.0
    slope: float = 3.0
    doubt: float = 8.0
    tail: float = 3.0
    cut: float = 6.0
    cut_cells: float = 1.5
    width: float = 1.5
    width_noise: float = 1.0
    far: float = 0.02
    pin: float = 1000.0
    clearance: float = 0.1
    clearance_noise: float = 4.0
    clearance_gap: float = 2.5
    open: float = 0.4
    debias: float = 0.4
    passes: tuple[int, ...] = (1, 1, 2, 4, 3)
    tol: float = 0.1
    tol_dense: float = 1e-4
    max_iter: int = 100

    def smoothness_at(self, noise: Floats, count: Floats) -> Floats:
        """Return the weight of the roughness for noise and a number of points, place by place."""
        return self.smoothness * np.sqrt(0.01 / noise * count / 30_000)

    def most_at(self, cells: int) -> int:
        """Return the number of points that a grid is fitted to, at most."""
        return self.shown * max(cells, self.dense) ** 2

    def cells_for(self, spacing: float, noise: float, most: int) -> int:
        """Return `most` cells a side, or half of them until the points bear them out."""
        while most > self.whole and (
            spacing > self.gap * 2 * REACH / most or noise > self.blur * 2 * REACH / most
        ):
            most //= 2
        return most

    def tol_at(self, cells: int) -> float:
        """Return the factor by which the residual must fall on a grid."""
        return min(self.tol, self.tol_dense) if cells <= self.dense else self.tol

    def passes_at(self, cells: int) -> int:
        """Return the number of passes on a grid."""
        level = round(np.log2(cells / self.coarsest))
        return self.passes[min(level, len(self.passes) - 1)]
