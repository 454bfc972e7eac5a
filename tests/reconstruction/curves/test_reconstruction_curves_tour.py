import itertools

import numpy as np
import pytest

from levelset.reconstruction._curves._ordering import short_tour


def length(places, tour):
    return np.linalg.norm(places[tour] - places[np.roll(tour, -1)], axis=1).sum()


def test_points_of_a_ring_come_in_their_order():
    turn = 2 * np.pi * np.arange(120) / 120
    ring = np.stack([np.cos(turn), 0.4 * np.sin(turn), 0.2 * np.sin(2 * turn)], 1)
    mixed = np.random.default_rng(0).permutation(120)
    tour = mixed[short_tour(ring[mixed])]
    steps = (np.roll(tour, -1) - tour) % 120
    assert set(steps.tolist()) in ({1}, {119})


@pytest.mark.parametrize("seed", range(5))
def test_of_eight_points_it_is_the_shortest_or_nearly(seed):
    places = np.random.default_rng(seed).random((8, 2))
    best = min(length(places, np.array((0, *rest))) for rest in itertools.permutations(range(1, 8)))
    tour = short_tour(places)
    assert sorted(tour.tolist()) == list(range(8))
    assert length(places, tour) <= 1.02 * best


def test_many_points_are_each_met_once_on_a_short_way():
    places = np.random.default_rng(1).random((200, 2))
    tour = short_tour(places)
    assert sorted(tour.tolist()) == list(range(200))
    # The shortest tour of uniform points is about 0.7124 sqrt(n area) long.
    assert length(places, tour) < 1.15 * 0.7124 * np.sqrt(200) * (1 + 0.33 / 200**0.5)
    assert short_tour(places[:3]).tolist() == [0, 1, 2]
