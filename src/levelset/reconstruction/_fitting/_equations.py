"""The equations of a spline through oriented points: values, slopes and second differences."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from levelset._typing import Floats, Integers
from levelset.reconstruction._fitting._lattice import REACH, Band, rows_to_matrix

__all__ = ["Roughness", "Stencil", "gradients", "roughness", "stencil", "values"]


class Stencil(NamedTuple):
    """What a quadratic spline needs to be evaluated at points.

    Attributes:
        nodes: The 27 coefficients that each point sees, `(n, 27)`.
        value: Their weights in the value, `(n, 27)`.
        gradient: Their weights in the gradient, `(n, 3, 27)`.
        laplacian: Their weights in the sum of the second derivatives, `(n, 27)`.
    """

    nodes: Integers
    value: Floats
    gradient: Floats
    laplacian: Floats


def stencil(points: Floats, cells: int) -> Stencil:
    """Return the weights of the coefficients of a grid at points `(n, 3)`."""
    width = 2 * REACH / cells
    place = np.clip((points + REACH) / width, 0, cells)
    cell = np.minimum(place.astype(np.int64), cells - 1)
    t = place - cell
    one = np.ones_like(t)
    b = np.stack([(1 - t) ** 2 / 2, 0.75 - (t - 0.5) ** 2, t**2 / 2], -1)
    d = np.stack([t - 1, 1 - 2 * t, t], -1) / width
    dd = np.stack([one, -2 * one, one], -1) / width**2
    x, y, z = (cell[:, a, None] + np.arange(3) for a in range(3))
    side = cells + 2
    nodes = ((x[:, :, None] * side + y[:, None])[..., None] * side + z[:, None, None]).reshape(
        len(points), 27
    )
    gradient = [_product(*(d if a == k else b for k in range(3))) for a in range(3)]
    bends = [_product(*(dd if a == k else b for k in range(3))) for a in range(3)]
    return Stencil(nodes, _product(b, b, b), np.stack(gradient, 1), sum(bends[1:], bends[0]))


def _product(a: Floats, b: Floats, c: Floats) -> Floats:
    """Return products of weights along x, y and z, each `(n, 3, 3)` by axis and node: `(n, 27)`."""
    plane = a[:, 0, :, None] * b[:, 1, None, :]
    return (plane[..., None] * c[:, 2, None, None, :]).reshape(len(a), 27)


def values(at: Stencil, coefficients: Floats) -> Floats:
    """Return the spline at the points, `(n,)`."""
    return np.einsum("nk,nk->n", at.value, coefficients.ravel()[at.nodes])


def gradients(at: Stencil, coefficients: Floats) -> Floats:
    """Return its gradients, `(n, 3)`."""
    return np.einsum("nak,nk->na", at.gradient, coefficients.ravel()[at.nodes])


@dataclass(frozen=True, eq=False)
class Roughness:
    """One kind of second difference at the nodes of a band, in units of a second derivative.

    Attributes:
        matrix: One row a node that has the neighbours for it.
        node: Position of that node in the band.
    """

    matrix: csr_matrix
    node: Integers


def roughness(band: Band) -> list[Roughness]:
    r"""Return the six second differences; their squares sum to the square of the Hessian's norm.

    The mixed ones count twice in the norm, and so carry the factor $\sqrt2$.
    """
    index, side, step = band.grid_index, band.side, (band.side**2, band.side, 1)
    found = []
    for a in range(3):
        rows = np.flatnonzero((index[:, a] > 0) & (index[:, a] < side - 1))
        offsets = np.array([-step[a], 0, step[a]])
        found.append(_differences(band, rows, offsets, np.array([1.0, -2.0, 1.0])))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        rows = np.flatnonzero((index[:, a] < side - 1) & (index[:, b] < side - 1))
        offsets = np.array([0, step[a], step[b], step[a] + step[b]])
        found.append(_differences(band, rows, offsets, np.array([1, -1, -1, 1]) * np.sqrt(2)))
    return found


def _differences(band: Band, rows: Integers, offsets: Integers, signs: Floats) -> Roughness:
    columns = band.place[band.nodes[rows, None] + offsets]
    whole = (columns >= 0).all(1)
    columns = columns[whole]
    entries = np.broadcast_to(signs / band.width**2, columns.shape)
    return Roughness(rows_to_matrix(columns, entries, len(band.nodes)), rows[whole])
