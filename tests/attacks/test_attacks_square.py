"""Square attack: it never falls back, and masked gradients do not stop it."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import pgd, square


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Masked(nn.Module):
    """A model that rounds its input, and whose tiny gradient leads nowhere."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.decoy = torch.randn(75, 4, generator=seeded(5), dtype=torch.float64)

    def forward(self, points: Tensor) -> Tensor:
        return self.model((points * 16).round() / 16) + 1e-9 * points.flatten(1) @ self.decoy


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Flatten(), nn.Linear(75, 24), nn.Tanh(), nn.Linear(24, 4)
    return settled(nn.Sequential(*layers), seed=11, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 5, 5), (5, 15), (75,), (1, 3, 5, 5)])
def test_more_steps_lose_no_success(
    shape: tuple[int, ...], network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    """The schedule of windows scales with the steps, so what is compared is the margin."""
    points = noise(40, *shape, seed=1).sigmoid()
    labels = network(points).argmax(1)
    few, many = (
        square(network, points, labels, radius=0.1, steps=steps, generator=seeded())
        for steps in (5, 400)
    )
    assert many.success.sum() > few.success.sum()
    moved = (many.points - points)[~many.success].abs()
    # A failed row keeps its best attempt, at the sides of the ball or the box.
    at_side = (moved > 0.1 - 1e-12) | (many.points[~many.success] == 0)
    assert (at_side | (many.points[~many.success] == 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "radius"), [(math.inf, 0.1), (2.0, 0.6)])
def test_finds_most_of_what_gradients_find(
    network: nn.Module, noise: Callable[..., Tensor], norm: float, radius: float
) -> None:
    points = noise(60, 3, 5, 5, seed=1).sigmoid()
    white = pgd(network, points, norm=norm, radius=radius, generator=seeded(), loss="margin")
    white = white.success
    # In L2 a window at a time comes less near to the direction of the gradient.
    radius = radius if math.isinf(norm) else 1.5 * radius
    black = square(network, points, norm=norm, radius=radius, steps=800, generator=seeded())
    assert 10 < white.sum() < 55
    assert (white & black.success).sum() >= 0.8 * white.sum()
    lengths = (black.points - points).flatten(1).norm(p=norm, dim=1)
    assert (lengths <= radius).all()
    assert black.points.min() >= 0
    assert black.points.max() <= 1


def test_masked_gradients_do_not_stop_it(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    model, points = Masked(network), noise(60, 3, 5, 5, seed=1).sigmoid()
    white = pgd(model, points, radius=0.2, generator=seeded(), steps=40).success
    black = square(model, points, radius=0.2, steps=400, generator=seeded())
    assert black.success.sum() > 2 * white.sum()
    assert torch.equal(black.success, model(black.points).argmax(1) != model(points).argmax(1))
    assert (black.gradients == 0).all()
