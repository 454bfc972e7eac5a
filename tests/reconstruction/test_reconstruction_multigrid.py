"""The cycle against exact coarse corrections, and what it is worth against eigenvalues."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from levelset.reconstruction._grid import (
    REACH,
    all_nodes,
    halve,
    roughness,
    rows_to_matrix,
    stencil,
)
from levelset.reconstruction._multigrid import Additive, coarse_cycle, inverse_diagonal

NUMBERS = np.random.default_rng(0)


def problem(cells=8, layer=0.1):
    """Return the equations of a ball's points and of roughness in a thin layer around it."""
    band = all_nodes(cells)
    points = NUMBERS.standard_normal((300, 3))
    points *= 0.7 / np.linalg.norm(points, axis=1, keepdims=True)
    at = stencil(points, cells)
    line = (np.arange(cells + 2) - 0.5) * band.width - REACH
    place = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    away = np.linalg.norm(place, axis=1) - 0.7
    near = np.exp(-0.5 * (away / layer) ** 2) + 0.02
    rough = [
        csr_matrix(kind.matrix.multiply(np.sqrt(near[kind.node] * band.width**3)[:, None]))
        for kind in roughness(band)
    ]
    value = rows_to_matrix(at.nodes.astype(np.int32), at.value / 0.01, len(band.nodes))
    return band, vstack([value, *rough], format="csr").astype(np.float32)


def refinements(band, levels):
    matrices = []
    for _ in range(levels):
        matrix, band = halve(band)
        matrices.append(matrix)
    return matrices


def operator(function, size):
    columns = [function(row) for row in np.eye(size, dtype=np.float32)]
    return np.stack(columns, 1).astype(np.float64)


def test_with_one_coarser_grid_its_equations_are_solved_exactly():
    band, matrix = problem()
    free = NUMBERS.random(len(band.nodes)) < 0.9
    (refinement,) = refinements(band, 1)
    cycle = coarse_cycle(matrix, [refinement], free)
    p = refinement.toarray().astype(float) * free[:, None]
    small = matrix.toarray().astype(float) @ p
    residual = NUMBERS.standard_normal(len(free)).astype(np.float32)
    exact = p @ np.linalg.solve(small.T @ small, p.T @ residual)
    correction = cycle(residual)
    np.testing.assert_allclose(correction, exact, rtol=0, atol=2e-3 * np.abs(exact).max())
    np.testing.assert_array_equal(correction[~free], 0)


@pytest.mark.slow
def test_a_cycle_is_symmetric_and_nearly_as_good_as_exact_coarse_solutions():
    band, matrix = problem()
    size = len(band.nodes)
    everything, matrices = np.ones(size, bool), refinements(band, 2)
    normal = matrix.toarray().astype(float)
    normal = normal.T @ normal
    inverse = inverse_diagonal(np.diag(normal))
    spreads = []
    for levels in (1, 2):
        whole = Additive(inverse, coarse_cycle(matrix, matrices[:levels], everything))
        dense = operator(whole, size)
        np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-4 * np.abs(dense).max())
        root = np.linalg.cholesky(0.5 * (dense + dense.T))
        eigenvalues = np.linalg.eigvalsh(root.T @ normal @ root)
        spreads.append(eigenvalues[-1] / eigenvalues[0])
    plain = np.linalg.eigvalsh(np.sqrt(inverse)[:, None] * normal * np.sqrt(inverse))
    assert spreads[1] < 1.5 * spreads[0]
    assert spreads[1] < 0.15 * plain[-1] / plain[0]


def test_without_coarser_grids_the_diagonal_is_left():
    _, matrix = problem(4)
    size = matrix.shape[1]
    cycle = coarse_cycle(matrix, [], np.ones(size, bool))
    residual = NUMBERS.standard_normal(size)
    inverse = NUMBERS.random(size).astype(np.float32)
    np.testing.assert_allclose(Additive(inverse, cycle)(residual), inverse * residual, rtol=1e-5)
