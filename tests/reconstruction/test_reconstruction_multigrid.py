"""The cycle against exact coarse corrections, and what it is worth against eigenvalues."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack

from levelset.reconstruction._grid import (
    REACH,
    all_nodes,
    band_around,
    halve,
    roughness,
    rows_to_matrix,
    scaled,
    stencil,
)
from levelset.reconstruction._multigrid import (
    LUMPED,
    TOGETHER,
    Additive,
    Cycle,
    coarse_cycle,
    coarser_rows,
    galerkin,
    inverse_diagonal,
    lumped,
    normal_matrix,
)

NUMBERS = np.random.default_rng(0)


def away(band):
    """Return the distance of each node from a ball's surface."""
    return np.linalg.norm((band.grid_index - 0.5) * band.width - REACH, axis=1) - 0.7


def problem(band, layer=0.1):
    """Return equations of a ball's points, and of roughness in a thin layer around it."""
    points = NUMBERS.standard_normal((300, 3))
    points *= 0.7 / np.linalg.norm(points, axis=1, keepdims=True)
    at = stencil(points, band.cells)
    hard = (np.exp(-0.5 * (away(band) / layer) ** 2) + 0.02) * band.width**3
    rough = [scaled(kind.matrix, np.sqrt(hard[kind.node])) for kind in roughness(band)]
    rows = (at.value / 0.01).astype(np.float32)
    return rows, at.nodes, vstack(rough, format="csr"), hard


def sparse(rows, nodes, band):
    return rows_to_matrix(band.place[nodes], rows, len(band.nodes))


def normal_of(*blocks):
    matrix = vstack(blocks).toarray().astype(float)
    return matrix.T @ matrix


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
    band = all_nodes(8)
    rows, nodes, rough, _ = problem(band)
    normal = normal_of(sparse(rows, nodes, band), rough)
    (refinement,) = refinements(band, 1)
    cycle = coarse_cycle(galerkin(csr_matrix(normal), refinement), [refinement])
    p = refinement.toarray().astype(float)
    residual = NUMBERS.standard_normal(len(p)).astype(np.float32)
    exact = p @ np.linalg.solve(p.T @ normal @ p, p.T @ residual)
    np.testing.assert_allclose(cycle(residual), exact, rtol=0, atol=2e-3 * np.abs(exact).max())


@pytest.mark.slow
def test_a_cycle_is_symmetric_and_nearly_as_good_as_exact_coarse_solutions():
    band = all_nodes(8)
    rows, nodes, rough, _ = problem(band)
    normal = normal_of(sparse(rows, nodes, band), rough)
    matrices, inverse = refinements(band, 2), inverse_diagonal(np.diag(normal))
    below = galerkin(csr_matrix(normal), matrices[0])
    spreads = []
    for levels in (1, 2):
        whole = Additive(inverse, coarse_cycle(below, matrices[:levels]))
        dense = operator(whole, len(normal))
        np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-4 * np.abs(dense).max())
        spreads.append(spread(dense, normal))
    plain = spread(np.diag(inverse.astype(float)), normal)
    assert spreads[1] < 1.5 * spreads[0]
    assert spreads[1] < 0.15 * plain


def spread(precondition, normal):
    """Return the condition number of the preconditioned equations."""
    root = np.linalg.cholesky(0.5 * (precondition + precondition.T))
    eigenvalues = np.linalg.eigvalsh(root.T @ normal @ root)
    return eigenvalues[-1] / eigenvalues[0]


def test_products_of_rows_are_those_of_the_sparse_matrix_of_a_coarser_grid_too():
    band = all_nodes(8)
    rows, nodes, _, _ = problem(band)
    # a cell with more rows than are taken together
    many = np.r_[np.arange(len(rows)), np.zeros(2 * TOGETHER, int)]
    rows, nodes = rows[many].astype(float), nodes[many]
    wanted = normal_of(sparse(rows, nodes, band))
    product = normal_matrix(rows, nodes[:, 0], band)
    assert product.dtype == np.float64
    assert product.has_sorted_indices
    np.testing.assert_allclose(product.toarray(), wanted, rtol=0, atol=1e-6 * wanted.max())
    refinement, coarse = halve(band)
    p = refinement.toarray()
    small = normal_matrix(*coarser_rows(rows, nodes[:, 0], 8), coarse)
    np.testing.assert_allclose(small.toarray(), p.T @ wanted @ p, rtol=0, atol=1e-6 * wanted.max())
    nothing = normal_matrix(rows[:0], nodes[:0, 0], band)
    assert nothing.nnz == 0


def test_lumped_roughness_of_a_quadratic_is_its_share_of_galerkins_and_points_count_in_full():
    band = all_nodes(16)
    rows, nodes, _, hard = problem(band)
    hard[np.abs(band.grid_index - 8.5).max(1) > 5] = 0.0
    refinement, coarse = halve(band)
    place = (coarse.grid_index - 0.5) * coarse.width - REACH
    hessian = np.array([[2.0, 0.5, -1.0], [0.5, -3.0, 0.25], [-1.0, 0.25, 1.0]])
    x = 0.5 * np.einsum("na,ab,nb->n", place, hessian, place)
    none = np.zeros(len(band.nodes), np.float32)
    both = lumped(rows, nodes[:, 0], hard, none, band, (refinement, coarse))
    energy = ((sparse(rows, nodes, band) @ refinement @ x) ** 2).sum()
    energy += LUMPED * hard.sum() * (hessian**2).sum()
    assert x @ (both @ x) == pytest.approx(energy, rel=1e-4)


@pytest.mark.slow
def test_lumping_and_drawing_fixed_entries_to_zero_cost_little():
    """Without the second, functions that reach fixed entries would be far too cheap."""
    cells = 10
    line = (np.arange(cells + 2) - 0.5) * 2 * REACH / cells - REACH
    distance = np.linalg.norm(np.stack(np.meshgrid(line, line, line)), axis=0) - 0.7
    band = band_around(cells, distance, np.zeros((0,), np.int64), 0.45)
    rows, nodes, rough, hard = problem(band, layer=0.03)
    normal, free = normal_of(sparse(rows, nodes, band), rough), band.free
    refinement, coarse = halve(band)
    diagonal = np.diag(normal).astype(np.float32)
    fixed = np.where(free, np.float32(0), diagonal)
    exact = galerkin(csr_matrix(normal * np.outer(free, free)), refinement)
    cheap, loose = (
        lumped(rows, nodes[:, 0], hard, f, band, (refinement, coarse)) for f in (fixed, 0 * fixed)
    )
    inner = normal[np.ix_(free, free)]
    spreads = []
    for below in (exact, cheap, loose):
        whole = Additive(inverse_diagonal(diagonal), coarse_cycle(below, [refinement]))
        dense = operator(whole, len(normal))[np.ix_(free, free)]
        spreads.append(spread(dense, inner))
    assert spreads[1] < 1.5 * spreads[0]
    assert spreads[2] > 1.3 * spreads[1]


def test_without_coarser_grids_the_diagonal_is_left():
    residual = NUMBERS.standard_normal(20)
    inverse = NUMBERS.random(20).astype(np.float32)
    cycle = Cycle([], [], None)
    np.testing.assert_allclose(Additive(inverse, cycle)(residual), inverse * residual, rtol=1e-5)
