import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._curves._ordering import Path
from levelset.reconstruction._curves._smoothing import smooth_curve


def knot(turn):
    return np.stack([np.sin(turn) + 2 * np.sin(2 * turn), np.cos(turn) - 2 * np.cos(2 * turn),
                     -np.sin(3 * turn)], 1) / 3.0  # fmt: skip


def fitted(noise, *, count=400, closed=True, stop=2 * np.pi):
    random = np.random.default_rng(0)
    points = knot(stop * random.random(count))
    points = points + noise * random.standard_normal(points.shape)
    nodes = knot(np.linspace(0, stop, 60, endpoint=not closed))
    return points, smooth_curve(points, Path(nodes, closed=closed))


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.04])
@pytest.mark.parametrize("closed", [True, False])
def test_it_is_closer_to_the_truth_than_the_points_and_knows_the_noise(noise, closed):
    stop = 2 * np.pi if closed else 4.0
    points, curve = fitted(noise, closed=closed, stop=stop)
    truth = cKDTree(knot(np.linspace(0, stop, 20_000)))
    error = truth.query(curve.at(np.linspace(0, 1, 500)))[0]
    assert error.mean() < 0.5 * truth.query(points)[0].mean()
    assert curve.noise == pytest.approx(noise, rel=0.2)
    assert curve.errors[-1] <= curve.errors[0] * 1.01


def test_a_closed_curve_has_no_seam():
    _, curve = fitted(0.01)
    for derivative, size in ((0, 1e-12), (1, 1e-9), (2, 1e-6)):
        ends = curve.at(np.array([0.0, 1.0 - 1e-12]), derivative)
        scale = np.abs(curve.at(np.linspace(0, 1, 99), derivative)).max()
        assert np.abs(ends[0] - ends[1]).max() < (size + 1e-8) * scale


def test_derivatives_are_those_of_differences():
    _, curve = fitted(0.01)
    u, h = np.linspace(0.1, 0.9, 30), 1e-5
    for k in (1, 2):
        difference = (curve.at(u + h, k - 1) - curve.at(u - h, k - 1)) / (2 * h)
        assert np.allclose(curve.at(u, k), difference, rtol=1e-4, atol=1e-4)


def test_even_places_are_equally_far_apart():
    for closed in (True, False):
        _, curve = fitted(0.01, closed=closed, stop=2 * np.pi if closed else 4.0)
        points = curve.at(curve.evenly(300))
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        assert np.ptp(steps) < 0.02 * steps.mean()
        assert closed or np.allclose(points[[0, -1]], curve.at(np.array([0.0, 1.0])))


def test_points_of_no_curve_are_left_out():
    points, _ = fitted(0.01)
    stray = np.random.default_rng(1).uniform(1.5, 2.0, (8, 3))
    nodes = knot(np.linspace(0, 2 * np.pi, 60, endpoint=False))
    curve = smooth_curve(np.concatenate([points, stray]), Path(nodes, closed=True))
    assert curve.rows.max() < len(points)
    assert len(curve.rows) > 0.97 * len(points)
    assert smooth_curve(points[:6], Path(nodes, closed=True)) is None
