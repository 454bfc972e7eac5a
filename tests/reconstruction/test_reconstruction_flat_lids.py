"""Flat lids: the disc across the equator, and a solid with a base that nobody saw."""

import math

import numpy as np
import pytest
import torch

from levelset.reconstruction import Fast, extract_mesh, surface
from levelset.reconstruction._flat_lids import flat_lids
from levelset.shapes import Sphere


@pytest.fixture(scope="module")
def ball():
    return extract_mesh(Sphere(), bounds=([-1.2] * 3, [1.2] * 3), resolution=41)


def test_half_a_ball_gets_a_disc(ball):
    below = (-ball.vertices[:, 2]).numpy()
    half = flat_lids(ball, below)
    lid = torch.from_numpy(below > 0)
    assert half.watertight
    assert (half.genus, len(half.faces)) == (0, len(ball.faces))
    assert torch.equal(half.vertices[~lid], ball.vertices[~lid])
    assert half.volume == pytest.approx(2 / 3 * math.pi, rel=0.03)
    assert half.area == pytest.approx(3 * math.pi, rel=0.03)
    inner = lid & (half.vertices[:, :2].norm(dim=1) < 0.8)
    assert half.vertices[inner, 2].std() < 2e-3
    assert (half.normals[inner, 2] < -0.99).all()


def test_without_points_or_without_gaps_nothing_moves(ball):
    for side in (1.0, -1.0):
        beyond = np.full(len(ball.vertices), side)
        assert flat_lids(ball, beyond) is ball


@pytest.mark.slow
def test_a_dome_that_stood_on_a_table():
    draws = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dome = torch.nn.functional.normalize(draws, dim=1)
    dome = dome[dome[:, 2] > 0]
    smooth, flat = (
        surface(dome, settings=Fast(grid=32), resolution=48, lids=lids)
        for lids in ("smooth", "flat")
    )
    assert flat.mesh.watertight
    assert flat.mesh.volume == pytest.approx(2 / 3 * math.pi, rel=0.03)
    assert smooth.mesh.volume > 1.15 * flat.mesh.volume
    assert "lids=" in smooth.notes[0]
    assert "Holes were closed flat" in flat.notes[0]
