"""Noise that differs from place to place is read off clouds whose noise is known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._local_noise import local_noise
from levelset.reconstruction._noise import noise_level


def ball(sigma, count=10_000, seed=0):
    """Return points on a ball of radius 0.9 with noise by their place, and that noise."""
    rng = np.random.default_rng(seed)
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    noise = sigma(normals[:, 0])
    return 0.9 * normals + noise[:, None] * rng.standard_normal((count, 3)), noise


def box(noise, count, seed=0):
    """Return points on the faces of a cube of half side 0.5 with uniform noise."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.5, 0.5, (count, 3))
    points[np.arange(count), np.arange(count) % 3] = np.where(np.arange(count) % 2, 0.5, -0.5)
    return points + noise * rng.standard_normal((count, 3))


def plate(thickness, noise, count, seed=0):
    """Return points on the two faces of a plate of 1.8 by 1.8 with uniform noise."""
    rng = np.random.default_rng(seed)
    flat = rng.uniform(-0.9, 0.9, (count, 2))
    sides = np.where(np.arange(count) % 2, thickness, 0.0)
    return np.c_[flat, sides] + noise * rng.standard_normal((count, 3))


def around(points, unclear=None):
    tree = cKDTree(points)
    level = noise_level(points, tree)
    nobody = np.zeros(len(points), dtype=bool)
    return local_noise(points, tree, level, nobody if unclear is None else unclear), level


@pytest.mark.parametrize("high", [0.008, 0.02, 0.04])
def test_two_halves_have_their_own_noise_up_to_their_border(high):
    points, noise = ball(lambda x: np.where(x < 0.0, 0.001, high))
    found, _ = around(points)
    ratio = found / noise
    for side in (points[:, 0] < -0.15, points[:, 0] > 0.05):
        assert np.median(ratio[side]) == pytest.approx(1.0, abs=0.2)
        assert (np.abs(np.log(ratio[side])) < np.log(2.0)).mean() > 0.95


def test_noise_that_grows_steadily_is_followed():
    points, noise = ball(lambda x: 0.001 * 20.0 ** (0.5 + 0.5 * x))
    ratio = around(points)[0] / noise
    assert np.median(ratio) == pytest.approx(1.0, abs=0.15)
    assert (np.abs(np.log(ratio)) < np.log(2.0)).mean() > 0.97


@pytest.mark.parametrize(
    "points",
    [
        ball(lambda x: np.full(len(x), 0.01))[0],
        ball(lambda x: np.full(len(x), 0.01), 500)[0],
        ball(lambda x: np.where(x < 0.0, 0.01, 0.011))[0],
        box(0.002, 10_000),
        box(0.0, 1_500),
        box(0.01, 1_500),
        plate(0.05, 0.01, 4_000),
        ball(lambda x: np.where(x < 0.0, 0.0, 0.0017), 3_000)[0],
        np.r_[ball(lambda x: np.full(len(x), 0.002))[0],
              np.random.default_rng(1).uniform(-1.0, 1.0, (300, 3))],
    ],
    ids=["ball", "few", "nearly alike", "box", "edges of few", "noisy edges", "plate", "fine",
         "outliers"],
)  # fmt: skip
def test_noise_alike_everywhere_is_one_number_whatever_the_shape(points):
    found, level = around(points)
    np.testing.assert_array_equal(found, level.noise)


def test_unclear_points_show_no_noise_of_their_own():
    points, _ = ball(lambda x: np.where(x < 0.0, 0.002, 0.02))
    found, level = around(points, np.ones(len(points), dtype=bool))
    np.testing.assert_array_equal(found, level.noise)


def test_scale_does_not_matter():
    points, _ = ball(lambda x: np.where(x < 0.0, 0.001, 0.02), 3_000)
    np.testing.assert_allclose(around(0.5 * points)[0], 0.5 * around(points)[0], rtol=1e-6)
