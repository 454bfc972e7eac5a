"""Iterated steps: the formulas, written out; and what momentum changes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import fgsm, igsm, mi_fgsm
from levelset.errors import ParameterError


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)
    return settled(nn.Sequential(*layers), seed=7, dtype=torch.float64)


def gradient_of(model: nn.Module, points: Tensor, labels: Tensor, sign: float) -> Tensor:
    leaf = points.clone().requires_grad_()
    loss = sign * nn.functional.cross_entropy(model(leaf), labels, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("targeted", [False, True])
def test_igsm_is_its_formula(
    targeted: bool, network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(20, 8, seed=1).sigmoid()
    labels = network(points).argmax(1)
    targets = (labels + 1) % 4 if targeted else None
    found = igsm(
        network, points, labels, targets=targets, radius=0.1, steps=6, step_size=0.03, keep="last"
    )
    here, wanted = points.clone(), labels if targets is None else targets
    for _ in range(6):
        here = here + 0.03 * gradient_of(network, here, wanted, -1.0 if targeted else 1.0).sign()
        here = torch.minimum(torch.maximum(here, points - 0.1), points + 0.1).clamp(0, 1)
    torch.testing.assert_close(found.points, here, rtol=0, atol=1e-12)
    assert (found.gradients == 6).all()


def test_momentum_is_its_formula(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    points = noise(20, 8, seed=1).sigmoid()
    labels = network(points).argmax(1)
    found = mi_fgsm(network, points, labels, radius=0.1, steps=6, momentum=0.8, keep="last")
    here, average = points.clone(), torch.zeros_like(points)
    for _ in range(6):
        gradient = gradient_of(network, here, labels, 1.0)
        average = 0.8 * average + gradient / gradient.abs().sum(1, keepdim=True)
        here = here + 0.1 / 6 * average.sign()
        here = torch.minimum(torch.maximum(here, points - 0.1), points + 0.1).clamp(0, 1)
    torch.testing.assert_close(found.points, here, rtol=0, atol=1e-12)


def test_one_step_is_fgsm(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    points = noise(20, 8, seed=1).sigmoid()
    single = fgsm(network, points, radius=0.2)
    for method in (igsm, mi_fgsm):
        found = method(network, points, radius=0.2, steps=1, step_size=0.2)
        assert torch.equal(found.points, single.points)


def test_without_momentum_it_is_igsm(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    points = noise(20, 8, seed=1).sigmoid()
    plain = igsm(network, points, radius=0.2, steps=5, step_size=0.05)
    found = mi_fgsm(network, points, radius=0.2, steps=5, step_size=0.05, momentum=0.0)
    torch.testing.assert_close(found.points, plain.points, rtol=0, atol=1e-12)


def test_more_steps_do_better_than_one(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    points = noise(300, 8, seed=1).sigmoid()
    one = fgsm(network, points, radius=0.15).success.sum()
    many = igsm(network, points, radius=0.15, steps=20).success.sum()
    assert many >= one


def test_inputs_leave_once_they_are_through(
    network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(100, 8, seed=1).sigmoid()
    first = igsm(network, points, radius=0.3, steps=10)
    best = igsm(network, points, radius=0.3, steps=10, keep="best")
    assert (first.gradients[first.success] < 10).any()
    assert (first.gradients[~first.success] == 10).all()
    assert (best.gradients == 10).all()
    assert torch.equal(best.success, first.success)
    labels = network(points).argmax(1)
    loss = nn.CrossEntropyLoss(reduction="none")
    both = first.success
    last, at_first = (loss(network(p.points), labels)[both] for p in (best, first))
    # The two are compared by their log-odds, which round otherwise than the cross-entropy.
    assert (last >= at_first - 1e-6).all()


@pytest.mark.parametrize("momentum", [-0.1, math.nan, math.inf])
def test_momentum_out_of_range(momentum: float, network: nn.Module) -> None:
    with pytest.raises(ParameterError, match="`momentum` must be 0 or more, got"):
        mi_fgsm(network, torch.rand(2, 8).double(), radius=0.1, momentum=momentum)


@pytest.mark.parametrize("method", [igsm, mi_fgsm])
def test_a_step_must_be_positive(method: Callable[..., object], network: nn.Module) -> None:
    with pytest.raises(ParameterError, match="`step_size` must be positive, got -1"):
        method(network, torch.rand(2, 8).double(), radius=0.1, step_size=-1.0)
