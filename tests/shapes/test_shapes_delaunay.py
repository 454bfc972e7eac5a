"""Delaunay classifiers: weights, exact crossings, and the boundary as the points grow dense."""

import math

import pytest
import torch

from levelset.errors import DataError, ParameterError
from levelset.shapes import DelaunayClassifier


def classifier(m: int = 60, d: int = 2) -> DelaunayClassifier:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(m, d, generator=generator, dtype=torch.float64)
    return DelaunayClassifier(points, torch.randint(0, 3, (m,), generator=generator))


def test_weights_add_up_and_are_one_at_the_points():
    model = classifier(d=3)
    at_points = model(model.points)
    assert torch.allclose(at_points, torch.nn.functional.one_hot(model.labels).double())
    far = 5 * torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = model(far)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(40, dtype=torch.float64))
    assert model(torch.zeros(0, 3)).shape == (0, 3)


def test_outside_the_weights_are_those_of_the_nearest_point_of_the_hull():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    model = DelaunayClassifier(square, torch.tensor([0, 1, 2, 3]))
    weights = model(torch.tensor([[0.25, -3.0], [2.0, 0.75], [-1.0, -1.0]]))
    expected = [[0.75, 0.25, 0, 0], [0, 0.25, 0.75, 0], [1, 0, 0, 0]]
    assert torch.allclose(weights, torch.tensor(expected))
    assert model.epsilon == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("d", [2, 3])
def test_crossings_are_all_there_and_on_the_boundary(d, check_changes):
    model = classifier(80, d)
    start, end = (
        torch.rand(2, 40, d, generator=torch.Generator().manual_seed(4), dtype=torch.float64) - 0.5
    )
    check_changes(model, start, end)


def test_on_a_circle_the_boundary_is_within_half_an_edge():
    """Theorem 30.6: as epsilon falls, so does the error."""
    for m in (20, 80, 320):
        draws = torch.rand(m, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
        angle = 2 * math.pi * (torch.arange(m) + 0.5 * draws) / m
        circle = torch.stack([angle.cos(), angle.sin()], 1)
        model = DelaunayClassifier(circle, (circle[:, 0] > 0.3).long())
        gap = float((circle - circle.roll(1, 0)).norm(dim=1).max())
        turn = torch.linspace(0, 2 * math.pi, 4_001, dtype=torch.float64)
        ring = torch.stack([turn.cos(), turn.sin()], 1)
        wrong = model(0.999999 * ring).argmax(1) != (ring[:, 0] > 0.3).long()
        far = (turn - math.acos(0.3)).abs().minimum((turn - 2 * math.pi + math.acos(0.3)).abs())
        assert float(far[wrong].amax() if wrong.any() else 0.0) <= 0.52 * gap


def test_what_cannot_be_triangulated_or_crossed_is_refused():
    line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    with pytest.raises(DataError, match="`points` must span their space"):
        DelaunayClassifier(line, torch.tensor([0, 1, 0]))
    with pytest.raises(ParameterError, match="`labels` must count from 0"):
        DelaunayClassifier(torch.rand(5, 2), torch.tensor([0, 1, 0, -1, 1]))
    with pytest.raises(DataError, match=r"inside the convex hull of the points, 1 do not \(first:"):
        classifier().crossings(torch.zeros(2, 2), torch.tensor([[0.1, 0.1], [9.0, 9.0]]))
