"""Szegedy's attack: near the truth on affine models, always targeted, inside the box."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from levelset.attacks import lbfgs


def test_affine_models_are_nearly_answered(noise: Callable[..., Tensor]) -> None:
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(noise(2, 6, seed=1))
        model.bias.copy_(-0.5 * model.weight.sum(1))
    points = 0.3 + 0.4 * noise(6, 6, seed=2).sigmoid()
    logits = model(points).detach()
    slope = (model.weight[0] - model.weight[1]).detach()
    exact = (logits[:, 0] - logits[:, 1]).abs() / slope.norm()
    found = lbfgs(model, points)
    assert found.success.all()
    assert (found.distance >= exact * (1 - 1e-9)).all()
    assert (found.distance <= exact * (1 + 1e-6)).all()


def test_the_target_is_the_runner_up(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)
    model = settled(nn.Sequential(*layers), seed=5, dtype=torch.float64)
    points = noise(5, 6, seed=2)
    found = lbfgs(model, points, bounds=(-4.0, 4.0))
    runners_up = model(points).topk(2, dim=1).indices[:, 1]
    assert found.success.all()
    assert torch.equal(model(found.points).argmax(1), runners_up)


def test_searching_for_the_weight_pays(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)
    model = settled(nn.Sequential(*layers), seed=5, dtype=torch.float64)
    points = noise(5, 6, seed=2)
    few = lbfgs(model, points, bounds=(-4.0, 4.0), first_weight=100.0, searches=1)
    many = lbfgs(model, points, bounds=(-4.0, 4.0), first_weight=100.0, searches=8)
    assert many.distance.log().mean() < few.distance.log().mean() - 0.1
