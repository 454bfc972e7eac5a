import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from levelset.boundary._second_order._hessian import LinearConvolutions


def held(module):
    return module.double().requires_grad_(False)


def derivatives(module, points, vectors, *, linear):
    leaf = points.clone().requires_grad_()
    if linear:
        with LinearConvolutions():
            out = module(leaf)
    else:
        out = module(leaf)
    (gradient,) = torch.autograd.grad(functional.softplus(out).sum(), leaf, create_graph=True)
    (product,) = torch.autograd.grad((gradient * vectors).sum(), leaf, create_graph=True)
    (third,) = torch.autograd.grad((product * vectors).sum(), leaf)
    return out.detach(), gradient.detach(), product.detach(), third


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (3, 2), "padding": (0, 2), "bias": False},
        {"dilation": 2, "padding": 2},
        {"padding": "same", "kernel_size": 3},
        {"padding": 1, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_value_and_three_derivatives_are_torch_s_own(noise, channels, options):
    module = held(nn.Conv2d(channels, 5, **{"kernel_size": (3, 2), **options}))
    points, vectors = noise(4, channels, 10, 9, seed=1), noise(4, channels, 10, 9, seed=2)
    plain = derivatives(module, points, vectors, linear=False)
    for mine, torchs in zip(derivatives(module, points, vectors, linear=True), plain, strict=True):
        torch.testing.assert_close(mine, torchs)


def test_groups_and_depthwise_convolutions(noise):
    for groups, out in ((2, 4), (6, 6)):
        module = held(nn.Conv2d(6, out, 3, groups=groups))
        points, vectors = noise(2, 6, 7, 7, seed=1), noise(2, 6, 7, 7, seed=2)
        plain = derivatives(module, points, vectors, linear=False)
        for mine, torchs in zip(
            derivatives(module, points, vectors, linear=True), plain, strict=True
        ):
            torch.testing.assert_close(mine, torchs)


def test_gradcheck_of_both_maps(noise):
    weight = noise(3, 2, 3, 3, seed=5)

    def convolved(points):
        with LinearConvolutions():
            return functional.conv2d(points, weight, stride=2, padding=1)

    points = noise(2, 2, 6, 6).requires_grad_()
    assert torch.autograd.gradcheck(convolved, (points,))
    assert torch.autograd.gradgradcheck(convolved, (points,))


def test_the_second_derivative_computes_none_of_the_weights(noise):
    module = held(nn.Conv2d(3, 5, 3))
    points = noise(4, 3, 8, 8)
    calls = {}
    for linear in (False, True):
        with profile(activities=[ProfilerActivity.CPU]) as record:
            derivatives(module, points, points, linear=linear)
        calls[linear] = {e.key: e.count for e in record.key_averages()}
    assert calls[False]["aten::_convolution_double_backward"] > 0
    assert "aten::_convolution_double_backward" not in calls[True]


def test_weights_that_learn_keep_their_gradient(noise):
    module = nn.Conv2d(1, 2, 3).double()
    points = noise(2, 1, 5, 5).requires_grad_()
    with LinearConvolutions():
        out = module(points)
    plain = module(points)
    for mine, torchs in zip(
        torch.autograd.grad(out.square().sum(), [points, *module.parameters()]),
        torch.autograd.grad(plain.square().sum(), [points, *module.parameters()]),
        strict=True,
    ):
        assert torch.equal(mine, torchs)


def test_under_functional_transforms(noise):
    module = held(nn.Conv2d(1, 2, 3))
    points = noise(3, 1, 5, 5)

    def value(point):
        with LinearConvolutions():
            return module(point[None]).square().sum()

    def plain(point):
        return module(point[None]).square().sum()

    for transform in (torch.func.grad, torch.func.jacrev):
        mine = torch.func.vmap(transform(value))(points)
        torch.testing.assert_close(mine, torch.func.vmap(transform(plain))(points))
