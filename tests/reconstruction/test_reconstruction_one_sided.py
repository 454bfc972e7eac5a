"""Strips with an odd number of half turns have one side, all else two."""

import numpy as np
import pytest
import torch

from levelset.errors import DataError
from levelset.reconstruction import surface
from levelset.reconstruction._one_sided import is_one_sided


def strip(half_turns, count=1500, noise=0.0, seed=0):
    """Return points on a strip around a circle, and their normals, of random sign."""
    rng = np.random.default_rng(seed)
    t, w = rng.uniform(0, 2 * np.pi, count), rng.uniform(-0.3, 0.3, count)
    turn = half_turns * t / 2
    ring = np.c_[np.cos(t), np.sin(t), np.zeros(count)]
    across = np.cos(turn)[:, None] * ring + np.sin(turn)[:, None] * [0, 0, 1]
    along = np.c_[-np.sin(t), np.cos(t), np.zeros(count)] * (1 + w * np.cos(turn))[:, None]
    along += (
        w[:, None]
        * half_turns
        / 2
        * (np.cos(turn)[:, None] * [0, 0, 1] - np.sin(turn)[:, None] * ring)
    )
    normals = np.cross(across, along)
    normals *= rng.choice([-1, 1], count)[:, None] / np.linalg.norm(normals, axis=1)[:, None]
    return ring + w[:, None] * across + noise * rng.standard_normal((count, 3)), normals


@pytest.mark.parametrize(("half_turns", "one"), [(0, False), (1, True), (2, False), (3, True)])
def test_odd_half_turns_leave_one_side(half_turns, one):
    assert is_one_sided(*strip(half_turns)) is one


def test_a_sphere_has_two_sides_and_a_cloud_none():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert not is_one_sided(x, x)
    assert not is_one_sided(rng.uniform(-1, 1, (1500, 3)), x)
    assert not is_one_sided(x[:3], x[:3])


def test_short_seams_here_and_there_are_noise():
    # where noise twists the normals around a few places it makes what looks like a tiny strip
    places, normals = strip(0, 4000)
    for k in range(20):
        x, n = strip(1, 120, seed=k)
        places, normals = np.r_[places, 0.1 * x + [0, 0, 1 + k]], np.r_[normals, n]
    assert not is_one_sided(places, normals)
    assert is_one_sided(places[-120:], normals[-120:])


def test_a_moebius_strip_is_refused_by_name():
    points, _ = strip(1, noise=0.004)
    with pytest.raises(DataError, match="one side only, as a Möbius strip"):
        surface(torch.from_numpy(points), closed=False)
