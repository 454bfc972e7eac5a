"""Couplings are those of dipoles, and fit as sheets and walls should."""

import numpy as np

from levelset.reconstruction._dipoles import SOFTENING, couplings, fit_into

RNG = np.random.default_rng(0)
UP = np.array([0.0, 0.0, 1.0])


def dipoles(count):
    normals = RNG.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return RNG.uniform(-1, 1, (count, 3)), normals, RNG.uniform(0.05, 0.2, count)


def one(x, n, y, m, h, g):
    """Return the coupling of two dipoles, from the formula."""
    r = y - x
    square = r @ r + SOFTENING**2 * (h * h + g * g) / 2.0
    return h * h * g * g * (n @ m - 3.0 * (n @ r) * (m @ r) / square) / square**1.5


def test_couplings_are_the_formula_for_each_pair():
    x, n, h = dipoles(20)
    expected = np.array(
        [
            [0.0 if i == j else one(x[i], n[i], x[j], n[j], h[i], h[j]) for j in range(20)]
            for i in range(20)
        ]
    )
    found = couplings(x, n, h)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_couplings_are_symmetric_over_several_batches():
    x, n, h = dipoles(700)
    found = couplings(x, n, h)
    np.testing.assert_allclose(found, found.T, rtol=1e-3, atol=1e-5)
    assert not found.diagonal().any()


def test_far_from_the_origin_they_are_the_same():
    x, n, h = dipoles(30)
    np.testing.assert_allclose(couplings(x + 100.0, n, h), couplings(x, n, h), rtol=1e-2, atol=1e-4)


def test_on_a_sheet_equal_normals_fit_and_on_a_wall_opposite_ones():
    x = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.1]])
    found = couplings(x, np.array([UP, UP, -UP]), np.full(3, 0.05))
    assert found[0, 1] > 0.0
    assert found[0, 2] > 0.0


def test_turning_one_normal_turns_its_couplings():
    x, n, h = dipoles(15)
    signs = RNG.choice([-1.0, 1.0], 15)
    turned = couplings(x, n * signs[:, None], h)
    np.testing.assert_allclose(turned, couplings(x, n, h) * np.outer(signs, signs), atol=1e-5)


def test_fitting_into_neighbours_sums_their_couplings():
    x, n, _ = dipoles(6)
    y, m, g = dipoles(24)
    y, m, g = y.reshape(6, 4, 3), m.reshape(6, 4, 3), g.reshape(6, 4)
    fit, size = fit_into(x, n, y, m, g)
    for i in range(6):
        r = y[i] - x[i]
        square = (r * r).sum(1) + (SOFTENING * g[i]) ** 2
        each = g[i] ** 2 * (m[i] @ n[i] - 3.0 * (r @ n[i]) * (r * m[i]).sum(1) / square)
        each /= square**1.5
        np.testing.assert_allclose([fit[i], size[i]], [each.sum(), np.abs(each).sum()])
