import itertools

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from levelset.reconstruction._curves._tour import short_tour


def length(places, tour):
    return np.linalg.norm(places[tour] - places[np.roll(tour, -1)], axis=1).sum()


def test_points_of_a_ring_come_in_their_order():
    turn = 2 * np.pi * np.arange(120) / 120
    ring = np.stack([np.cos(turn), 0.4 * np.sin(turn), 0.2 * np.sin(2 * turn)], 1)
    mixed = np.random.default_rng(0).permutation(120)
    tour = mixed[short_tour(cdist(ring[mixed], ring[mixed]))]
    steps = (np.roll(tour, -1) - tour) % 120
    assert set(steps.tolist()) in ({1}, {119})


@pytest.mark.parametrize("seed", range(5))
def test_of_eight_points_it_is_the_shortest_or_nearly(seed):
    places = np.random.default_rng(seed).random((8, 2))
    best = min(length(places, np.array((0, *rest))) for rest in itertools.permutations(range(1, 8)))
    tour = short_tour(cdist(places, places))
    assert sorted(tour.tolist()) == list(range(8))
    assert length(places, tour) <= 1.02 * best


def test_many_points_are_each_met_once_on_a_short_way():
    places = np.random.default_rng(1).random((200, 2))
    tour = short_tour(cdist(places, places))
    assert sorted(tour.tolist()) == list(range(200))
    # The shortest tour of uniform points is about 0.7124 sqrt(n area) long.
    assert length(places, tour) < 1.15 * 0.7124 * np.sqrt(200) * (1 + 0.33 / 200**0.5)
    assert short_tour(cdist(places[:3], places[:3])).tolist() == [0, 1, 2]


def test_where_steps_are_cut_off_a_tour_jumps_rather_than_run_back():
    line = np.stack([np.arange(40.0), np.zeros(40)], 1)
    steps = np.abs(np.diff(short_tour(np.minimum(cdist(line, line), 6.0)), append=0))
    assert np.sort(steps)[:-2].tolist() == [1] * 38
