"""Noise of every size is read off clouds whose noise is known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._noise import FLOOR, alike, neighbours_at, noise_level


def sphere(count, noise, seed=0):
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return 0.9 * normals + noise * rng.standard_normal((count, 3))


@pytest.mark.parametrize("noise", [0.001, 0.002, 0.005, 0.01, 0.02, 0.04])
def test_the_noise_of_a_sphere_is_found_within_a_tenth(noise):
    points = sphere(20_000, noise)
    assert noise_level(points, cKDTree(points)).noise == pytest.approx(noise, rel=0.1)


def test_outliers_hardly_change_it():
    points = sphere(20_000, 0.005)
    points[:600] = np.random.default_rng(1).uniform(-0.9, 0.9, (600, 3))
    assert noise_level(points, cKDTree(points)).noise == pytest.approx(0.005, rel=0.15)


def test_a_wall_six_noises_thick_is_not_taken_for_noise():
    rng = np.random.default_rng(0)
    flat = rng.uniform(-0.8, 0.8, (20_000, 2))
    side = np.where(np.arange(20_000) % 2, 0.06, 0.0)
    points = np.c_[flat, side + 0.01 * rng.standard_normal(20_000)]
    assert noise_level(points, cKDTree(points)).noise == pytest.approx(0.01, rel=0.15)


def test_points_without_noise_get_a_hundredth_of_their_spacing():
    points = np.c_[np.random.default_rng(0).uniform(-1, 1, (5_000, 2)), np.zeros(5_000)]
    level = noise_level(points, cKDTree(points))
    assert level.noise == pytest.approx(FLOOR * level.spacing)


def test_the_spacing_is_the_side_of_the_square_that_a_point_stands_for():
    points = np.c_[np.random.default_rng(0).uniform(-1, 1, (20_000, 2)), np.zeros(20_000)]
    level = noise_level(points, cKDTree(points))
    assert level.spacing == pytest.approx(np.sqrt(4.0 / 20_000), rel=0.05)


def test_more_noise_asks_for_more_neighbours():
    counts = [
        noise_level(points, cKDTree(points)).neighbours
        for points in (sphere(20_000, noise) for noise in (0.0005, 0.002, 0.01, 0.03))
    ]
    assert counts == sorted(counts)
    assert counts[0] >= 9
    assert counts[-1] > 4 * counts[0]


def test_few_points_are_enough():
    points = sphere(50, 0.01)
    level = noise_level(points, cKDTree(points))
    assert level.neighbours <= 50
    assert 0.0 < level.noise < 0.1


def test_neighbours_grow_with_the_noise_around_in_few_steps():
    points = sphere(20_000, 0.002)
    level = noise_level(points, cKDTree(points))
    noise = level.noise * np.geomspace(0.1, 50.0, 400)
    counts = neighbours_at(level, noise)
    assert (np.diff(counts) >= 0).all()
    assert len(np.unique(counts)) < 15
    eight = neighbours_at(level, np.array([1.0, 8.0]) * level.noise)
    np.testing.assert_array_equal(eight, [level.neighbours, 4 * level.neighbours])
    rows = np.concatenate([rows for _, rows in alike(counts)])
    np.testing.assert_array_equal(np.sort(rows), np.arange(400))
