"""A preconditioner for the equations of a grid: its diagonal, and a multigrid cycle below it."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix, vstack

from levelset._typing import Floats, Integers, Singles
from levelset.reconstruction._grid import Band, roughness, scaled

__all__ = [
    "Additive",
    "Cycle",
    "coarse_cycle",
    "coarser_rows",
    "galerkin",
    "inverse_diagonal",
    "lumped",
    "normal_matrix",
]

# The smoother damps eigenvalues from a sixth of the largest on, as well as two steps can.
STEPS, SPREAD = 2, 6.0
POWERS = 8  # steps that estimate the largest eigenvalue
SAFETY = 1.15  # of that estimate, which is a lower bound
LUMPED = 0.5  # of the weight of roughness, for what Galerkin's matrix couples
TOGETHER = 32  # rows of a cell that one small dense product takes
RIDGE = 1e-5  # of the diagonal, which the coarsest matrix gets against rounding


@dataclass(frozen=True, eq=False)
class _Smoothed:
    """A level that is smoothed by Chebyshev's polynomial of its matrix, scaled by the diagonal."""

    matrix: csr_matrix
    inverse: Singles
    largest: float

    @classmethod
    def of(cls, matrix: csr_matrix) -> "_Smoothed":
        """Return the level of a matrix, its largest eigenvalue estimated by the power method."""
        inverse = inverse_diagonal(matrix.diagonal())
        vector = np.random.default_rng(0).standard_normal(len(inverse)).astype(np.float32)
        largest = 1.0
        for _ in range(POWERS):
            vector = inverse * (matrix @ (vector / np.linalg.norm(vector)))
            largest = float(np.linalg.norm(vector))
        return cls(matrix, inverse, SAFETY * largest)

    def __call__(self, target: Singles, start: Singles | None) -> Singles:
        """Return a start, by default 0, without most of its rough error."""
        low = self.largest / SPREAD
        middle, half = (self.largest + low) / 2, (self.largest - low) / 2
        rest = target if start is None else target - self.matrix @ start
        step = self.inverse * rest / np.float32(middle)
        x = step if start is None else start + step
        share = half / middle
        for _ in range(STEPS - 1):
            rest = rest - self.matrix @ step
            after = 1 / (2 * middle / half - share)
            step = np.float32(after * share) * step
            step += np.float32(2 * after / half) * (self.inverse * rest)
            x, share = x + step, after
        return np.asarray(x, np.float32)


@dataclass(frozen=True, eq=False)
class Cycle:
    """One V-cycle of multigrid on the grids below a finest one.

    Attributes:
        levels: The smoothers, finest first, all but the coarsest grid.
        refinements: From each grid to the next finer, the first to the finest one.
        factor: Cholesky's factor of the coarsest matrix, `None` if there is no coarser grid.
    """

    levels: list[_Smoothed]
    refinements: list[csr_matrix]
    factor: tuple[Floats, bool] | None

    def __call__(self, residual: Singles) -> Singles:
        """Return what the coarser grids make of a residual of the finest."""
        if self.factor is None:
            return np.zeros_like(residual)
        return self.refinements[0] @ self._solve(0, self.refinements[0].T @ residual)

    def _solve(self, k: int, target: Singles) -> Singles:
        if k == len(self.levels):
            return cho_solve(self.factor, target.astype(np.float64)).astype(np.float32)
        level, refinement = self.levels[k], self.refinements[k + 1]
        x = level(target, None)
        below = self._solve(k + 1, refinement.T @ (target - level.matrix @ x))
        return level(target, x + refinement @ below)


def coarse_cycle(normal: csr_matrix, refinements: list[csr_matrix]) -> Cycle:
    r"""Return the cycle for a matrix on the first of the coarser grids, M.

    Those of the grids below are Galerkin's, $P^\top M P$.

    Args:
        normal: The matrix, `(m', m')`, in single precision.
        refinements: From each coarser grid to the next finer, finest first; at least one.
    """
    levels: list[_Smoothed] = []
    for refinement in refinements[1:]:
        levels.append(_Smoothed.of(normal))
        normal = galerkin(normal, refinement)
    dense = normal.toarray().astype(np.float64)
    dense[np.diag_indices(len(dense))] *= 1 + RIDGE
    dense[np.diag_indices(len(dense))] += 1e-12
    return Cycle(levels, refinements, cho_factor(dense, overwrite_a=True))


def galerkin(normal: csr_matrix, refinement: csr_matrix) -> csr_matrix:
    r"""Return Galerkin's matrix on a coarser grid, $P^\top N P$, in single precision."""
    coarse = refinement.T.tocsr() @ (normal.astype(np.float32) @ refinement)
    return coarse.tocsr()


def lumped(
    rows: Singles,
    corners: Integers,
    hard: Floats,
    fixed: Singles,
    band: Band,
    coarser: tuple[csr_matrix, Band],
) -> csr_matrix:
    r"""Return a matrix on a coarser grid close to Galerkin's, at a fifth of its cost.

    Galerkin's roughness couples each second difference of the coarser grid with those around.
    They are taken for one another here, which makes it stiffer, twice in the mean. And where a
    function of the coarser grid reaches entries that are fixed, it is not cut off there, but its
    values are drawn to 0 with the weight that these have in the equations.

    Equations set up anew on the coarser grid, with weights of roughness that are not the sums of
    those of the finer one, take ten times as many iterations: the layer in which it counts is
    thinner than their cells.

    Args:
        rows: Weighted equations of points, for the 27 coefficients that each sees, `(k, 27)`.
        corners: The first node of the cell of each, `(k,)`.
        hard: The weight of roughness at each node, `(m,)`.
        fixed: The diagonal of the normal equations where entries are fixed, 0 elsewhere, `(m,)`.
        band: The unknowns.
        coarser: The matrix from the coarser grid, `(m, m')`, and that grid.
    """
    refinement, below = coarser
    weight = LUMPED * (refinement.T @ hard)
    blocks = [scaled(kind.matrix, np.sqrt(weight[kind.node])) for kind in roughness(below)]
    rest = vstack([*blocks, scaled(refinement, np.sqrt(fixed))[fixed > 0]], format="csr")
    points = normal_matrix(*coarser_rows(rows, corners, band.cells), below)
    return (points + rest.T.tocsr() @ rest).tocsr()


def coarser_rows(
    rows: Singles | Floats, corners: Integers, cells: int
) -> tuple[Singles | Floats, Integers]:
    """Return rows of equations, and first nodes, for the coefficients of a grid of half the cells.

    Args:
        rows: For the 27 coefficients that a point sees, `(k, 27)`.
        corners: The first node of the cell of each, `(k,)`.
        cells: Cells a side of the finer grid.
    """
    index = np.stack(np.unravel_index(corners, (cells + 2,) * 3), 1)
    # the three nodes of an even or odd cell along an axis, by those of the cell that it is part of
    lines = np.array([[[3, 1, 0], [1, 3, 0], [0, 3, 1]], [[1, 3, 0], [0, 3, 1], [0, 1, 3]]]) / 4
    result = np.empty_like(rows)
    for kind in np.ndindex(2, 2, 2):
        some = np.flatnonzero((index % 2 == kind).all(1))
        x, y, z = lines[list(kind)].astype(rows.dtype)
        result[some] = rows[some] @ np.kron(np.kron(x, y), z)
    x, y, z = (index // 2).T
    side = cells // 2 + 2
    return result, (x * side + y) * side + z


def normal_matrix(rows: Singles | Floats, corners: Integers, band: Band) -> csr_matrix:
    r"""Return $R^\top R$ for rows that see the 27 nodes of a cell each, in their precision.

    Those of a cell are multiplied by one another first, as small dense matrices: a third of the
    time of a sparse product.

    Args:
        rows: `(k, 27)`.
        corners: The first node of the cell of each, `(k,)`.
        band: The unknowns, the nodes of all these cells among them.
    """
    order = np.argsort(corners, kind="stable")
    cells, first, count = np.unique(corners[order], return_index=True, return_counts=True)
    products = np.zeros((len(cells), 27, 27), rows.dtype)
    for start in range(0, int(count.max(initial=0)), TOGETHER):
        some = np.flatnonzero(count > start)
        rank = start + np.arange(TOGETHER)
        filled = rank < count[some, None]
        packed = rows[order[first[some, None] + np.where(filled, rank, 0)]] * filled[..., None]
        products[some] += packed.transpose(0, 2, 1) @ packed
    step = np.array([band.side**2, band.side, 1])
    nodes = band.place[cells[:, None] + list(np.ndindex(3, 3, 3)) @ step]
    touched, place = np.unique(nodes, return_inverse=True)
    place = place.reshape(nodes.shape)
    # one row a node, and the 125 nodes around it
    table = np.zeros((len(touched), 5, 5, 5), rows.dtype)
    for own, (i, j, k) in enumerate(np.ndindex(3, 3, 3)):
        block = products[:, own].reshape(-1, 3, 3, 3)
        table[place[:, own], 2 - i : 5 - i, 2 - j : 5 - j, 2 - k : 5 - k] += block
    row, around = np.nonzero(table.reshape(-1, 125))
    offsets = (np.array(list(np.ndindex(5, 5, 5))) - 2) @ step
    columns = band.place[band.nodes[touched[row]] + offsets[around]]
    starts = np.zeros(len(band.nodes) + 1, np.int32)
    np.cumsum(np.bincount(touched[row], minlength=len(band.nodes)), out=starts[1:])
    entries = table.reshape(-1, 125)[row, around]
    return csr_matrix((entries, columns, starts), shape=(len(band.nodes),) * 2)


@dataclass(frozen=True, eq=False)
class Additive:
    r"""The preconditioner $D^{-1} + P M P^\top$, with a cycle M on the coarser grids.

    Attributes:
        inverse: One over the diagonal of the normal equations on the finest grid, `(m,)`.
        cycle: The cycle, perhaps of slightly different equations.

    References:
        - W. Briggs, V. E. Henson, S. McCormick, "A Multigrid Tutorial", SIAM 2000: V-cycles and
          Galerkin's coarse matrices.
        - M. Adams et al., "Parallel multigrid smoothing: polynomial versus Gauss-Seidel",
          J. Comput. Phys. 188 (2003): Chebyshev's smoother.
    """

    inverse: Singles
    cycle: Cycle

    def __call__(self, residual: Floats | Singles) -> Floats:
        """Return the preconditioned residual."""
        single = residual.astype(np.float32)
        return (self.inverse * single + self.cycle(single)).astype(np.float64)


def inverse_diagonal(diagonal: Floats | Singles) -> Singles:
    """Return one over a diagonal, large where it vanishes."""
    return (1 / np.maximum(diagonal, 1e-12)).astype(np.float32)
