import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from levelset.errors import FieldError, ParameterError
from levelset.losses import direct_margin

OPEN = (-math.inf, math.inf)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data(two_classes, noise):
    points = noise(40, 3)
    labels = two_classes(points).argmax(1)
    labels[:10] = 1 - labels[:10]
    return points, labels


def test_of_affine_models_it_is_log_2_for_each_input_within_reach(two_classes, data):
    """On the boundary of two classes the cross-entropy is log 2, whatever the model."""
    points, labels = data
    slope = two_classes.weight[0] - two_classes.weight[1]
    gap = (two_classes(points) @ torch.tensor([1.0, -1.0]).double()).abs()
    reached = (gap < 0.4 * slope.abs().sum()) & (torch.arange(40) >= 10)
    assert 3 < int(reached.sum()) < 27
    plain = functional.cross_entropy(two_classes(points), labels, reduction="none")
    found = direct_margin(
        two_classes, points, labels, radius=0.4, plain=0.25, bounds=OPEN, steps=60, step_size=0.1,
        generator=seeded(),
    )  # fmt: skip
    terms = (int(reached.sum()) * math.log(2.0) + plain[:10].sum()) / 40
    torch.testing.assert_close(found, 0.75 * terms + 0.25 * plain.mean(), rtol=1e-3, atol=0)


def test_its_gradient_widens_the_distance(two_classes, data):
    """That at the boundary is in proportion to the gradient of the distance."""
    points, labels = data
    points, labels = points[10:11], labels[10:11]
    two_classes.requires_grad_()
    found = direct_margin(
        two_classes, points, labels, radius=5.0, plain=0.0, bounds=OPEN, steps=60,
        generator=seeded(),
    )  # fmt: skip
    gradient = torch.autograd.grad(found, two_classes.parameters())
    slope = two_classes.weight[0] - two_classes.weight[1]
    gap = (two_classes(points) @ torch.tensor([1.0, -1.0]).double()).abs().squeeze(0)
    distance = gap / slope.abs().sum()
    wider = torch.autograd.grad(distance, two_classes.parameters())
    # The bias moves the boundary alone, wherever it was met: opposite, up to a factor.
    ratio = gradient[1] / wider[1]
    assert float(ratio[0]) < 0.0
    torch.testing.assert_close(ratio[0], ratio[1])


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(two_classes, noise, left_as_found):
    points, labels = torch.sigmoid(noise(4, 3)), torch.tensor([0, 1] * 2)
    call = partial(direct_margin, two_classes, points, labels, generator=seeded())
    with left_as_found(two_classes, points, labels):
        call(radius=0.1)
    with pytest.raises(ParameterError, match="`radius` must be positive, got 0"):
        call(radius=0.0)
    with pytest.raises(ParameterError, match="`plain` must lie in 0 to 1, got 2"):
        call(radius=0.1, plain=2.0)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 1"):
        direct_margin(two_classes, points, labels + 1, radius=0.1)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        direct_margin(lambda x: two_classes(x).detach(), points, labels, radius=0.1)
    empty = direct_margin(two_classes, points[:0], labels[:0], radius=0.1)
    assert float(empty.detach()) == 0.0
