import numpy as np
import pytest

from levelset.reconstruction._curves._ordering import (
    Path,
    attached,
    branches,
    joined,
    pieces,
    touching,
)

TURN = 2 * np.pi * np.arange(80) / 80
RING = np.stack([np.cos(TURN), np.sin(TURN)], 1)


def straight(start, stop, count=20):
    shares = np.linspace(0, 1, count)[:, None]
    return (1 - shares) * np.array(start, float) + shares * np.array(stop, float)


def test_a_tour_is_cut_at_its_jumps():
    assert [path.closed for path in pieces(RING, 0.2)] == [True]
    tour = np.concatenate([straight((0, 0), (1, 0)), straight((1, 1), (0, 1)), [[5.0, 5.0]]])
    found = pieces(np.roll(tour, 7, 0), 0.2)
    assert sorted((len(path.nodes), path.closed) for path in found) == [(20, False), (20, False)]


@pytest.mark.parametrize("flips", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_gap_that_bends_least_is_closed_first(flips):
    one = Path(straight((0, 0), (1, 0))[:: flips[0]], closed=False)
    other = Path(straight((1.15, 0), (2, 0))[:: flips[1]], closed=False)
    (path,) = joined([one, other], 0.1, loops=True)
    assert not path.closed
    assert sorted(path.nodes[[0, -1], 0].tolist()) == [0.0, 2.0]
    assert path.length == pytest.approx(2.0)
    assert len(joined([one, other], 0.0, loops=True)) == 2


def test_a_row_whose_ends_meet_is_a_loop_unless_it_shall_not():
    row = Path(RING[5:], closed=False)
    assert joined([row], 0.1, loops=True)[0].closed
    assert not joined([row], 0.1, loops=False)[0].closed
    (opened,) = joined([Path(RING, closed=True)], 0.1, loops=False)
    assert not opened.closed
    assert len(opened.nodes) == 80


def test_a_loop_beside_another_path_becomes_part_of_it():
    line = Path(straight((-2, 1.02), (2, 1.02), 41), closed=False)
    (path,) = touching([line, Path(RING, closed=True)])
    assert not path.closed
    assert path.length == pytest.approx(line.length + 2 * np.pi, rel=0.03)
    (whole,) = touching([Path(RING, closed=True), Path(RING + np.array([2.05, 0]), closed=True)])
    assert whole.closed
    assert touching([line, Path(RING * 0.5, closed=True)]) is None


def test_a_row_that_ends_on_a_hairpin_runs_through_it_twice():
    """Two strands merge into one row at (0, 0): the points along it are twice as many."""
    bar = Path(straight((-1, 0.5), (0, 0), 23), closed=False)
    bar = Path(np.concatenate([bar.nodes[:-1], straight((0, 0), (0.5, 0), 11)]), closed=False)
    stem = Path(straight((-1, -0.5), (-0.05, -0.025), 22), closed=False)
    tail = straight((0, 0), (0.5, 0), 51)
    arms = [straight((-1, y), (0, 0), 112) for y in (0.5, -0.5)]
    (path,) = attached([bar, stem], np.concatenate([*arms, tail, tail + 1e-3]))
    ends = sorted(path.nodes[[0, -1]].tolist())
    assert ends == [[-1.0, -0.5], [-1.0, 0.5]]
    assert path.length == pytest.approx(2 * np.hypot(1.0, 0.5) + 2 * 0.5, abs=0.1)
    assert attached([bar, stem], np.concatenate([*arms, tail])) is None
    assert branches([bar, stem])[0] == pytest.approx([0.0, 0.0], abs=0.06)


def test_a_row_that_ends_across_another_is_a_branch():
    bar = Path(straight((-1, 0), (0.5, 0), 31), closed=False)
    stem = Path(straight((0, 2), (0, 0.05), 40), closed=False)
    points = np.concatenate([straight((-1, 0), (0.5, 0), 200), straight((0, 2), (0, 0), 200)])
    assert attached([bar, stem], points) is None
    assert branches([bar, stem]).tolist() == [pytest.approx([0.0, 0.0])]
    assert branches([bar, Path(straight((0, 2), (0, 1)), closed=False)]).shape == (0, 2)
    assert branches([]).shape == (0, 0)


def test_the_length_of_a_path_is_that_of_its_steps():
    assert Path(np.array([[0.0, 0], [3, 4], [3, 5]]), closed=True).length == 6.0
