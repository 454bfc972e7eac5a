import numpy as np
import pytest

from levelset.reconstruction._curves._ordering import Path, attached, joined, pieces, touching

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
    (path,) = joined([one, other], 0.1, 0.05, loops=True)
    assert not path.closed
    assert sorted(path.nodes[[0, -1], 0].tolist()) == [0.0, 2.0]
    assert path.length == pytest.approx(2.0)
    assert len(joined([one, other], 0.0, 0.05, loops=True)) == 2


def test_a_row_whose_ends_meet_is_a_loop_unless_it_shall_not():
    row = Path(RING[5:], closed=False)
    assert joined([row], 0.1, 0.05, loops=True)[0].closed
    assert not joined([row], 0.1, 0.05, loops=False)[0].closed
    (opened,) = joined([Path(RING, closed=True)], 0.1, 0.05, loops=False)
    assert not opened.closed
    assert len(opened.nodes) == 80


def test_a_loop_beside_another_path_becomes_part_of_it():
    line = Path(straight((-2, 1.02), (2, 1.02), 41), closed=False)
    (path,) = touching([line, Path(RING, closed=True)], 0.1)
    assert not path.closed
    assert path.length == pytest.approx(line.length + 2 * np.pi, rel=0.03)
    (whole,) = touching(
        [Path(RING, closed=True), Path(RING + np.array([2.05, 0]), closed=True)], 0.1
    )
    assert whole.closed
    assert touching([line, Path(RING * 0.5, closed=True)], 0.1) is None


def test_a_row_that_ends_on_another_runs_through_its_shorter_side_twice():
    bar = Path(straight((-1, 0), (0.5, 0), 31), closed=False)
    stem = Path(straight((0, 2), (0, 0.05)), closed=False)
    (path,) = attached([bar, stem], 0.1)
    assert path.nodes[[0, -1]].tolist() == [[0.0, 2.0], [-1.0, 0.0]]
    assert path.length == pytest.approx(1.95 + 0.5 + 1.5, abs=0.1)
    (ring,) = attached([Path(RING, closed=True), Path(straight((2, 0), (1.05, 0)), False)], 0.1)
    assert ring.closed
    assert ring.length == pytest.approx(2 * np.pi + 2 * 0.95, rel=0.05)
    assert attached([bar, Path(straight((0, 2), (0, 1)), closed=False)], 0.1) is None


def test_the_length_of_a_path_is_that_of_its_steps():
    assert Path(np.array([[0.0, 0], [3, 4], [3, 5]]), closed=True).length == 6.0
