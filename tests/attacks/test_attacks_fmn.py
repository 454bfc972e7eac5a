"""Fast minimum norm: its projections, its radius, and exact answers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.norms import dual, norm_of
from levelset.attacks import fmn
from levelset.attacks._fmn import _onto_ball

NO_BOUNDS = (-math.inf, math.inf)


@pytest.mark.parametrize("norm", [0.0, 1.0, 2.0, math.inf])
def test_projections_are_inside_and_nearest(norm: float, noise: Callable[..., Tensor]) -> None:
    delta = noise(30, 6, seed=1)
    radius = torch.arange(1, 31).double() / 8 if norm else torch.arange(1, 31).double() % 7
    there = _onto_ball(delta, radius, norm)
    assert (norm_of(there, norm) <= radius.clamp(min=1.0 if norm == 0 else 0) + 1e-12).all()
    inside = norm_of(delta, norm) <= radius
    assert torch.equal(there[inside], delta[inside])
    # No point of the ball is nearer: none of many drawn from it.
    for seed in range(200):
        drawn = noise(30, 6, seed=1000 + seed)
        if norm:
            drawn = drawn / norm_of(drawn, norm).unsqueeze(1) * radius.unsqueeze(1)
        else:
            drawn = delta * (drawn.argsort(1) < radius.clamp(min=1.0).unsqueeze(1))
        assert ((drawn - delta).norm(dim=1) >= (there - delta).norm(dim=1) - 1e-12).all()


@pytest.mark.parametrize(("norm", "tolerance"), [(2.0, 1e-9), (math.inf, 1e-4), (1.0, 0.02)])
def test_two_affine_classes(norm: float, tolerance: float, noise: Callable[..., Tensor]) -> None:
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(noise(2, 6, seed=1))
        model.bias.zero_()
    points = noise(15, 6, seed=2)
    logits = model(points).detach()
    slope = (model.weight[0] - model.weight[1]).detach().unsqueeze(0)
    exact = (logits[:, 0] - logits[:, 1]).abs() / norm_of(slope, dual(norm))
    found = fmn(model, points, norm=norm, bounds=NO_BOUNDS, steps=200)
    assert found.success.all()
    assert (found.distance >= exact * (1 - 1e-9)).all()
    assert (found.distance <= exact * (1 + tolerance)).double().mean() >= 0.9


def test_l0_counts_the_fewest_entries(noise: Callable[..., Tensor]) -> None:
    # Entry i moves the margin by at most weight_i, so the fewest are the largest weights.
    model = nn.Linear(6, 2).double()
    weight = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.2], dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.stack([-weight, torch.zeros(6)]))
        model.bias.zero_()
    starts = torch.tensor([4.0, 7.5, 9.5, 10.5], dtype=torch.float64)
    with torch.no_grad():
        for start, fewest in zip(starts, (1, 2, 3, 4), strict=True):
            model.bias[0] = start
            found = fmn(model, torch.zeros(1, 6, dtype=torch.float64), norm=0.0)
            assert found.distance.item() == fewest
            assert (found.points != 0).sum() == fewest
