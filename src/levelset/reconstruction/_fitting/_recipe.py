"""The constants of the fit of a spline grid."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """The constants of a fit, in the unit frame; one set for every cloud.

    They were chosen on scans of a bunny, a rocker arm, a fan disk and a cow, of 2,000 to 60,000
    points with noise from 0.0014 to 0.02, by the distance of the result to the true surface.

    Attributes:
        coarsest: Cells a side of the first grid.
        given: Cells a side of the finest grid that the given normals are used for; on finer ones
            the field has its own.
        resolved: Least side of a cell, in gaps between neighbours.
        dense: Cells a side of the finest grid on which all nodes are unknown.
        band: Distance from the surface, in cells, within which nodes of finer grids are unknown.
        smoothness: Weight of the roughness against the squared residuals over the squared noise,
            for 30,000 points with a noise of 0.01. It goes with the square root of their number
            over the noise: the better the points are, the less does it count all the same.
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
        passes: How often each grid is solved with new weights, coarsest first; the last number
            holds for all finer ones.
        tol: Factor by which the residual of the normal equations must fall.
        max_iter: Most iterations of conjugate gradients a pass.
    """

    coarsest: int = 16
    given: int = 32
    resolved: float = 0.5
    dense: int = 32
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
    passes: tuple[int, ...] = (1, 1, 2, 4)
    tol: float = 1e-3
    max_iter: int = 60

    def smoothness_at(self, noise: float, count: int) -> float:
        """Return the weight of the roughness for a number of points and their noise."""
        return self.smoothness * float(np.sqrt(0.01 / noise * count / 30_000))

    def passes_at(self, cells: int) -> int:
        """Return how often a grid is solved."""
        level = round(np.log2(cells / self.coarsest))
        return self.passes[min(level, len(self.passes) - 1)]
