"""The steps of bounds: each against a brute force over its range."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset._relaxation._curves import Clamp, Rectifier
from levelset._relaxation._operation import Range, gamma
from levelset._relaxation._program import ball_range, margins_of
from levelset._relaxation._trace import trace

UNIT = 2.0**-53


def layers():
    return {
        "linear": nn.Linear(8, 5),
        "convolution": nn.Conv2d(2, 3, 3, stride=2, padding=1, groups=1),
        "groups": nn.Conv2d(2, 4, 2, groups=2, dilation=2, bias=False),
        "same": nn.Conv2d(2, 2, 3, padding="same"),
        "batch norm": nn.BatchNorm2d(2),
        "average": nn.AvgPool2d(3, stride=2, padding=1),
        "adaptive": nn.AdaptiveAvgPool2d(1),
        "largest": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        "largest, overlapping": nn.MaxPool2d(2, stride=1),
        "largest, spread": nn.MaxPool2d(2, stride=1, dilation=2),
        "zeros": nn.ZeroPad2d((1, 0, 2, 1)),
        "relu": nn.ReLU(),
        "leaky": nn.LeakyReLU(0.3),
        "hardtanh": nn.Hardtanh(-0.4, 0.7),
        "relu6": nn.ReLU6(),
        "reflected": nn.ReflectionPad2d((1, 2, 0, 1)),
        "replicated": nn.ReplicationPad2d(2),
        "wrapped": nn.CircularPad2d(1),
        "elu": nn.ELU(),
        "softplus": nn.Softplus(),
        "tanh": nn.Tanh(),
        "sigmoid": nn.Sigmoid(),
    }


def shape(name):
    return (8,) if name == "linear" else (2, 5, 6)


@pytest.fixture(params=sorted(layers()))
def step(request, settled, noise):
    """Return a layer, its range over a box, its step, and draws from the box."""
    layer = settled(layers()[request.param], 2, torch.float64).eval()
    if isinstance(layer, nn.BatchNorm2d):
        layer.running_mean.copy_(torch.tensor([0.3, -0.2]))
        layer.running_var.copy_(torch.tensor([0.5, 2.0]))
    points = noise(3, *shape(request.param), seed=5)
    widths = 0.7 * noise(3, *shape(request.param), seed=6).abs()
    widths[:, ..., 0] = 0.0  # entries that are fixed
    with torch.no_grad():
        program = trace("test", layer, points)
    draws = [points + widths * s for s in (-1.0, 0.0, 1.0)]
    draws += [points + widths * (2 * noise(*points.shape, seed=s).sigmoid() - 1) for s in range(60)]
    draws += [points + widths * noise(*points.shape, seed=s).sign() for s in range(60)]
    return layer, Range(points - widths, points + widths), program.steps[0].operation, draws


@torch.no_grad()
def test_a_step_does_what_its_layer_does(step):
    layer, _, operation, draws = step
    for draw in draws[:5]:
        torch.testing.assert_close(operation.apply([draw]), layer(draw), rtol=1e-12, atol=1e-12)
        if operation.is_affine:
            change = operation.apply_linear([draw - draws[7]])
            torch.testing.assert_close(change, layer(draw) - layer(draws[7]), rtol=0, atol=1e-12)
            size = operation.magnitude([draw.abs()])
            assert bool((size >= layer(draw).abs() - 1e-12).all())


@torch.no_grad()
def test_values_stay_in_their_range(step):
    layer, given, operation, draws = step
    found = operation.range([given], UNIT)
    for draw in draws:
        assert bool((layer(draw) >= found.low).all())
        assert bool((layer(draw) <= found.high).all())


@torch.no_grad()
def test_linear_bounds_are_below(step, noise):
    layer, given, operation, draws = step
    result = operation.range([given], UNIT)
    factors = noise(3, 7, *result.low.shape[1:], seed=9)
    (back,), constant = operation.back(factors, [given], UNIT)
    sums = lambda a, z: (a * z.unsqueeze(1)).flatten(2).sum(2)  # noqa: E731
    gaps = [sums(factors, layer(draw)) - sums(back, draw) - constant for draw in draws]
    assert float(torch.stack(gaps).min()) >= -1e-13  # these sums are rounded too
    if operation.is_affine:
        assert float(torch.stack(gaps).max()) < 1e-11
    least = Range(given.low, given.high).least(back, UNIT) + constant
    assert bool((least <= torch.stack([sums(factors, layer(d)) for d in draws]).amin(0)).all())


@torch.no_grad()
def test_intervals_of_affine_steps_are_attained(settled, noise):
    layer, points = settled(nn.Linear(8, 5), dtype=torch.float64), noise(3, 8)
    box = (torch.tensor(-math.inf), torch.tensor(math.inf))
    radius = torch.tensor([0.1, 0.2, 0.3]).double()
    program = trace("test", layer, points)
    for norm, power in ((math.inf, 1), (2.0, 2)):
        found = program.ranges(ball_range(points, radius, norm, box, UNIT), UNIT)[1]
        reach = radius.view(-1, 1) * torch.linalg.vector_norm(layer.weight, power, dim=1)
        torch.testing.assert_close(found.high, layer(points) + reach, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.low, layer(points) - reach, rtol=1e-12, atol=1e-12)
        assert found.is_exact


def test_margins_leave_out_the_label():
    logits = torch.tensor([[3.0, 1.0, 0.5], [0.0, 2.0, 7.0]])
    rows = margins_of(torch.tensor([0, 1]), 3, torch.float32)
    found = (rows * logits.unsqueeze(1)).sum(2)
    assert found.tolist() == [[2.0, 2.5], [2.0, -5.0]]


def test_sums_too_long_for_a_dtype_bound_nothing():
    assert gamma(1000, 2.0**-8) == math.inf
    assert gamma(10, 2.0**-53) == pytest.approx(10 * 2.0**-53)


def test_rounding_is_bounded_by_what_other_orders_of_summation_give(settled, noise):
    """A sum of 4,000 terms in float32, forwards, backwards and in float64."""
    layer = settled(nn.Linear(4000, 2))
    points = noise(3, 4000).float()
    box = (torch.tensor(-math.inf), torch.tensor(math.inf))
    with torch.no_grad():
        program = trace("test", layer, points)
        found = program.ranges(
            ball_range(points, torch.zeros(3), math.inf, box, 2.0**-24), 2.0**-24
        )
        products = points.unsqueeze(1) * layer.weight
        one = products.cumsum(2)[..., -1] + layer.bias
        other = products.flip(2).cumsum(2)[..., -1] + layer.bias
        exact = products.double().sum(2) + layer.bias
    for value in (one, other, exact):
        assert bool((value >= found[1].low).all())
        assert bool((value <= found[1].high).all())


@pytest.mark.parametrize(
    ("activation", "layer"),
    [
        (Rectifier(), nn.ReLU()),
        (Rectifier(0.3), nn.LeakyReLU(0.3)),
        (Clamp(-1.0, 1.0), nn.Hardtanh()),
        (Clamp(0.0, 6.0), nn.ReLU6()),
    ],
)
def test_a_piece_is_the_line_that_the_function_follows_there(activation, layer):
    entries = torch.linspace(-9.0, 9.0, 50, dtype=torch.float64)
    slope, offset = activation.piece([entries > kink for kink in activation.kinks])
    torch.testing.assert_close(slope * entries + offset, layer(entries), rtol=1e-15, atol=1e-15)
    leaf = entries.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(layer(leaf).sum(), leaf)
    assert torch.equal(slope, derivative)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 2, (3, 2), stride=(2, 3), padding=(1, 2)),
        nn.Conv2d(3, 2, 2, dilation=(2, 3), padding=2),
    ],
)
@torch.no_grad()
def test_a_convolution_of_a_patch_is_that_of_the_whole_image(layer, settled, noise):
    layer = settled(layer).double()
    patch = noise(2, 2, 3, 2)
    for place in ((0, 0, 0), (1, 2, 3), (1, 4, 5)):
        image = torch.zeros(2, 3, 7, 7, dtype=torch.float64)
        box = [slice(s, s + n) for s, n in zip(place, patch.shape[1:], strict=True)]
        image[(slice(None), *box)] = patch
        expected = functional.conv2d(
            image, layer.weight, None, layer.stride, layer.padding, layer.dilation
        )
        step = trace("test", nn.Sequential(layer), image).steps[0].operation
        values, start = step.linear_patch(patch.numpy(), place, tuple(expected.shape[1:]))
        whole = torch.zeros_like(expected)
        box = [slice(s, s + n) for s, n in zip(start, values.shape[1:], strict=True)]
        whole[(slice(None), *box)] = torch.from_numpy(values)
        torch.testing.assert_close(whole, expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.MaxPool2d(2, stride=1, dilation=2),
    ],
)
def test_the_windows_of_a_patch_have_all_entries_in_it(layer):
    image = torch.zeros(1, 2, 7, 6, dtype=torch.float64)
    step = trace("test", nn.Sequential(layer), image).steps[0].operation
    result = tuple(layer(image).shape[1:])
    members = step.members(image.shape[1:]).view(*result, -1)
    inside = torch.zeros(2, 7, 6, dtype=torch.bool)
    inside[1:2, 2:4, 3:6] = True
    expected = (inside.flatten()[members.clamp(min=0)] & (members >= 0)).any(-1)
    found = torch.zeros(result, dtype=torch.bool)
    found[step.box((1, 2, 3), (1, 2, 3), result)] = True
    assert (found | ~expected).all()
    assert found.sum() <= expected.sum() * (3 if layer.dilation == 2 else 1)
