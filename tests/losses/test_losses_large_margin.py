import math
from functools import partial

import pytest
import torch
from torch import nn

from levelset.errors import FieldError, ParameterError
from levelset.losses import large_margin


@pytest.mark.parametrize(("norm", "power"), [(math.inf, 1), (2.0, 2), (1.0, math.inf)])
def test_of_affine_models_it_is_the_distance_to_the_nearest_tie(settled, noise, norm, power):
    layer = settled(nn.Linear(4, 5), 1, torch.float64)
    points, labels = noise(7, 4), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    rows = []
    for logits, label in zip(layer(points), labels, strict=True):
        short = [
            0.8 - (logits[label] - logits[j])
            / (torch.linalg.vector_norm(layer.weight[label] - layer.weight[j], power) + 1e-6)
            for j in range(5) if j != label
        ]  # fmt: skip
        rows.append(torch.stack(short).max().clamp(min=0.0))
    expected = torch.stack(rows).mean()
    found = large_margin(layer, points, labels, radius=0.8, norm=norm, rivals=4)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    # More rivals than there are others are all of them; fewer give no more.
    torch.testing.assert_close(
        large_margin(layer, points, labels, radius=0.8, norm=norm, rivals=9), found
    )
    assert large_margin(layer, points, labels, radius=0.8, norm=norm) <= found


def test_its_gradient_is_right_through_the_denominator(settled, noise, check_gradient):
    net = settled(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), 1, torch.float64)
    points, labels = noise(6, 3), torch.tensor([0, 1, 2] * 2)
    loss = partial(large_margin, net, points, labels, radius=1.0, norm=2.0, rivals=2)
    check_gradient(net, lambda: loss(through_gradient=True))


def test_a_constant_denominator_gives_the_gradient_of_the_logits_alone(two_classes, noise):
    points, labels = noise(6, 3), torch.tensor([0, 1] * 3)
    loss = large_margin(two_classes, points, labels, radius=5.0, norm=2.0)
    (gradient,) = torch.autograd.grad(loss, two_classes.weight)
    slope = two_classes.weight[0] - two_classes.weight[1]
    sides = (1.0 - 2.0 * labels).unsqueeze(1)
    expected = -(sides * points).mean(0) / (slope.norm() + 1e-6)
    torch.testing.assert_close(gradient, torch.stack([expected, -expected]).detach())


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(two_classes, noise, left_as_found):
    points, labels = noise(4, 3), torch.tensor([0, 1] * 2)
    call = partial(large_margin, two_classes, points, labels)
    with left_as_found(two_classes, points, labels):
        call(radius=0.5)
    with pytest.raises(ParameterError, match="`radius` must be positive, got 0"):
        call(radius=0.0)
    with pytest.raises(ParameterError, match="`rivals` must be an integer of at least 1, got 0"):
        call(radius=0.5, rivals=0)
    with pytest.raises(ParameterError, match="`norm` must be one of inf, 2, 1, got 3"):
        call(radius=0.5, norm=3)
    with pytest.raises(FieldError, match="`model` must be differentiable in its points"):
        large_margin(lambda x: two_classes(x).detach(), points, labels, radius=0.5)
    with pytest.raises(FieldError, match=r"must map points \(4, \d\) to \(4, k\)"):
        large_margin(lambda x: two_classes(x)[..., None], points, labels, radius=0.5)
    empty = large_margin(two_classes, points[:0], labels[:0], radius=0.5)
    assert float(empty.detach()) == 0.0
