"""Means in cells: every point counts, lines of scanners stay, thin walls are not mixed."""

import numpy as np
import pytest

from levelset.reconstruction._averaging import averaged

RNG = np.random.default_rng(0)


def test_means_are_those_of_all_points_of_each_cell():
    # 27 groups, each well inside a cell
    middles = np.stack(np.meshgrid(*[[0.0, 1.0, 2.0]] * 3), -1).reshape(-1, 3)
    group = np.arange(2_700) % 27
    points = middles[group] + RNG.uniform(0, 0.2, (2_700, 3))
    means = averaged(points, None, 27)
    assert set(means.counts.tolist()) == {100}
    expected = np.array([points[group == k].mean(0) for k in range(27)])
    order, wanted = np.lexsort(means.points.round(1).T), np.lexsort(expected.round(1).T)
    np.testing.assert_allclose(means.points[order], expected[wanted], atol=1e-12)


def test_noise_falls_with_the_root_of_the_number():
    flat = np.c_[RNG.uniform(0, 1, (40_000, 2)), 1e-4 * RNG.standard_normal(40_000)]
    means = averaged(flat, None, 1_000)
    expected = 1e-4 / np.sqrt(means.counts.mean())
    assert means.points[:, 2].std() == pytest.approx(expected, rel=0.15)


def test_tails_of_the_noise_join_the_cell_that_the_surface_is_in():
    flat = np.c_[RNG.uniform(0, 1, (200_000, 2)), 0.01 * RNG.standard_normal(200_000)]
    means = averaged(flat, None, 3_000)
    # about a cell wide, the noise is averaged out all the same
    assert means.width > 0.01
    assert np.abs(means.points[:, 2]).max() < 0.01


def test_no_ring_of_a_scanner_is_lost():
    turn = np.linspace(0, 2 * np.pi, 5_000, endpoint=False)
    rings = [np.c_[np.cos(turn), np.sin(turn), np.full(5_000, z)] for z in np.linspace(0, 1, 16)]
    means = averaged(np.concatenate(rings), None, 4_000)
    # on each ring alike
    heights, numbers = np.unique(means.points[:, 2].round(9), return_counts=True)
    assert len(heights) == 16
    assert numbers.min() > 0.9 * numbers.max()


def test_sparse_points_stay_as_they_are():
    dense = 0.05 * RNG.uniform(0, 1, (9_000, 3)) * [1, 1, 0]
    sparse = RNG.uniform(1, 2, (50, 3))
    means = averaged(np.concatenate([dense, sparse]), None, 500)
    alone = means.points[means.counts == 1]
    assert all(np.linalg.norm(alone - point, axis=1).min() < 1e-12 for point in sparse)


def test_the_two_faces_of_a_thin_wall_stay_apart_by_their_normals():
    flat = RNG.uniform(0, 1, (8_000, 2))
    wall = np.concatenate([np.c_[flat, np.zeros(8_000)], np.c_[flat, np.full(8_000, 1e-3)]])
    normals = np.repeat([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]], 8_000, axis=0)
    means = averaged(wall, normals, 1_000)
    assert means.normals is not None
    np.testing.assert_allclose(means.points[:, 2], np.where(means.normals[:, 2] > 0, 1e-3, 0.0))


def test_means_of_means_weigh_as_their_points_do():
    random = np.random.default_rng(3)
    points, weights = random.uniform(size=(4000, 3)), random.integers(1, 5, 4000)
    means, all_of_them = (
        averaged(points, None, 300, weights),
        averaged(np.repeat(points, weights, axis=0), None, 300),
    )
    assert np.array_equal(means.counts, all_of_them.counts)
    assert np.allclose(means.points, all_of_them.points, rtol=0.0, atol=1e-12)
