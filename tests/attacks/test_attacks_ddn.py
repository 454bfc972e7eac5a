"""Decoupled direction and norm: the formula, and what it reaches."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from levelset.attacks import ddn

NO_BOUNDS = (-math.inf, math.inf)


def test_it_is_its_formula(settled: Callable[..., nn.Module], noise: Callable[..., Tensor]) -> None:
    layers = nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)
    model = settled(nn.Sequential(*layers), seed=7, dtype=torch.float64)
    points = noise(20, 8, seed=1).sigmoid()
    labels = model(points).argmax(1)
    here, radius = points, torch.full((20,), 0.3, dtype=torch.float64)
    nearest = torch.full((20,), math.inf, dtype=torch.float64)
    for k in range(25):
        leaf = here.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        across = model(here).argmax(1) != labels
        nearest = torch.where(across, nearest.minimum((here - points).norm(dim=1)), nearest)
        radius = radius * torch.where(across, 0.9, 1.1).double()
        size = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * k / 25))
        delta = here - points + size * gradient / gradient.norm(dim=1, keepdim=True)
        delta = delta * (radius / delta.norm(dim=1)).unsqueeze(1)
        here = (points + delta).clamp(0, 1)
    across = model(here).argmax(1) != labels
    nearest = torch.where(across, nearest.minimum((here - points).norm(dim=1)), nearest)
    found = ddn(model, points, steps=25, first_radius=0.3, rate=0.1)
    assert torch.equal(found.success, nearest.isfinite())
    done = found.success
    assert done.any()
    # The end is polished, so it is nearer, but on the same segment.
    assert (found.distance[done] <= nearest[done] * (1 + 1e-6)).all()
    assert (found.gradients == 25).all()


def test_two_affine_classes_are_answered_exactly(noise: Callable[..., Tensor]) -> None:
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(noise(2, 6, seed=1))
        model.bias.zero_()
    points = noise(15, 6, seed=2)
    logits = model(points).detach()
    slope = (model.weight[0] - model.weight[1]).detach()
    exact = (logits[:, 0] - logits[:, 1]).abs() / slope.norm()
    found = ddn(model, points, bounds=NO_BOUNDS)
    torch.testing.assert_close(found.distance, exact, rtol=1e-9, atol=0)
