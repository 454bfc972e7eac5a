"""Definitions as code, where the answer is known: corners of linear classifiers."""

import math

import pytest
import torch

from levelset.boundary import classes_nearby, decision_dimension, decision_level, sample
from levelset.errors import ParameterError

CORNER = [[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]]


def test_interior_binary_point_and_triple_point(linear, generator):
    points = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    result = classes_nearby(linear(CORNER), points, radius=0.1, draws=300, generator=generator)
    assert result.count.tolist() == [3, 2, 1]
    assert result.met.tolist() == [[True, True, True], [False, True, True], [True, False, False]]
    assert result.binary.tolist() == [False, True, False]
    assert result.summary() == {
        "points": 3, "radius": 0.1, "interior": 1, "binary": 1, "more": 1, "most": 3,
    }  # fmt: skip


def test_draws_are_uniform_in_the_ball(linear, generator):
    """A half-space at half the radius takes the share of a cap, as often as the ball says."""
    model = linear([[0.0, 0.0], [1.0, 0.0]], bias=[0.0, -0.5])
    points = torch.zeros(400, 2, dtype=torch.float64)
    result = classes_nearby(model, points, radius=1.0, draws=1, generator=generator)
    cap = (math.acos(0.5) - 0.5 * math.sqrt(0.75)) / math.pi
    assert float((result.count == 2).double().mean()) == pytest.approx(cap, abs=0.06)


def test_the_level_is_a_half_of_two_classes_and_a_third_at_a_triple_point(linear):
    points = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [2.0, 0.1]], dtype=torch.float64)
    result = decision_level(linear(CORNER), points)
    tie = math.exp(0.5) / (2.0 * math.exp(0.5) + math.exp(-1.0))
    assert float(result.level[0]) == pytest.approx(1.0 / 3.0, rel=1e-12)
    assert float(result.level[1]) == pytest.approx(tie, rel=1e-12)
    assert float(result.gap[:2].abs().max()) < 1e-12
    assert result.classes[1].sort().values.tolist() == [1, 2]
    assert torch.allclose(result.probabilities.sum(1), torch.ones(3).double())
    two = decision_level(linear([[0.0, 0.0], [1.0, 0.0]]), torch.zeros(1, 2).double())
    assert float(two.level) == 0.5


def test_the_dimension_of_a_decision_level(linear, half_space, generator):
    """A boundary of two classes has codimension 1; of three, the level is one more equation."""
    flat = decision_dimension(
        half_space, torch.zeros(5).double(), radius=0.1, draws=400, generator=generator
    )
    assert flat.coordinates - flat.degenerate == 4
    rows = torch.zeros(3, 6, dtype=torch.float64)
    rows[:, :2] = torch.tensor(CORNER)
    point = torch.zeros(6, dtype=torch.float64)
    point[0] = -1.0
    level = decision_dimension(linear(rows), point, radius=0.1, draws=400, generator=generator)
    assert level.coordinates - level.degenerate == 4


def test_the_cloud_between_two_inputs_is_of_two_classes(half_space, generator):
    ends = torch.tensor([[-1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0]]).double()
    points = sample(half_space, *ends, draws=5, tol=1e-10, generator=generator).points
    assert bool(classes_nearby(half_space, points, radius=0.01, draws=50).binary.all())
    assert float(decision_level(half_space, points).gap.max()) < 1e-9


def test_what_is_off_the_boundary_has_no_decision_level_around(half_space):
    with pytest.raises(ParameterError, match="class 1 is more probable by"):
        decision_dimension(half_space, torch.ones(5).double(), radius=0.1)
    with pytest.raises(ParameterError, match="`radius` must be positive"):
        classes_nearby(half_space, torch.ones(1, 5).double(), radius=0.0, draws=3)
