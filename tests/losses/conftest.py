from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def two_classes() -> nn.Module:
    """Return an affine model of two classes whose margin is a line, in float64."""
    layer = nn.Linear(3, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -1.0, 0.25], [-0.5, 1.0, 0.75]]))
        layer.bias.copy_(torch.tensor([0.1, -0.2]))
    return layer


@pytest.fixture
def check_gradient() -> Callable[..., None]:
    """Return a comparison of the largest entries of a gradient with central differences."""

    def check(model: nn.Module, loss: Callable[[], Tensor], rel: float = 1e-5) -> None:
        gradients = torch.autograd.grad(loss(), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            place = tuple(
                int(i) for i in torch.unravel_index(gradient.abs().argmax(), gradient.shape)
            )
            sides = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter[place] += sign * 1e-6
                sides.append(float(loss().detach()))
                with torch.no_grad():
                    parameter[place] -= sign * 1e-6
            expected = (sides[0] - sides[1]) / 2e-6
            assert float(gradient[place]) == pytest.approx(expected, rel=rel, abs=1e-9)

    return check
