"""Thinned clouds are as many as asked, distinct, and even."""

import numpy as np
from scipy.spatial import cKDTree

from levelset.reconstruction._thinning import thin

RNG = np.random.default_rng(0)


def test_as_many_as_asked_and_each_once():
    points = RNG.uniform(-1, 1, (20_000, 3))
    rows = thin(points, 1_000)
    assert 950 <= len(rows) <= 1_000
    assert len(np.unique(rows)) == len(rows)


def test_a_small_cloud_comes_back_whole():
    np.testing.assert_array_equal(thin(RNG.uniform(-1, 1, (30, 3)), 30), np.arange(30))


def test_dense_parts_count_no_more_than_others():
    flat = RNG.uniform(-1, 1, (20_000, 2))
    flat = flat[(flat[:, 0] > 0.0) | (RNG.random(20_000) < 0.2)]
    rows = thin(np.c_[flat, np.zeros(len(flat))], 500)
    assert (flat[:, 0] > 0.0).mean() > 0.8
    assert abs((flat[rows, 0] > 0.0).mean() - 0.5) < 0.06


def test_every_point_is_near_one_that_is_kept():
    points = RNG.uniform(0, 1, (20_000, 3)) * [1.0, 1.0, 0.0]
    rows = thin(points, 400)
    reach, _ = cKDTree(points[rows]).query(points)
    assert reach.max() < 2.0 * np.sqrt(2.0 / 400)


def test_the_place_and_the_scale_of_the_cloud_do_not_matter():
    points = RNG.uniform(0, 1, (3_000, 3))
    np.testing.assert_array_equal(thin(points, 300), thin(4.0 * points, 300))
