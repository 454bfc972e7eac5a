"""Loops around the handles of meshes."""

import math

import numpy as np
import pytest
import torch

from levelset.reconstruction import Mesh, extract_mesh
from levelset.reconstruction._meshes._loops import Loop, handles, short_loops, tightened
from levelset.shapes import Sphere, Torus

BOX = ((-1.3, -1.3, -0.3), (1.3, 1.3, 0.3))


@pytest.fixture(scope="module")
def torus():
    return extract_mesh(Torus(1.0, 0.25), bounds=BOX, resolution=40)


def anywhere(places):
    return np.arange(len(places)).astype(float)


def both(first, second):
    """Return two meshes as one."""
    faces = torch.cat([first.faces, second.faces + len(first.vertices)])
    return Mesh(torch.cat([first.vertices, second.vertices]), faces)


def test_handles_add_up_over_the_pieces(torus):
    ball = extract_mesh(Sphere(1.0), bounds=((-1.2,) * 3, (1.2,) * 3), resolution=16)
    assert (handles(torus), handles(ball), handles(both(torus, ball))) == (1, 0, 1)
    moved = Mesh(torus.vertices + 5, torus.faces)
    assert handles(both(torus, moved)) == 2


def test_the_shortest_loop_goes_around_the_tube(torus):
    loop = short_loops(torus, longest=9.0, odd=anywhere)[0]
    # along edges a little longer than the circle itself
    assert 0.97 < loop.length / (2 * math.pi * 0.25) < 1.05
    assert loop.radius == pytest.approx(0.25, rel=0.05)
    # its middle lies on the ring, its axis along it
    assert np.linalg.norm(loop.middle) == pytest.approx(1.0, rel=0.02)
    assert abs(loop.axis @ loop.middle) < 0.15  # along edges it need not stand straight
    assert not loop.hollow


def test_the_other_loop_goes_around_the_hole(torus):
    loop = short_loops(torus, longest=9.0, odd=anywhere)[-1]
    assert 0.75 * 2 * math.pi < loop.length < 1.1 * 2 * math.pi
    assert abs(loop.axis[2]) > 0.9


def test_a_loop_in_a_tunnel_goes_around_air(torus):
    around = np.linspace(0.0, 2.0 * math.pi, 50, endpoint=False)
    circle = np.stack([np.cos(around), np.sin(around), 0.0 * around], 1)
    # on the inner equator the outside is the middle
    assert Loop(0.75 * circle, 1.5 * math.pi, -circle).hollow
    assert not Loop(1.25 * circle, 2.5 * math.pi, circle).hollow


def test_loops_are_closed_lines_along_edges(torus):
    edges = {tuple(edge) for edge in torus.edges.tolist()}
    row = {tuple(place): k for k, place in enumerate(torus.vertices.tolist())}
    for loop in short_loops(torus, longest=9.0, odd=anywhere):
        rows = [row[tuple(place)] for place in loop.places.tolist()]
        pairs = zip(rows, [*rows[1:], rows[0]], strict=True)
        assert all((min(pair), max(pair)) in edges for pair in pairs)
        assert len(set(rows)) == len(rows)


def test_no_loop_is_longer_than_asked_for_and_a_ball_has_none(torus):
    assert all(loop.length < 2.0 for loop in short_loops(torus, longest=2.0, odd=anywhere))
    assert short_loops(torus, longest=1.0, odd=anywhere) == []
    ball = extract_mesh(Sphere(1.0), bounds=((-1.2,) * 3, (1.2,) * 3), resolution=16)
    assert short_loops(ball, longest=100.0, odd=anywhere) == []
    # nor does a piece without handles beside another
    mine, two = (short_loops(m, longest=2.0, odd=anywhere) for m in (torus, both(ball, torus)))
    assert len(mine) == len(two)


def nearly_cut(points):
    """Return a ring that is cut through at the largest x but for a thin bridge."""
    x, y, z = points.unbind(1)
    ring = torch.hypot(torch.hypot(x, y) - 0.9, z) - 0.25
    gap = torch.minimum(0.1 - y.abs(), x - 0.2)
    bridge = torch.maximum(torch.hypot(x - 0.9, z) - 0.08, y.abs() - 0.2)
    return torch.minimum(torch.maximum(ring, gap), bridge)


def test_a_short_loop_is_found_though_all_from_far_are_long():
    mesh = extract_mesh(nearly_cut, bounds=BOX, resolution=64)
    assert handles(mesh) == 1
    # nothing is odd: only the way around leads from the far side of the ring to the bridge
    loop = short_loops(mesh, longest=0.8, odd=lambda places: np.zeros(len(places)))[0]
    assert 0.95 < loop.length / (2 * math.pi * 0.08) < 1.2
    assert np.linalg.norm(loop.middle - [0.9, 0, 0]) < 0.15


def test_a_loop_that_makes_a_detour_is_tightened_to_the_tube(torus):
    ball = extract_mesh(Sphere(0.3), bounds=((-0.4,) * 3, (0.4,) * 3), resolution=16)
    # around the tube, once along half of the ring and back
    turn = np.linspace(0.0, 2.0 * math.pi, 60, endpoint=False)
    along, out = np.sin(turn) ** 2 * np.sign(np.cos(turn)), 1.0 + 0.25 * np.cos(turn)
    places = np.stack([out * np.cos(along), out * np.sin(along), 0.25 * np.sin(turn)], 1)
    for mesh in (torus, both(ball, torus)):
        (loop,) = tightened(mesh, [Loop(places, 4.0, places)])
        assert 0.97 < loop.length / (2 * math.pi * 0.25) < 1.05
        assert not loop.hollow
        assert tightened(mesh, [loop])[0].length == loop.length


def test_a_loop_around_air_is_not_tightened_to_one_around_the_inside(torus):
    # around the hole of the torus, on its outer side, where the loop around the tube is shorter
    turn = np.linspace(0.0, 2.0 * math.pi, 60, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn), 0.0 * turn], 1)
    (loop,) = tightened(torus, [Loop(0.9 * ring + [0, 0, 0.25], 2.0 * math.pi * 0.9, -ring)])
    assert loop.hollow
    assert 0.97 < loop.length / (2.0 * math.pi * 0.75) < 1.05
