"""Grids of coefficients: nested ones describe the same function."""

import numpy as np
import pytest

from levelset.reconstruction._grid import (
    REACH,
    all_nodes,
    band_around,
    band_at,
    halve,
    refine,
    rows_to_matrix,
    stencil,
    values,
)

NUMBERS = np.random.default_rng(0)


def test_refinement_leaves_the_function_as_it_is():
    coarse = NUMBERS.standard_normal((10, 10, 10))
    points = NUMBERS.uniform(-REACH, REACH, (500, 3))
    before = values(stencil(points, 8), coarse)
    after = values(stencil(points, 16), refine(coarse))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


def test_halving_all_nodes_is_the_matrix_of_refinement():
    matrix, coarse = halve(all_nodes(8))
    assert coarse.cells == 4
    assert len(coarse.nodes) == 6**3
    x = NUMBERS.standard_normal((6, 6, 6))
    wanted = refine(x).ravel()
    np.testing.assert_allclose(matrix @ x.ravel(), wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=0, atol=1e-6)


def test_halving_a_band_keeps_what_its_nodes_are_made_of():
    line = (np.arange(34) - 0.5) * 2 * REACH / 32 - REACH
    distance = np.linalg.norm(np.stack(np.meshgrid(line, line, line)), axis=0) - 0.5
    band = band_around(32, distance, np.zeros((0,), np.int64), 0.1)
    matrix, coarse = halve(band)
    x = NUMBERS.standard_normal((18, 18, 18))
    wanted = refine(x).ravel()[band.nodes]
    np.testing.assert_allclose(matrix @ x.ravel()[coarse.nodes], wanted, rtol=0, atol=1e-6)


def test_a_band_holds_the_nodes_near_the_surface_and_the_needed_ones():
    grid = np.broadcast_to((np.arange(34) - 20.0)[:, None, None], (34, 34, 34))
    needed = np.array([(2 * 34 + 7) * 34 + 9])
    band = band_around(32, grid, needed, 1.5)
    free = np.zeros(34**3, bool)
    free[band.nodes[band.free]] = True
    layer = free.reshape(34, 34, 34)
    assert layer[19:22].all()
    assert layer[2, 7, 9]
    assert layer.sum() == 3 * 34**2 + 1
    held = np.zeros(34**3, bool)
    held[band.nodes[~band.free]] = True
    held = held.reshape(34, 34, 34)
    assert held[18].all()
    assert held[22].all()
    assert held.sum() == 2 * 34**2 + 6
    assert (band.place[band.nodes] == np.arange(len(band.nodes))).all()
    assert (band.place >= 0).sum() == len(band.nodes)
    assert band.width == pytest.approx(2 * REACH / 32)
    assert band.side == 34


def test_rows_become_a_matrix():
    columns = np.array([[0, 2], [1, 1]], np.int32)
    matrix = rows_to_matrix(columns, np.array([[1.0, 2.0], [3.0, 4.0]]), 4)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix.toarray(), [[1, 0, 2, 0], [0, 7, 0, 0]])


def test_a_band_at_nodes_has_them_unknown_and_a_fixed_layer_around():
    needed = np.array([5 * 100 + 5 * 10 + 5, 5 * 100 + 5 * 10 + 6])
    band = band_at(8, needed, 1)
    np.testing.assert_array_equal(band.nodes[band.free], needed)
    index = np.stack(np.unravel_index(band.nodes, (10,) * 3), 1)
    steps = np.abs(index[:, None] - [[5, 5, 5], [5, 5, 6]]).sum(2).min(1)
    np.testing.assert_array_equal(steps == 0, band.free)
    assert len(band.nodes) == 2 + 10
    assert steps.max() == 1
