import numpy as np
import pytest

from levelset.reconstruction._curves._clutter import clutter


def ring(count, dim, seed=0):
    turn = 2 * np.pi * np.random.default_rng(seed).random(count)
    return np.pad(np.stack([np.cos(turn), np.sin(turn)], 1), ((0, 0), (0, dim - 2)))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("spread", [3.0, 1e6])
def test_strewn_points_go_however_far_they_are(dim, spread):
    random = np.random.default_rng(1)
    away = spread * random.uniform(-1, 1, (30, dim))
    away = away[np.linalg.norm(away, axis=1) > 2.0]
    strewn_rows = clutter(np.concatenate([ring(300, dim), away]))
    assert strewn_rows[300:].mean() > 0.9
    assert not strewn_rows[:300].any()


def test_a_lump_very_far_away_goes():
    lump = 1e6 + ring(30, 2)
    assert clutter(np.concatenate([ring(300, 2), lump])).tolist() == [False] * 300 + [True] * 30


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_a_curve_alone_has_none_or_next_to_none(noise):
    random = np.random.default_rng(2)
    for points in (ring(300, 2), ring(300, 3), random.random((300, 1)) * np.array([1.0, 2.0])):
        assert clutter(points + noise * random.standard_normal(points.shape)).mean() < 0.03


def test_points_strewn_everywhere_all_stay():
    assert clutter(np.random.default_rng(3).random((300, 2))).mean() < 0.3
    assert not clutter(np.random.default_rng(3).random((5, 2))).any()
