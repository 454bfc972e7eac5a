"""Conjugate gradients against dense least squares."""

import numpy as np
from scipy.sparse import csr_matrix

from levelset.reconstruction._grid import least_squares

NUMBERS = np.random.default_rng(0)


def problem(rows=80, unknowns=30):
    dense = NUMBERS.standard_normal((rows, unknowns)).astype(np.float32)
    target = NUMBERS.standard_normal(rows).astype(np.float32)
    return dense, csr_matrix(dense), target


def test_the_minimiser_is_that_of_dense_least_squares():
    dense, matrix, target = problem()
    everything = np.ones(30, bool)
    x = least_squares(matrix, target, np.zeros(30), everything, lambda r: r, tol=1e-7, max_iter=200)
    wanted = np.linalg.lstsq(dense.astype(float), target.astype(float), rcond=None)[0]
    np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-5)


def test_with_the_normal_matrix_the_minimiser_is_the_same():
    dense, matrix, target = problem()
    free, start = NUMBERS.random(30) < 0.6, NUMBERS.standard_normal(30)
    double = dense.astype(float)
    one, other = (
        least_squares(
            matrix, target, start, free, lambda r: r, tol=1e-7, max_iter=200, normal=normal
        )
        for normal in (None, csr_matrix(double.T @ double))
    )
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def test_held_entries_keep_their_values_and_the_others_are_optimal():
    dense, matrix, target = problem()
    free = NUMBERS.random(30) < 0.6
    start = NUMBERS.standard_normal(30)
    x = least_squares(matrix, target, start, free, lambda r: r, tol=1e-7, max_iter=200)
    np.testing.assert_array_equal(x[~free], start[~free])
    rest = target - dense[:, ~free] @ start[~free]
    wanted = np.linalg.lstsq(dense[:, free].astype(float), rest, rcond=None)[0]
    np.testing.assert_allclose(x[free], wanted, rtol=0, atol=1e-5)


def test_it_stops_when_told_and_at_the_solution():
    _, matrix, target = problem()
    asked = []
    x = least_squares(
        matrix, target, np.zeros(30), np.ones(30, bool), lambda r: r,
        tol=1e-7, max_iter=200, stop=lambda: asked.append(1) or len(asked) > 3,
    )  # fmt: skip
    assert len(asked) == 4
    assert np.abs(x).max() > 0
    zero = least_squares(
        matrix, np.zeros(80, np.float32), np.zeros(30), np.ones(30, bool), lambda r: r,
        tol=1e-7, max_iter=200,
    )  # fmt: skip
    np.testing.assert_array_equal(zero, 0)
