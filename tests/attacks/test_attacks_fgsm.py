"""One-step attacks: exact on affine models of two classes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import fgsm, r_fgsm
from levelset.errors import ParameterError

FREE = (-math.inf, math.inf)


@pytest.fixture
def affine(settled: Callable[..., nn.Module]) -> nn.Linear:
    model = settled(nn.Linear(6, 2), seed=1, dtype=torch.float64)
    assert isinstance(model, nn.Linear)
    return model


def reach(model: nn.Linear, points: Tensor, dual: float) -> Tensor:
    """Return margin over the dual norm of the weights: the exact distance to the boundary."""
    with torch.no_grad():
        gap = (model(points)[:, 0] - model(points)[:, 1]).abs()
        return gap / torch.linalg.vector_norm(model.weight[0] - model.weight[1], dual)


@pytest.mark.parametrize(("norm", "dual"), [(math.inf, 1.0), (2.0, 2.0)])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_exact_on_affine_models(
    norm: float, dual: float, loss: str, affine: nn.Linear, noise: Callable[..., Tensor]
) -> None:
    points = noise(30, 6, seed=2)
    for row, distance in zip(points, reach(affine, points, dual).tolist(), strict=True):
        for factor, through in ((1 + 1e-9, True), (1 - 1e-9, False)):
            found = fgsm(
                affine, row.unsqueeze(0), radius=factor * distance, norm=norm, bounds=FREE,
                loss=loss,  # type: ignore[arg-type]
            )  # fmt: skip
            assert bool(found.success[0]) is through
            moved = torch.linalg.vector_norm(found.points[0] - row, norm)
            assert float(moved) == pytest.approx(factor * distance, rel=1e-12)


def test_the_step_is_the_formula(affine: nn.Linear, noise: Callable[..., Tensor]) -> None:
    points = noise(20, 6, seed=4).clamp(0, 1)
    found = fgsm(affine, points, radius=0.25)
    leaf = points.clone().requires_grad_()
    logits = affine(leaf)
    loss = nn.functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, leaf)
    expected = (points + 0.25 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(found.points, expected, rtol=0, atol=1e-15)
    assert (found.gradients == 1).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_a_saturated_softmax_stops_nothing(affine: nn.Linear, loss: str) -> None:
    """In float32 the softmax of a confident model is 1, and the gradient of its logarithm 0."""
    affine.weight.data.mul_(1e4)
    model, points = affine.float(), torch.full((1, 6), 0.25)
    points[0, 0] = 0.75
    assert model(points).softmax(1).amax() == 1.0
    radius = float(reach(affine, points, 1.0)) * 1.01
    assert fgsm(model, points, radius=radius, bounds=FREE, loss=loss).success.all()


def test_r_fgsm_is_two_steps_of_signs(affine: nn.Linear, noise: Callable[..., Tensor]) -> None:
    points = noise(50, 6, seed=4)
    found = r_fgsm(
        affine, points, radius=0.5, first_step=0.2, bounds=FREE,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    moved = (found.points - points)[~found.success].abs()
    # The gradient of an affine model is the same everywhere: signs agree or they do not.
    both = (moved - 0.5).abs() < 1e-12
    against = (moved - 0.1).abs() < 1e-12
    assert (both | against).all()
    assert 0.3 < both.double().mean() < 0.7


@pytest.mark.parametrize("first_step", [0.0, 0.5, 0.7, -0.1])
def test_the_random_step_is_within_the_radius(first_step: float, affine: nn.Linear) -> None:
    with pytest.raises(ParameterError, match="`first_step` must lie between 0 and the radius"):
        r_fgsm(affine, torch.rand(2, 6).double(), radius=0.5, first_step=first_step)
