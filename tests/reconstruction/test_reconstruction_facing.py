"""Sheets that face each other, and how little fields resist to bend across them."""

import numpy as np

from levelset.reconstruction._facing import LOOSE, facing, loosened
from levelset.reconstruction._grid import REACH, all_nodes, roughness
from levelset.reconstruction._orientation import OrientedPoints

TILT = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]


def oriented(points, normals, spread=0.001):
    ones = np.ones(len(points))
    return OrientedPoints(points, normals, ones, ones, 0.04 * ones, spread * ones)


def plate(apart, count=1200, seed=0):
    """Return points on two squares of side 1 that face away from each other, tilted."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0], count)
    points = np.c_[rng.uniform(-0.5, 0.5, (count, 2)), 0.5 * apart * side]
    normals = np.c_[np.zeros((count, 2)), side]
    return oriented(points @ TILT.T, normals @ TILT.T)


def test_points_of_a_thin_plate_face_another_sheet_and_those_of_a_thick_one_do_not():
    thin = facing(plate(0.02))
    assert (thin.reach > 0).mean() > 0.98
    np.testing.assert_allclose(thin.reach.max(), 1.5 * 0.04)
    assert facing(plate(0.3)) is None


def test_flipped_normals_of_one_noisy_sheet_are_no_second_sheet():
    rng = np.random.default_rng(1)
    points = np.c_[rng.uniform(-0.5, 0.5, (1200, 2)), 0.01 * rng.standard_normal(1200)]
    normals = np.c_[np.zeros((1200, 2)), np.where(rng.random(1200) < 0.4, -1.0, 1.0)]
    sheets = facing(oriented(points, normals, spread=0.01))
    assert sheets is None or (sheets.reach > 0).mean() < 0.02


def test_the_rim_of_a_plate_is_an_edge_where_the_field_stays_stiff():
    cloud = plate(0.02)
    rng = np.random.default_rng(2)
    wall = np.c_[np.full(600, 0.5), rng.uniform(-0.5, 0.5, 600), rng.uniform(-0.01, 0.01, 600)]
    out = np.tile([1.0, 0.0, 0.0], (600, 1))
    both = oriented(np.r_[cloud.points, wall @ TILT.T], np.r_[cloud.normals, out @ TILT.T])
    reach, along = facing(both).reach, both.points @ TILT[:, 0]
    assert (reach[along > 0.48] > 0).mean() < 0.1
    assert (reach[(along < 0.3) & (along > -0.4)] > 0).mean() > 0.95


def test_only_the_second_derivative_along_the_normal_counts_less_and_only_there():
    band = all_nodes(24)
    place = (band.grid_index - 0.5) * band.width - REACH
    hessian = np.array([[2.0, 0.5, -1.0], [0.5, -3.0, 0.25], [-1.0, 0.25, 1.0]])
    quadratic = 0.5 * np.einsum("na,ab,nb->n", place, hessian, place)
    sheets = facing(plate(0.02))
    kinds = roughness(band)

    def energy(kinds):
        whole = np.zeros(len(place))
        for kind in kinds:
            np.add.at(whole, kind.node, (kind.matrix @ quadratic) ** 2)
        return whole

    before, after = energy(kinds), energy(loosened(kinds, band, sheets))
    rows, nearest = sheets.nodes(band)
    assert 50 < len(rows) < len(place) // 10
    n = sheets.normals[nearest]
    np.testing.assert_allclose(np.abs(n @ TILT[:, 2]), 1.0)
    along = np.einsum("na,ab,nb->n", n, hessian, n)
    np.testing.assert_allclose(after[rows], before[rows] - (1 - LOOSE) * along**2, rtol=1e-4)
    rest = np.setdiff1d(np.arange(len(place)), rows)
    np.testing.assert_allclose(after[rest], before[rest], rtol=1e-9)


def test_few_points_face_nothing():
    assert facing(plate(0.02, 3)) is None
