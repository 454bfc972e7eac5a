import numpy as np
import pytest

from levelset.reconstruction._curves._curve import far_from, trimmed

RING = np.stack([np.cos(np.linspace(0, 2 * np.pi, 200, endpoint=False)),
                 np.sin(np.linspace(0, 2 * np.pi, 200, endpoint=False))], 1)  # fmt: skip


def test_distances_are_those_from_the_pieces():
    random = np.random.default_rng(0)
    points = random.standard_normal((300, 2))
    exact = np.abs(np.linalg.norm(points, axis=1) - 1.0)
    assert np.abs(far_from(points, [RING], [True]) - exact).max() < 2e-4
    line = np.stack([np.linspace(0, 1, 9), np.zeros(9)], 1)
    x, y = points.T
    outside = np.maximum(np.maximum(-x, x - 1.0), 0.0)
    found = far_from(points, [line, line + 50.0], [False, False])
    assert np.allclose(found, np.hypot(outside, y), atol=1e-12)
    # Open rows have no piece from the last corner to the first.
    half = far_from(np.array([[0.0, -0.5]]), [RING[:101]], [False])
    assert half[0] == pytest.approx(np.hypot(1.0, 0.5), abs=1e-6)


@pytest.mark.parametrize(("missing", "closed"), [(0, [True]), (16, [True]), (40, [False])])
@pytest.mark.parametrize("start", [0, 70, 190])
def test_short_gaps_stay_and_long_ones_are_cut(missing, closed, start):
    points = np.roll(RING, -start, 0)[missing:]
    lines, rings = trimmed([RING], [True], points, near=1e-3, gap=0.1)
    assert rings == closed
    assert len(lines[0]) == (200 if rings[0] else 200 - missing)
    assert rings[0] or np.linalg.norm(np.diff(lines[0], axis=0), axis=1).max() < 0.04


def test_what_has_no_points_near_it_goes():
    row = np.stack([np.linspace(-2, 2, 401), np.zeros(401)], 1)
    points = row[(np.abs(row[:, 0]) < 1.001)]
    lines, rings = trimmed([row + 9.0, row], [False, False], points, near=1e-3, gap=0.1)
    assert rings == [False]
    assert np.ptp(lines[0][:, 0]) == pytest.approx(2.0)
    parts, _ = trimmed([row], [False], points[np.abs(points[:, 0]) > 0.5], near=1e-3, gap=0.1)
    assert [len(part) for part in parts] == [50, 50]
    assert trimmed([row], [False], points + 5.0, near=1e-3, gap=0.1) == ([], [])
