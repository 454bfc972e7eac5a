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


def soft_between(z, low, high):
    return low + soft(z - low) - soft(z - high)


WEIGHT = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        (lambda z: z.clamp(min=0), soft),
        (lambda z: torch.clamp(z, 0), soft),
        (lambda z: z.clamp_min(0.0), soft),
        (lambda z: torch.maximum(z, torch.zeros(())), soft),
        (lambda z: torch.maximum(torch.zeros_like(z), z), soft),
        (lambda z: functional.threshold(z, 0.0, 0.0), soft),
        (functional.relu6, lambda z: soft_between(z, 0.0, 6.0)),
        (nn.ReLU6(), lambda z: soft_between(z, 0.0, 6.0)),
        (nn.Hardtanh(), lambda z: soft_between(z, -1.0, 1.0)),
        (lambda z: functional.prelu(z, WEIGHT), lambda z: WEIGHT * z + (1 - WEIGHT) * soft(z)),
    ],
)
def test_other_ways_to_write_a_relu_are_replaced(noise, spelling, expected):
    points = 3.0 * noise(5, 4)
    found = Softened("test", spelling, 3.0)(points)
    torch.testing.assert_close(found, expected(points), rtol=1e-9, atol=1e-12)


def test_clamps_at_other_bounds_stay(noise):
    points = noise(5, 4)
    assert not calls_relu(lambda z: z.clamp(0, 1) + z.clamp_min(1e-12) + z.clamp(max=0), points)
    assert not calls_relu(lambda z: torch.maximum(z, 0.5 * z), points)


@pytest.mark.parametrize(
    "write",
    [
        lambda z: functional.relu(z, inplace=True),
        lambda z: functional.relu(z, True),
        lambda z: z.relu_(),
        lambda z: z.clamp_min_(0),
        lambda z: functional.leaky_relu(z, 0.0, inplace=True),
        nn.ReLU(inplace=True),
    ],
)
def test_those_that_write_in_place_do_so_and_keep_two_derivatives(noise, write):
    matrix = noise(4, 4, seed=1)

    def field(points):
        hidden = points @ matrix
        write(hidden)  # as a statement: only what is written counts
        return hidden.square().sum(1)

    def truth(points):
        return soft(points @ matrix).square().sum(1)

    points, along = noise(5, 4), noise(5, 4, seed=2)
    found = []
    for called in (Softened("test", field, 3.0), truth):
        leaf = points.clone().requires_grad_()
        out = called(leaf)
        (slope,) = torch.autograd.grad(out.sum(), leaf, create_graph=True)
        (bend,) = torch.autograd.grad(slope, leaf, along)
        found.append((out, slope, bend))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_asking_whether_there_is_a_relu_leaves_the_points(noise, left_as_found):
    points = noise(5, 4)
    with left_as_found(points):
        assert calls_relu(nn.ReLU(inplace=True), points)


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
