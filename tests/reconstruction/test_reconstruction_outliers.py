"""Planted outliers are found, points of surfaces stay."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._noise import noise_level
from levelset.reconstruction._outliers import find_outliers


def torus(count, noise, rng):
    """Return points evenly spread over a torus of radii 0.7 and 0.25, with noise."""
    u, v, keep = rng.uniform(0, 2 * np.pi, (3, 2 * count))
    inside = keep / (2 * np.pi) < (0.7 + 0.25 * np.cos(v)) / 0.95
    u, v = u[inside][:count], v[inside][:count]
    ring = 0.7 + 0.25 * np.cos(v)
    points = np.c_[ring * np.cos(u), ring * np.sin(u), 0.25 * np.sin(v)]
    return points + noise * rng.standard_normal(points.shape)


def off_torus(points):
    return np.abs(np.hypot(np.hypot(points[:, 0], points[:, 1]) - 0.7, points[:, 2]) - 0.25)


def found(points):
    level = noise_level(points, cKDTree(points))
    return find_outliers(points, level, np.full(len(points), level.noise))


@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_three_percent_in_the_box_are_found(noise):
    rng = np.random.default_rng(0)
    points = torus(12_000, noise, rng)
    low, high = points.min(0), points.max(0)
    points[:360] = low + (high - low) * rng.random((360, 3))
    away = off_torus(points[:360]) > 3.0 * noise
    mask = found(points)
    assert mask[:360][away].mean() > 0.97
    assert mask[360:].mean() < 0.01


def test_a_clean_cloud_loses_next_to_nothing():
    for noise in (0.0, 0.002, 0.02):
        assert found(torus(8_000, noise, np.random.default_rng(1))).mean() < 0.012


def test_a_sparse_part_of_a_surface_is_no_outlier():
    """Ten times fewer points on one half: standing apart is not enough."""
    rng = np.random.default_rng(2)
    points = torus(20_000, 0.002, rng)
    points = points[(points[:, 0] > 0.0) | (rng.random(len(points)) < 0.1)]
    assert found(points)[points[:, 0] < 0.0].mean() < 0.03


def uneven_cube(count, rng):
    """Return points on a cube, 20 times as dense at x = 0.6 as at x = -0.6."""
    points = rng.uniform(-0.6, 0.6, (20 * count, 3))
    rows = np.arange(len(points))
    points[rows, rng.integers(0, 3, len(points))] = 0.6 * rng.choice([-1.0, 1.0], len(points))
    points = points[rng.random(len(points)) < 20.0 ** (points[:, 0] / 1.2 - 0.5)][:count]
    return points + 0.002 * rng.standard_normal(points.shape)


def test_faces_of_a_board_with_few_points_at_one_end_are_no_outliers():
    rng = np.random.default_rng(5)
    points = rng.uniform([-0.8, -0.4, 0.0], [0.8, 0.4, 0.0], (160_000, 3))
    points = points[rng.random(len(points)) < 20.0 ** (points[:, 0] / 1.6 - 0.5)][:12_000]
    points[:, 2] = 0.03 * rng.choice([-1.0, 1.0], len(points))
    points += 0.002 * rng.standard_normal(points.shape)
    inner = (points[:, 0] < -0.45) & (points[:, 0] > -0.7) & (np.abs(points[:, 1]) < 0.3)
    assert inner.sum() > 200
    assert found(points)[inner].mean() < 0.05
    # while as many points in space around them still are
    away = rng.uniform([-0.8, -0.4, 0.1], [0.8, 0.4, 0.6], (400, 3))
    assert found(np.r_[points, away])[len(points) :].mean() > 0.97


def test_corners_of_a_sparse_part_are_no_outliers():
    rng = np.random.default_rng(4)
    points = uneven_cube(8_000, rng)
    corner = (points[:, 0] < -0.45) & (np.abs(points[:, 1:]) > 0.45).all(1)
    assert corner.sum() > 30
    assert found(points)[corner].mean() < 0.1
    # while as many points anywhere around the cube still are
    away = rng.uniform(-1.0, 1.0, (400, 3))
    away = away[np.abs(away).max(1) > 0.65]
    assert found(np.r_[points, away])[len(points) :].mean() > 0.95


def test_a_second_object_is_no_outlier():
    rng = np.random.default_rng(3)
    small = rng.standard_normal((300, 3))
    small = 0.05 * small / np.linalg.norm(small, axis=1, keepdims=True)
    points = np.r_[torus(8_000, 0.002, rng), small]
    assert found(points)[-300:].mean() < 0.02
