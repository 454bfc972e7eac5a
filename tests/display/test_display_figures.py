"""What figures compute, against counting by hand."""

import math

import pytest
import torch

from levelset._display.figures import (
    bin_edges,
    closest,
    distances,
    drawn,
    edges_from_zero,
    robustness_curves,
)
from levelset.auditing import Audit


def some(distance: list[float], correct: list[bool]) -> Audit:
    n = len(distance)
    columns = {
        "index": torch.arange(n),
        "label": torch.zeros(n).long(),
        "prediction": 1 - torch.tensor(correct).long(),
        "correct": torch.tensor(correct),
        "margin": torch.zeros(n),
        "distance_2": torch.tensor(distance),
    }
    return Audit(torch.zeros(n, 2), columns, {}, (2.0,), ("a", "b"))


NEAR = some([0.5, 0.125, 0.0, 0.25, math.inf, 0.25], [True, True, False, True, True, True])
FAR = some([2.0, math.inf], [True, True])
NONE = some([math.inf, 0.0], [True, False])


def test_inputs_classified_right_with_a_witness_are_drawn_closest_first():
    assert drawn(NEAR, 2.0).tolist() == [True, True, False, True, False, True]
    assert distances(NEAR, 2.0).tolist() == [0.5, 0.125, 0.25, 0.25]
    assert closest(NEAR, 2.0, 3) == [1, 3, 5]
    assert closest(NONE, 2.0, 3) == []


def test_curves_share_their_radii_up_to_the_largest_distance_of_all():
    near, far, none = robustness_curves([NEAR, FAR, NONE], 2.0, 5)
    assert near.radius.tolist() == far.radius.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert (near.accuracy * 6).round().tolist() == [5.0, 1.0, 1.0, 1.0, 1.0]
    assert far.accuracy.tolist() == [1.0, 1.0, 1.0, 1.0, 0.5]
    assert none.accuracy.tolist() == [0.5] * 5
    assert robustness_curves([NONE], 2.0, 2)[0].radius.tolist() == [0.0, 1.0]


def test_edges_reach_from_zero_to_the_largest_finite_value():
    values = [torch.tensor([0.5, math.inf]), torch.tensor([2.0, math.nan]), torch.empty(0)]
    assert edges_from_zero(values, 4).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert edges_from_zero([torch.zeros(3)], 2).tolist() == [0.0, 0.5, 1.0]
    assert edges_from_zero([torch.tensor([math.inf])], 2).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("value", [-0.02, 0.0, 7.0])
def test_a_single_value_has_bins_on_both_sides(value):
    edges = bin_edges([torch.tensor([value, torch.nan]), torch.empty(0)], 40)
    assert len(edges) == 41
    assert edges[0] < value - 1e-3
    assert edges[-1] > value + 1e-3


def test_all_series_share_their_bins():
    edges = bin_edges([torch.tensor([-1.0, 0.0]), torch.tensor([3.0])], 4)
    assert edges.tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0]
