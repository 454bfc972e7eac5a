import numpy as np
from scipy.spatial import cKDTree

from levelset.reconstruction._curves._curve import fit_curves

TURN = np.linspace(0, 2 * np.pi, 250, endpoint=False)
RING = np.stack([np.cos(TURN), np.sin(TURN), 0 * TURN], 1)


def test_each_curve_is_fitted_to_its_own_points():
    random = np.random.default_rng(0)
    clouds = [RING, 0.7 * RING[:, [0, 2, 1]] + np.array([1.0, 0, 0])]
    points = np.concatenate(clouds) + 0.01 * random.standard_normal((500, 3))
    found, _ = fit_curves(points, gap=0.1, closed=None, random=random)
    assert [curve.closed for curve in found] == [True, True]
    for curve, cloud, radius in zip(found, clouds, (1.0, 0.7), strict=True):
        row = curve.at(curve.evenly(400))
        assert cKDTree(cloud).query(row)[0].mean() < 0.012
        length = np.linalg.norm(row - np.roll(row, 1, 0), axis=1).sum()
        assert abs(length / (2 * np.pi * radius) - 1) < 0.01
        assert 0.008 < curve.noise < 0.012


def test_the_same_points_in_another_order_give_nearly_the_same_curve():
    random = np.random.default_rng(1)
    points = RING + 0.02 * random.standard_normal(RING.shape)
    rows = [
        fit_curves(p, gap=0.1, closed=None, random=random)[0][0]
        for p in (points, points[random.permutation(250)])
    ]
    one, other = (curve.at(curve.evenly(300)) for curve in rows)
    assert cKDTree(one).query(other)[0].max() < 0.03
