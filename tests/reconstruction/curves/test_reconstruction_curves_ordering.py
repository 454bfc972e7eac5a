import numpy as np
import pytest
from scipy.spatial import cKDTree

from levelset.reconstruction._curves._ordering import order_points


def ring(count, seed, noise, *, start=0.0, share=1.0):
    random = np.random.default_rng(seed)
    turn = 2 * np.pi * (start + share * random.random(count))
    points = np.stack([np.cos(turn), np.sin(turn), 0.3 * np.sin(2 * turn)], 1)
    return points + noise * random.standard_normal(points.shape)


def order(points, **options):
    options = {"gap": 0.1, "closed": None, **options}
    return order_points(points, random=np.random.default_rng(0), **options)


def winding(path):
    angle = np.arctan2(path.nodes[:, 1], path.nodes[:, 0])
    steps = np.diff(np.append(angle, angle[0]) if path.closed else angle)
    return np.abs(((steps + np.pi) % (2 * np.pi) - np.pi).sum())


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05, 0.1])
def test_a_noisy_ring_is_one_closed_row_that_runs_around_once(noise):
    (path,) = order(ring(400, 1, noise))
    assert path.closed
    assert winding(path) == pytest.approx(2 * np.pi)
    truth = ring(20_000, 0, 0.0)
    assert cKDTree(truth).query(path.nodes)[0].mean() < 0.9 * noise + 2e-3
    assert cKDTree(path.nodes).query(truth)[0].max() < 0.4


@pytest.mark.parametrize(("missing", "closed"), [(0.05, True), (0.1, True), (0.25, False)])
def test_gaps_up_to_the_share_asked_for_are_closed(missing, closed):
    (path,) = order(ring(300, 2, 0.01, share=1.0 - missing))
    assert path.closed == closed
    assert order(ring(300, 2, 0.01, share=1.0 - missing), gap=0.3)[0].closed


def test_whether_it_is_closed_can_be_said():
    (open_,) = order(ring(300, 3, 0.01), closed=False)
    assert not open_.closed
    assert winding(open_) > 0.9 * 2 * np.pi
    (closed,) = order(ring(300, 3, 0.01, share=0.6), closed=True)
    assert closed.closed


def test_separate_and_linked_rings_stay_apart():
    one = ring(300, 4, 0.01)
    other = one[:, [0, 2, 1]] + np.array([1.0, 0.0, 0.0])
    paths = order(np.concatenate([one, other]))
    assert [path.closed for path in paths] == [True, True]
    for path in paths:
        far = np.stack([cKDTree(cloud).query(path.nodes)[0].max() for cloud in (one, other)])
        assert sorted(far < 0.05) == [False, True]


def test_a_gap_in_the_middle_of_an_open_curve_is_bridged():
    z = np.concatenate([np.linspace(0, 1, 100), np.linspace(1.15, 2.0, 85)])
    points = np.stack([np.cos(2 * z), np.sin(2 * z), z], 1)
    (path,) = order(points)
    assert not path.closed
    assert (np.diff(path.nodes[:, 2]) > 0).all() or (np.diff(path.nodes[:, 2]) < 0).all()


def test_strands_that_cross_are_told_apart_by_direction():
    t = np.linspace(-1, 1, 150)
    cross = np.concatenate([np.stack([t, t * 0], 1), np.stack([t * 0, t + 0.003], 1)])
    for path in order(cross, gap=0.0):
        assert min(np.ptp(path.nodes[:, 0]), np.ptp(path.nodes[:, 1])) < 0.05


def test_a_loop_that_touches_a_curve_becomes_part_of_it():
    """A loop in a line: where it comes back to itself, the order may take it for its own curve."""
    t = np.linspace(-1.6, 1.6, 400)
    points = np.stack([t**3 - 1.5 * t, t**2, 0.02 * t], 1)
    (path,) = order(points)
    assert not path.closed
    assert path.length == pytest.approx(np.linalg.norm(np.diff(points, axis=0), axis=1).sum(), 0.05)


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
@pytest.mark.parametrize("seed", range(4))
def test_a_noisy_straight_segment_is_run_through_once(noise, seed):
    random = np.random.default_rng(seed)
    points = random.random((200, 1)) * np.array([2.0, 1.0, -1.0])
    (path,) = order(points + noise * random.standard_normal(points.shape))
    assert not path.closed
    assert path.length == pytest.approx(np.sqrt(6.0), rel=0.1)


def test_a_spiral_stays_open_and_two_segments_side_by_side_stay_two():
    turn = np.linspace(0, 6 * np.pi, 900)
    spiral = (0.2 + 0.05 * turn)[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    (path,) = order(spiral)
    assert not path.closed
    line = np.stack([np.linspace(0, 1, 150), np.zeros(150)], 1)
    paths = order(np.concatenate([line, line + np.array([0.0, 0.12])]))
    assert [path.length for path in paths] == [pytest.approx(1.0, abs=0.03)] * 2


def test_noise_and_spacing_count_where_they_are():
    """One half with little noise and points close by beside one with ten times as much."""
    random = np.random.default_rng(0)
    fine = np.stack([np.linspace(-1, 0, 400), 0.05 * np.sin(np.linspace(0, 40, 400))], 1)
    coarse = np.stack([np.linspace(0, 1, 100), np.zeros(100)], 1)
    coarse += 0.02 * random.standard_normal(coarse.shape)
    (path,) = order(np.concatenate([fine, coarse]))
    length = np.linalg.norm(np.diff(fine, axis=0), axis=1).sum() + 1.0
    assert path.length == pytest.approx(length, rel=0.06)


def test_points_that_are_nowhere_denser_along_a_line_have_no_order():
    random = np.random.default_rng(0)
    assert order(random.random((300, 2))) == []
    ball = random.standard_normal((500, 3))
    assert order(ball / np.linalg.norm(ball, axis=1, keepdims=True)) == []
