"""FAB: exact on affine models, better with restarts, a radius that only judges."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import fab

NORMS = {math.inf: 1.0, 2.0: 2.0, 1.0: math.inf}


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 5)
    return settled(nn.Sequential(*layers), seed=11, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
def test_exact_on_affine_models(
    norm: float, settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    model = settled(nn.Linear(6, 2), seed=1, dtype=torch.float64)
    points, weight = noise(30, 6, seed=2), model.weight.detach()
    gap = (model(points)[:, 0] - model(points)[:, 1]).abs().detach()
    exact = gap / torch.linalg.vector_norm(weight[0] - weight[1], NORMS[norm])
    found = fab(model, points, norm=norm, bounds=(-math.inf, math.inf), steps=5)
    assert found.success.all()
    torch.testing.assert_close(found.distance, exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_restarts_find_nothing_further(
    norm: float, network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(80, 10, seed=1).sigmoid()
    found = [
        fab(
            network, points, norm=norm, steps=15, restarts=restarts,
            generator=torch.Generator().manual_seed(0),
        ).distance
        for restarts in (1, 4)
    ]  # fmt: skip
    assert (found[1] <= found[0] * (1 + 1e-9)).all()
    assert (found[1] < found[0] * 0.999).any()


def test_a_radius_only_judges(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    points = noise(80, 10, seed=1).sigmoid()
    far = fab(network, points, norm=2.0, steps=30)
    radius = float(far.distance[far.success].median())
    near = fab(network, points, norm=2.0, steps=30, radius=radius)
    assert (near.distance[near.success] <= radius).all()
    assert torch.equal(near.points[~near.success], points[~near.success])
    # Whatever comes within the radius in the long run does so in the short one, and leaves.
    assert torch.equal(near.success, far.distance <= radius)
    assert (near.gradients[near.success] < 30).any()
    assert (far.gradients == 30).all()


def test_nothing_is_drawn_with_one_start(
    network: nn.Module, noise: Callable[..., Tensor], left_as_found: Callable[..., object]
) -> None:
    points = noise(5, 10, seed=1).sigmoid()
    with left_as_found(network, points):  # type: ignore[attr-defined]
        fab(network, points, steps=3)
