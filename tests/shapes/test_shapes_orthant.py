"""Orthants: membership, distance, and proposition 4.3 of Bell 2023."""

import math

import pytest
import torch

from levelset.errors import ParameterError, ShapeError
from levelset.shapes import Orthant


def cloud(d: int, n: int = 400) -> torch.Tensor:
    return 2 * torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_membership_is_that_of_the_first_coordinates():
    points = cloud(4)
    for k in (1, 2, 4):
        inside = (points[:, :k] >= 0).all(1)
        assert torch.equal(Orthant(k, 4).contains(points), inside)
        assert torch.equal(Orthant(k, 4)(points) <= 0, inside)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_projection_is_on_the_boundary_and_none_is_nearer(k):
    shape, points = Orthant(k, 3), cloud(3, 50)
    foot = shape.project(points)
    assert torch.allclose(shape(foot), torch.zeros(50, dtype=torch.float64), atol=1e-12)
    assert torch.allclose((foot - points).norm(dim=1), shape.distance(points))
    others = shape.project(foot + 0.3 * cloud(3, 50))
    assert ((others - points).norm(dim=1) >= shape.distance(points) - 1e-12).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_closed_forms_are_proposition_4_3(k):
    shape = Orthant(k, 3)
    for gamma in (0.6, 0.7, 0.95):
        sigma = shape.persistence(2.0, gamma)
        inner = torch.special.erfinv(torch.tensor(2 * gamma ** (1 / k) - 1, dtype=torch.float64))
        assert sigma == pytest.approx(2.0 / (math.sqrt(2) * float(inner)))
        assert shape.stability(2.0, sigma) == pytest.approx(gamma)
        assert shape.stability(2.0, sigma) == pytest.approx(
            (0.5 * (1 + math.erf(2.0 / (math.sqrt(2) * sigma)))) ** k
        )


def test_figure_8_for_one_plane_is_the_papers_number():
    assert Orthant(1, 1).persistence(1.0, 0.7) == pytest.approx(1.91, abs=0.005)
    values = [Orthant(k, 10).persistence(1.0, 0.7) for k in range(1, 11)]
    assert values == sorted(values, reverse=True)


def test_stability_is_the_share_of_normal_draws():
    draws = 1.0 + 1.5 * cloud(3, 200_000) / 2
    share = float(Orthant(3, 3).contains(draws).double().mean())
    assert share == pytest.approx(Orthant(3, 3).stability(1.0, 1.5), abs=4 * 0.5 / 447)


@pytest.mark.messages
def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ParameterError, match="`k` must lie in 1 to d = 2, got 3"):
        Orthant(3, 2)
    with pytest.raises(ShapeError, match=r"must have the shape \(n, 2\), got \(4, 3\)"):
        Orthant(1, 2)(torch.ones(4, 3))
    with pytest.raises(ParameterError, match="`gamma` must lie between 0 and 1"):
        Orthant(1, 2).persistence(1.0, 1.0)
    with pytest.raises(ParameterError, match=r"Orthant.stability: `sigma` must be positive, got 0"):
        Orthant(1, 2).stability(1.0, 0.0)
    with pytest.raises(ParameterError, match=r"`distance` must be positive, got -1.0"):
        Orthant(1, 2).persistence(-1.0, 0.7)
    assert math.isinf(Orthant(2, 2).persistence(1.0, 0.25))
