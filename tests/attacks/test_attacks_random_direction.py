"""Random directions: exact rays on affine models and balls."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._logits import AsLogits, as_logits
from levelset._tools.random import Streams
from levelset.attacks import random_direction
from levelset.errors import ParameterError

FREE = (-math.inf, math.inf)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Inside(nn.Module):
    """Class 0 inside the unit sphere, class 1 outside."""

    def forward(self, points: Tensor) -> Tensor:
        room = 1.0 - points.flatten(1).norm(dim=1)
        return torch.stack([room, 0.0 * room], 1)


def test_exact_on_affine_models(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    """Along a unit vector v the plane is at margin over |v . w|, one way or the other."""
    model = settled(nn.Linear(6, 2), seed=1, dtype=torch.float64)
    points = noise(20, 6, seed=2)
    found = random_direction(model, points, bounds=FREE, reach=1e3, draws=5, generator=seeded())
    drawn = Streams(seeded(), points).normal(torch.arange(20), (5, 6))
    ways = drawn / drawn.norm(dim=2, keepdim=True)
    weight = (model.weight[0] - model.weight[1]).detach()
    gap = (model(points)[:, 0] - model(points)[:, 1]).abs().detach()
    exact = gap.unsqueeze(1) / (ways @ weight).abs()
    exact[exact > 1e3] = math.inf
    torch.testing.assert_close(found.along, exact, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.distance, found.along.amin(1), rtol=0, atol=0)


def test_from_the_centre_of_a_sphere_every_way_is_one() -> None:
    points = torch.zeros(7, 3, 2, dtype=torch.float64)
    found = random_direction(Inside(), points, bounds=(-4.0, 4.0), draws=9, generator=seeded())
    torch.testing.assert_close(found.along, torch.ones(7, 9).double(), rtol=1e-9, atol=0)
    assert found.summary()["along_2_median"] == pytest.approx(1.0)
    assert found.summary()["directions_missed"] == 0


def test_the_box_bends_the_way(noise: Callable[..., Tensor]) -> None:
    """In a box too small to leave the sphere nothing is found, and the summary says so."""
    points = torch.zeros(4, 3, dtype=torch.float64)
    found = random_direction(Inside(), points, bounds=(-0.5, 0.5), draws=6, generator=seeded())
    assert found.along.isinf().all()
    assert not found.success.any()
    assert found.summary()["directions_missed"] == 24
    wide = random_direction(Inside(), points, bounds=(-0.6, 0.6), draws=6, generator=seeded())
    assert wide.success.all()
    assert wide.points.abs().max() == 0.6
    assert (wide.along.sort(1).values[:, 0] == wide.distance).all()


def test_misclassified_inputs_are_kept_apart() -> None:
    points = torch.tensor([[0.2, 0.1], [0.9, 0.9]], dtype=torch.float64)
    found = random_direction(
        Inside(), points, torch.tensor([0, 0]), bounds=(-4.0, 4.0), draws=3, generator=seeded()
    )
    assert found.along[1].tolist() == [0.0, 0.0, 0.0]
    assert found.summary()["directions"] == 3
    assert found.summary()["already_misclassified"] == 1


def test_rays_are_counted(noise: Callable[..., Tensor]) -> None:
    calls = []

    class Counting(Inside):
        def forward(self, points: Tensor) -> Tensor:
            calls.append(len(points))
            return super().forward(points)

    points = torch.zeros(5, 3, dtype=torch.float64)
    model = as_logits("test", AsLogits(Counting()), points)
    calls.clear()  # what it takes to find out what the model returns is not counted
    found = random_direction(model, points, bounds=(-4.0, 4.0), draws=4, generator=seeded())
    assert int(found.evaluations.sum()) == sum(calls)


def test_an_unbounded_box_needs_a_reach() -> None:
    with pytest.raises(ParameterError, match="`reach` must be given where the box is unbounded"):
        random_direction(Inside(), torch.zeros(1, 2), bounds=FREE)


def test_options_out_of_range() -> None:
    with pytest.raises(ParameterError, match="`draws` must be at least 1, got 0"):
        random_direction(Inside(), torch.zeros(1, 2), draws=0)
    with pytest.raises(ParameterError, match="`reach` must be positive, got -1"):
        random_direction(Inside(), torch.zeros(1, 2), reach=-1.0)
