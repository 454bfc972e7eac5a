import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset.boundary._second_order._surrogate import Softened, calls_relu
from levelset.errors import FieldError
from levelset.networks import lenet, squeezenet1_0


class Functional(nn.Module):
    def forward(self, points):
        hidden = functional.leaky_relu(points - 0.5, 0.2)
        return torch.relu(hidden).sum(1) + points.clone().relu_().sum(1) + hidden.relu().sum(1)


def soft(points):
    return functional.softplus(points, beta=3.0, threshold=1e3)


def test_relus_of_every_spelling_are_replaced(noise):
    points = noise(5, 4)
    hidden = 0.2 * (points - 0.5) + 0.8 * soft(points - 0.5)
    expected = (2.0 * soft(hidden) + soft(points)).sum(1)
    torch.testing.assert_close(Softened("test", Functional(), 3.0)(points), expected)


def test_modules_are_not_touched(left_as_found):
    model, points = lenet(), torch.rand(2, 1, 28, 28)
    before = model(points).detach()
    with left_as_found(model, points):
        softened = Softened("test", model, 5.0)(points).detach()
    assert torch.equal(model(points).detach(), before)
    assert not torch.allclose(softened, before, atol=1e-3)


def test_sharp_surrogates_tend_to_the_network():
    model, points = lenet(), torch.rand(2, 1, 28, 28)
    sharp = Softened("test", model, 1e5)(points)
    torch.testing.assert_close(sharp, model(points), rtol=1e-3, atol=1e-3)


def test_in_place_and_pooled_networks_keep_second_derivatives():
    model = squeezenet1_0(10).eval()
    leaf = torch.rand(1, 3, 64, 64, requires_grad=True)
    out = Softened("test", model, 2.0)(leaf)
    (gradient,) = torch.autograd.grad(out[:, 0].sum(), leaf, create_graph=True)
    (product,) = torch.autograd.grad(gradient, leaf, torch.ones_like(leaf))
    assert bool(product.any())


def test_what_calls_no_relu_is_refused():
    model, points = lenet(activation="tanh"), torch.rand(1, 1, 28, 28)
    assert calls_relu(lenet(), points)
    assert not calls_relu(model, points)
    with pytest.raises(FieldError, match="must find a ReLU to replace"):
        Softened("test", model, 1.0)(points)
