import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset.errors import FieldError, ParameterError
from levelset.losses import trades

OPEN = (-math.inf, math.inf)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_without_beta_it_is_the_cross_entropy(two_classes, noise):
    points, labels = torch.sigmoid(noise(6, 3)), torch.tensor([0, 1] * 3)
    found = trades(two_classes, points, labels, radius=0.1, beta=0.0, generator=seeded())
    torch.testing.assert_close(found, functional.cross_entropy(two_classes(points), labels))


@pytest.mark.parametrize(("norm", "power"), [(math.inf, 1), (2.0, 2)])
def test_of_affine_models_it_is_the_divergence_at_a_far_side_of_the_ball(
    two_classes, noise, norm, power
):
    """Of two classes, the divergence grows with the change of the margin, to either side."""
    points, labels = noise(8, 3), torch.tensor([0, 1] * 4)
    gap = two_classes(points) @ torch.tensor([1.0, -1.0]).double()
    slope = two_classes.weight[0] - two_classes.weight[1]
    reach = 0.3 * torch.linalg.vector_norm(slope, power)
    before = functional.logsigmoid(torch.stack([gap, -gap]))
    sides = []
    for move in (reach, -reach):
        after = functional.logsigmoid(torch.stack([gap + move, -gap - move]))
        sides.append((before.exp() * (before - after)).sum(0))
    plain = functional.cross_entropy(two_classes(points), labels)
    found = trades(
        two_classes, points, labels, radius=0.3, norm=norm, beta=2.0, bounds=OPEN, steps=300,
        step_size=0.05, generator=seeded(),
    )  # fmt: skip
    # Gradient steps stay on the side on which they start.
    low, high = torch.minimum(*sides).mean(), torch.maximum(*sides).mean()
    assert plain + 2.0 * low * (1 - 1e-4) <= found <= plain + 2.0 * high * (1 + 1e-9)


def test_its_gradient_is_that_at_points_held_constant(settled, noise, check_gradient):
    net = settled(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), 1, torch.float64)
    points, labels = torch.sigmoid(noise(6, 3)), torch.tensor([0, 1, 2] * 2)
    seen = []
    hook = net.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    found = trades(net, points, labels, radius=0.2, beta=3.0, generator=seeded())
    hook.remove()
    worst = seen[-1].clone()

    def again():
        one, other = net(points).log_softmax(1), net(worst).log_softmax(1)
        divergence = (one.exp() * (one - other)).sum(1).mean()
        return functional.cross_entropy(net(points), labels) + 3.0 * divergence

    torch.testing.assert_close(found, again())
    for a, b in zip(
        torch.autograd.grad(found, net.parameters()),
        torch.autograd.grad(again(), net.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    check_gradient(net, again)


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(two_classes, noise, left_as_found):
    points, labels = torch.sigmoid(noise(4, 3)), torch.tensor([0, 1] * 2)
    call = partial(trades, two_classes, points, labels, generator=seeded())
    with left_as_found(two_classes, points, labels):
        call(radius=0.1)
    with pytest.raises(ParameterError, match="`radius` must be positive, got 0"):
        call(radius=0.0)
    with pytest.raises(ParameterError, match="`beta` must be 0 or positive, got -1"):
        call(radius=0.1, beta=-1.0)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 1"):
        trades(two_classes, points, labels + 1, radius=0.1)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        trades(lambda x: two_classes(x).detach(), points, labels, radius=0.1)
    assert float(trades(two_classes, points[:0], labels[:0], radius=0.1).detach()) == 0.0
