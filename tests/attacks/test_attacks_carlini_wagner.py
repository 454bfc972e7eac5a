"""Carlini and Wagner: near the truth on affine models, confidence, and sides of the box."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import carlini_wagner


@pytest.fixture
def model(noise: Callable[..., Tensor]) -> nn.Linear:
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(noise(2, 6, seed=1))
        model.bias.copy_(-0.5 * model.weight.sum(1))
    return model


def test_affine_models_are_nearly_answered(model: nn.Linear, noise: Callable[..., Tensor]) -> None:
    points = 0.3 + 0.4 * noise(15, 6, seed=2).sigmoid()
    logits = model(points).detach()
    slope = (model.weight[0] - model.weight[1]).detach()
    exact = (logits[:, 0] - logits[:, 1]).abs() / slope.norm()
    found = carlini_wagner(model, points, steps=200, first_weight=0.1)
    assert found.success.all()
    assert (found.distance >= exact * (1 - 1e-9)).all()
    assert (found.distance <= exact * 1.02).all()


def test_confidence_is_a_lead(model: nn.Linear, noise: Callable[..., Tensor]) -> None:
    points = noise(15, 6, seed=2).sigmoid()
    found = carlini_wagner(model, points, steps=100, first_weight=1.0, confidence=0.3)
    logits = model(found.points[found.success]).detach()
    labels = model(points[found.success]).argmax(1)
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    lead = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1) - own
    assert len(lead) >= 10
    assert (lead >= 0.3).all()


@pytest.mark.slow
def test_inputs_on_the_sides_of_the_box_move(
    model: nn.Linear, noise: Callable[..., Tensor]
) -> None:
    points = (noise(20, 6, seed=5) > 0).double()
    found = carlini_wagner(model, points, steps=300, first_weight=1.0)
    # Of an affine model on a box, the best corner says whether a point can cross at all.
    labels = model(points).argmax(1)
    slope = (model.weight[1] - model.weight[0]) * (1 - 2 * labels).unsqueeze(1)
    corner = model((slope > 0).double())
    assert torch.equal(found.success, corner.argmax(1) != labels)
    assert found.success.sum() >= 10
    assert ((found.points >= 0) & (found.points <= 1)).all()
    assert ((found.points != points).sum(1) >= 3)[found.success].all()


def test_settled_rows_leave(model: nn.Linear, noise: Callable[..., Tensor]) -> None:
    points = noise(15, 6, seed=2).sigmoid()
    found = carlini_wagner(model, points, steps=1000, searches=3, first_weight=1e-3)
    assert (found.gradients < 1000).all()
