"""Which nodes see the open, on shapes where it is known."""

import itertools

import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._grid import REACH, open_nodes


def sphere(count, radius=0.7):
    x = np.random.default_rng(0).standard_normal((count, 3))
    return radius * x / np.linalg.norm(x, axis=1, keepdims=True)


def places(cells):
    line = (np.arange(cells + 2) - 0.5) * (2 * REACH / cells) - REACH
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)


def test_nothing_inside_a_closed_surface_and_everything_clear_of_it_outside():
    pins = open_nodes(sphere(3000), 16, np.full(3000, 0.15), 0.4)
    radius = np.linalg.norm(places(16)[pins.nodes], axis=1)
    assert radius.min() > 0.7
    wanted = (np.linalg.norm(places(16), axis=1) > 0.87).sum()
    assert len(pins.nodes) >= 0.98 * wanted
    np.testing.assert_allclose(pins.target, radius - 0.7, atol=0.03)


def test_the_inside_of_a_surface_with_a_hole_is_not_open():
    points = sphere(3000)
    pins = open_nodes(points[points[:, 2] > -0.55], 16, np.full(3000, 0.15), 0.4)
    radius = np.linalg.norm(places(16)[pins.nodes], axis=1)
    inside = (radius < 0.6) & (places(16)[pins.nodes][:, 2] > -0.45)
    assert not inside.any()


@pytest.mark.slow
def test_the_directions_are_counted_as_rays_one_by_one_would_have_it():
    points = np.random.default_rng(1).uniform(-0.6, 0.6, (12, 3))
    cells, clearance = 8, 0.3
    side = cells + 2
    blocked = (cKDTree(points).query(places(cells))[0] < clearance).reshape((side,) * 3)
    for share in (0.2, 0.5, 0.8):
        wanted = []
        for start in itertools.product(range(side), repeat=3):
            free = 0
            for step in itertools.product((-1, 0, 1), repeat=3):
                if not any(step):
                    continue
                at, met = np.array(start), False
                while ((at >= 0) & (at < side)).all():
                    met |= bool(blocked[tuple(at)])
                    at = at + step
                free += not met
            if free >= share * 26 and not blocked[start]:
                wanted.append((start[0] * side + start[1]) * side + start[2])
        np.testing.assert_array_equal(
            open_nodes(points, cells, np.full(len(points), clearance), share).nodes, wanted
        )
