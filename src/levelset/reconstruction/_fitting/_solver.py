"""Sparse least squares on a grid: conjugate gradients with a preconditioner over all levels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from levelset._typing import Booleans, Floats, Singles

__all__ = ["Multilevel", "least_squares"]


@dataclass(frozen=True, eq=False)
class Multilevel:
    r"""The preconditioner $\sum_l P_l D_l^{-1} P_l^\top$ of Bramble, Pasciak and Xu.

    $P_l$ refines the coefficients of level $l$ to the finest, one halving of the cells' side
    after the other; $D_l$ is the diagonal of the normal equations on that level. It makes the
    number of iterations almost independent of the number of cells, where a diagonal alone would
    need one that grows with its square.

    Attributes:
        refinements: From each level to the next finer, finest first.
        inverse: One over the diagonals, finest level first; one more than `refinements`.

    References:
        - J. Bramble, J. Pasciak, J. Xu, "Parallel multilevel preconditioners", Math. Comp. 55
          (1990).
    """

    refinements: list[csr_matrix]
    inverse: list[Singles]

    def __call__(self, residual: Floats) -> Floats:
        """Return the preconditioned residual."""
        parts = [residual.astype(np.float32)]
        for matrix in self.refinements:
            parts.append(matrix.T @ parts[-1])
        total = self.inverse[-1] * parts[-1]
        for matrix, weight, part in zip(
            self.refinements[::-1], self.inverse[-2::-1], parts[-2::-1], strict=True
        ):
            total = matrix @ total + weight * part
        return total.astype(np.float64)


def least_squares(
    matrix: csr_matrix,
    target: Singles,
    start: Floats,
    free: Booleans,
    precondition: Callable[[Floats], Floats],
    *,
    tol: float,
    max_iter: int,
    stop: Callable[[], bool] = lambda: False,
) -> Floats:
    r"""Return the $x$ that minimises $|Ax - b|^2$ with some entries held.

    Products are formed in single precision and summed up in double. The matrix enters as
    $A^\top(Ax)$ and is never squared.

    Args:
        matrix: $A$, `(rows, m)`.
        target: $b$, `(rows,)`.
        start: Where to begin, `(m,)`; the entries that are held keep it.
        free: Which entries may change, `(m,)`.
        precondition: An approximation to the inverse of $A^\top A$.
        tol: Stop when the preconditioned residual has fallen by this factor.
        max_iter: Most iterations.
        stop: Asked after each iteration; true ends the search.
    """
    transposed = matrix.T
    x = start.copy()
    r = (transposed @ (target - matrix @ x.astype(np.float32))).astype(np.float64) * free
    z = precondition(r) * free
    direction, energy = z.copy(), float(r @ z)
    first = energy
    for _ in range(max_iter):
        if energy <= tol * tol * first or energy <= 0 or stop():
            break
        image = matrix @ direction.astype(np.float32)
        wide = image.astype(np.float64)
        step = energy / float(wide @ wide)
        x += step * direction
        r -= step * (transposed @ image) * free
        z = precondition(r) * free
        before, energy = energy, float(r @ z)
        direction = z + energy / before * direction
    return x
