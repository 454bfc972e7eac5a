import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset.errors import FieldError, ParameterError
from levelset.losses import adversarial

OPEN = (-math.inf, math.inf)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("norm", "power"), [(math.inf, 1), (2.0, 2)])
def test_of_affine_models_it_is_the_loss_at_the_far_side_of_the_ball(
    two_classes, noise, norm, power, check_gradient
):
    """The margin falls by the radius times the dual norm of its slope."""
    points, labels = noise(8, 3), torch.tensor([0, 1] * 4)
    options = {"radius": 0.3, "norm": norm, "bounds": OPEN, "steps": 200, "step_size": 0.05}
    found = adversarial(two_classes, points, labels, generator=seeded(), **options)

    def expected():
        slope = two_classes.weight[0] - two_classes.weight[1]
        gap = two_classes(points) @ torch.tensor([1.0, -1.0]).double()
        margin = (1.0 - 2.0 * labels) * gap - 0.3 * torch.linalg.vector_norm(slope, power)
        return functional.softplus(-margin).mean()

    torch.testing.assert_close(found, expected(), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(found, two_classes.weight)
    (danskin,) = torch.autograd.grad(expected(), two_classes.weight)
    torch.testing.assert_close(gradient, danskin, rtol=1e-4, atol=1e-6)


def test_it_is_above_the_plain_loss_and_its_points_stay_in_the_box(settled, noise):
    net = settled(nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)), 1, torch.float64)
    points, labels = torch.sigmoid(3 * noise(9, 4)), torch.tensor([0, 1, 2] * 3)
    plain = functional.cross_entropy(net(points), labels)
    seen = []
    net.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    assert adversarial(net, points, labels, radius=0.2, generator=seeded()) > plain
    for given in seen:
        assert bool(((given >= 0) & (given <= 1)).all())
        assert float((given - points).abs().max()) <= 0.2 * (1 + 1e-12)


def test_steps_are_taken_in_evaluation_mode_and_the_loss_in_the_models_own(settled, noise):
    net = settled(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))).double()
    points, labels = torch.sigmoid(noise(6, 3)), torch.tensor([0, 1] * 3)
    adversarial(net.train(), points, labels, radius=0.1, generator=seeded())
    assert int(net[1].num_batches_tracked) == 1
    assert net.training


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(two_classes, noise, left_as_found):
    points, labels = torch.sigmoid(noise(4, 3)), torch.tensor([0, 1] * 2)
    call = partial(adversarial, two_classes, points, labels, generator=seeded())
    with left_as_found(two_classes, points, labels):
        call(radius=0.1)
    with pytest.raises(ParameterError, match="`radius` must be positive, got 0"):
        call(radius=0.0)
    with pytest.raises(ParameterError, match="`steps` must be an integer of at least 1, got 0"):
        call(radius=0.1, steps=0)
    with pytest.raises(ParameterError, match="`norm` must be one of"):
        call(radius=0.1, norm=1.0)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 1"):
        adversarial(two_classes, points, labels + 1, radius=0.1)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        adversarial(lambda x: two_classes(x).detach(), points, labels, radius=0.1)
    with pytest.raises(FieldError, match=r"must map points \(4, \d\) to \(4, k\)"):
        adversarial(lambda x: two_classes(x)[..., None], points, labels, radius=0.1)
    assert float(adversarial(two_classes, points[:0], labels[:0], radius=0.1).detach()) == 0.0
