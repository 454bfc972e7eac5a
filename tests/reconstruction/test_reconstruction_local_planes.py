"""Paraboloids are found exactly; edges, walls and outliers are kept out."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._local_planes import fit_adaptive, fit_patches, heights

RNG = np.random.default_rng(0)


def turned(points):
    """Return points turned by a fixed rotation, and the rotation."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    return points @ turn.T, turn


def angle(normals, truth):
    return np.degrees(np.arccos(np.clip(np.abs((normals * truth).sum(1)), 0.0, 1.0)))


def test_a_plane_is_found_exactly_wherever_it_lies():
    flat = np.c_[RNG.uniform(-1, 1, (200, 2)), np.zeros(200)]
    points, turn = turned(flat)
    points += 5.0
    _, near = cKDTree(points).query(points, 12)
    queries = points + 0.01 * turn[:, 2]
    patches = fit_patches(points, queries, near)
    assert angle(patches.normals, turn[:, 2]).max() < 1e-4
    np.testing.assert_allclose(patches.feet, points, atol=1e-9)
    assert patches.residuals.max() < 1e-9


def test_the_slope_of_a_paraboloid_is_that_at_the_query_not_at_the_middle():
    """A plane through the same neighbours, all to one side, is off by degrees."""
    x, y = RNG.uniform(-0.2, 0.2, (2, 60))
    points = np.c_[x, y, 0.5 * x * x - 0.3 * x * y]
    query = np.array([[0.2, 0.0, 0.02]])
    patches = fit_patches(points, query, np.arange(60)[None])
    slope = np.array([[-0.2, 0.06, 1.0]])
    truth = slope / np.linalg.norm(slope)
    plane = np.linalg.svd(points - points.mean(0))[2][2][None]
    assert angle(patches.normals, truth) < 0.5
    assert angle(plane, truth) > 8.0


def test_the_residual_is_the_noise_whatever_the_number_of_neighbours():
    points = np.c_[RNG.uniform(-1, 1, (20_000, 2)), 0.003 * RNG.standard_normal(20_000)]
    tree = cKDTree(points)
    queries = points[np.abs(points[:, :2]).max(1) < 0.8][:800]
    for count in (9, 24, 60):
        _, near = tree.query(queries, count)
        patches = fit_patches(points, queries, near)
        assert np.sqrt((patches.residuals**2).mean()) == pytest.approx(0.003, rel=0.05)
        disc = np.sqrt(count / np.pi / 5_000 / 2.0)
        assert np.median(patches.radii) == pytest.approx(disc, rel=0.2)


def test_points_come_back_in_their_order_from_several_batches():
    points = np.c_[RNG.uniform(-1, 1, (9_000, 2)), np.zeros(9_000)]
    _, near = cKDTree(points).query(points, 8)
    np.testing.assert_allclose(fit_patches(points, points, near).feet, points, atol=1e-9)


def test_no_queries_give_empty_arrays():
    points = RNG.standard_normal((20, 3))
    empty = np.zeros((0, 3)), np.zeros((0, 8), dtype=np.int64)
    assert fit_patches(points, *empty).normals.shape == (0, 3)
    assert [len(part) for part in heights(points, *empty, np.zeros(0))] == [0, 0]


def test_near_the_far_side_of_a_wall_fewer_neighbours_are_taken():
    """48 neighbours reach through the wall, 24 do not."""
    flat = RNG.uniform(-1, 1, (8_000, 2))
    side = np.where(np.arange(8_000) % 2, 0.1, 0.0)
    points = np.c_[flat, side + 0.002 * RNG.standard_normal(8_000)]
    inner = points[np.abs(points[:, :2]).max(1) < 0.8]
    _, near = cKDTree(points).query(inner, 48)
    up = np.array([0.0, 0.0, 1.0])
    fixed = fit_patches(points, inner, near)
    adaptive = fit_adaptive(points, inner, near, np.full(len(inner), 0.002))
    assert np.median(fixed.residuals) > 0.01
    assert np.median(adaptive.residuals) == pytest.approx(0.002, rel=0.1)
    assert angle(adaptive.normals, up).mean() < 0.3 * angle(fixed.normals, up).mean()


def test_where_the_noise_explains_all_nothing_is_changed():
    points = np.c_[RNG.uniform(-1, 1, (500, 2)), np.zeros(500)]
    _, near = cKDTree(points).query(points, 24)
    all_of_them = fit_patches(points, points, near)
    adaptive = fit_adaptive(points, points, near, np.full(len(points), 0.01))
    np.testing.assert_array_equal(adaptive.normals, all_of_them.normals)


def test_a_height_is_not_hidden_by_another_outlier():
    points = np.c_[RNG.uniform(-1, 1, (300, 2)), 0.002 * RNG.standard_normal(300)]
    points[:3] = [[0.0, 0.0, 0.1], [0.02, 0.02, 0.12], [-0.02, 0.01, 0.11]]
    _, near = cKDTree(points).query(points[:1], 30)
    height, spread = heights(points, points[:1], near[:, 1:], np.array([0.001]))
    assert height[0] == pytest.approx(0.1, abs=0.003)
    assert spread[0] == pytest.approx(0.002, rel=0.5)


def test_tails_tell_noise_from_two_sheets():
    rng = np.random.default_rng(0)
    flat = rng.uniform(-1.0, 1.0, (20, 60, 2))
    for height, low, high in (
        (rng.standard_normal((20, 60)), 2.7, 3.3),
        (rng.choice([-1.0, 1.0], (20, 60)), 1.0, 1.7),
    ):
        points = np.concatenate([flat, 0.1 * height[..., None]], axis=2).reshape(-1, 3)
        near = np.arange(1200).reshape(20, 60)
        patches = fit_patches(points, points[::60], near)
        assert low < np.mean(patches.kurtosis) < high
