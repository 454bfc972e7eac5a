"""Rings around handles, within a part of a mesh."""

import numpy as np
import pytest
import torch

from levelset.reconstruction import Mesh, extract_mesh
from levelset.reconstruction._meshes._rings import rings
from levelset.shapes import Sphere, Torus

BOX = ((-1.3, -1.3, -0.3), (1.3, 1.3, 0.3))


@pytest.fixture(scope="module")
def torus():
    return extract_mesh(Torus(1.0, 0.25), bounds=BOX, resolution=60)


def places_of(mesh):
    return mesh.vertices.numpy().T


def test_a_band_around_the_tube_goes_around_the_inside(torus):
    x, y, _ = places_of(torus)
    loops = rings(torus, (x > 0) & (np.abs(y) < 0.2))
    assert len(loops) == 2  # one for each rim, both halfway
    for loop in loops:
        assert not loop.hollow
        assert np.allclose(loop.middle, [1.0, 0.0, 0.0], atol=0.03)
        assert loop.radius == pytest.approx(0.25, abs=0.03)
        assert abs(loop.axis[1]) > 0.98
        assert loop.length == pytest.approx(2 * np.pi * 0.25, rel=0.3)


def test_a_band_around_the_hole_goes_around_air(torus):
    x, y, z = places_of(torus)
    loops = rings(torus, (np.hypot(x, y) < 0.85) & (np.abs(z) < 0.15))
    assert len(loops) == 2
    for loop in loops:
        assert loop.hollow
        assert np.allclose(loop.middle, 0.0, atol=0.03)
        assert loop.radius == pytest.approx(0.75, abs=0.03)


def test_a_band_around_an_island_goes_around_no_handle(torus):
    x, y, z = places_of(torus)
    away = np.hypot(x - 1.0, y)
    part = (z > 0) & (away > 0.06) & (away < 0.18)
    assert part.sum() > 50
    assert rings(torus, part) == []
    # nor is there any handle on a sphere
    ball = extract_mesh(Sphere(1.0), bounds=((-1.2,) * 3, (1.2,) * 3), resolution=32)
    assert rings(ball, np.abs(places_of(ball)[2]) < 0.2) == []


def test_regions_are_looked_at_one_by_one(torus):
    x, y, _ = places_of(torus)
    nothing = np.zeros(len(x), dtype=bool)
    assert rings(torus, nothing) == []
    assert rings(torus, ~nothing) == []
    two = rings(torus, np.abs(y) < 0.2)
    assert sorted(round(float(loop.middle[0])) for loop in two) == [-1, -1, 1, 1]
    # a third band on another piece
    moved = Mesh(
        torch.cat([torus.vertices, torus.vertices + 5.0]),
        torch.cat([torus.faces, torus.faces + len(torus.vertices)]),
    )
    assert len(rings(moved, np.r_[np.abs(y) < 0.2, (x > 0) & (np.abs(y) < 0.2)])) == 6
