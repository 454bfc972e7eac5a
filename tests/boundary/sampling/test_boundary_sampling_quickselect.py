"""Exit radii: the order statistic is the one that all of them would give."""

import math

import numpy as np
import pytest
import torch

from levelset.boundary._sampling._noise import Noise
from levelset.boundary._sampling._quickselect import _Rays, _select
from levelset.boundary._sampling._votes import Voter
from levelset.shapes import Orthant


def rays(count: int, d: int = 5, k: int = 2, most: int = 10**6) -> tuple[Voter, _Rays]:
    points = torch.ones(1, d)
    noise = Noise(points, torch.Generator().manual_seed(4))
    voter = Voter("persistence", Orthant(k, d), points, noise, paired=False)
    held = _Rays(voter, 0, 1e-7, 1e4, most)
    held.grow(count)
    return held.voter, held


def exits(held: _Rays, k: int = 2) -> np.ndarray:
    """The exact exit radii: where a coordinate of 1 + t z reaches 0."""
    directions = held.directions[:, :k].double().numpy()
    with np.errstate(divide="ignore"):
        reach = np.where(directions < 0, -1.0 / directions, np.inf)
    return np.sort(reach.min(1))


@pytest.mark.parametrize("rank", [0, 10, 60, 140])
@pytest.mark.parametrize("guess", [1e-3, 1.0, 300.0])
def test_the_order_statistic_is_exact_to_the_width_asked_for(rank, guess):
    voter, held = rays(200)
    low, high = _select(voter, [held], np.array([float(rank)]), np.array([guess]), 1e-3)
    assert low[0] <= exits(held)[rank] * (1 + 1e-6)
    assert high[0] >= exits(held)[rank] * (1 - 1e-6)
    assert high[0] <= 1.001 * low[0]


def test_an_exit_out_of_reach_and_evaluations_that_run_out_leave_open_ends():
    voter, held = rays(200)
    low, high = _select(voter, [held], np.array([199.0]), np.array([1.0]), 1e-3)
    assert (low[0], high[0]) == (1e4, np.inf)
    voter, held = rays(200, most=300)
    low, high = _select(voter, [held], np.array([60.0]), np.array([1.0]), 1e-3)
    assert held.cut
    assert int(voter.evaluations) <= 300
    assert low[0] <= exits(held)[60] <= high[0]


def test_only_directions_that_are_still_unknown_are_tried():
    voter, held = rays(1000)
    _select(voter, [held], np.array([300.0]), np.array([1.0]), 1e-3)
    assert int(voter.evaluations) < 4.0 * 1000
    before = int(voter.evaluations)
    _select(voter, [held], np.array([300.0]), np.array([1.0]), 1e-3)
    assert int(voter.evaluations) - before < 10


def test_more_directions_keep_what_is_known_of_the_first():
    voter, held = rays(100)
    _select(voter, [held], np.array([30.0]), np.array([1.0]), 1e-2)
    inside = held.inside.copy()
    held.grow(150)
    assert np.array_equal(held.inside[:100], inside)
    assert np.isinf(held.outside[100:]).all()
    assert math.isclose(
        exits(held)[45],
        _select(voter, [held], np.array([45.0]), np.array([1.0]), 1e-3)[0][0],
        rel_tol=2e-3,
    )
