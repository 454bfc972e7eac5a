from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset import Classifier
from levelset.boundary import certified_radius, distance
from levelset.datasets import read_images
from levelset.errors import FieldError, ParameterError
from levelset.losses import interval_bound
from levelset.networks import fc
from levelset.training import initialise, train


def model(settled, *middle):
    layers = middle or (nn.Tanh(),)
    return settled(nn.Sequential(nn.Linear(4, 9), *layers, nn.Linear(9, 3)), 1, dtype=torch.float64)


@pytest.fixture
def data(noise):
    return torch.sigmoid(noise(6, 4)), torch.tensor([0, 1, 2, 0, 1, 2])


def by_hand(net, points, labels, radius):
    """Return the worst cross-entropy by the textbook: centre and width, the last layer folded."""
    low, high = (points - radius).clamp(min=0.0), (points + radius).clamp(max=1.0)
    first, last = net[0], net[2]
    centre, width = (low + high) / 2, (high - low) / 2
    centre, width = first(centre), width @ first.weight.abs().T
    low, high = torch.tanh(centre - width), torch.tanh(centre + width)
    worst = []
    for row, label in enumerate(labels):
        gap = last.weight - last.weight[label]
        upper = gap.clamp(min=0) @ high[row] + gap.clamp(max=0) @ low[row]
        worst.append(upper + last.bias - last.bias[label])
    return functional.cross_entropy(torch.stack(worst), labels)


def test_it_is_the_bound_of_the_textbook(settled, data):
    net, (points, labels) = model(settled), data
    plain = functional.cross_entropy(net(points), labels)
    for kappa in (0.0, 0.3, 1.0):
        expected = kappa * plain + (1 - kappa) * by_hand(net, points, labels, 0.2)
        found = interval_bound(net, points, labels, radius=0.2, kappa=kappa)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


@torch.no_grad()
def test_it_is_above_the_loss_anywhere_in_the_box(settled, data, noise):
    net = model(settled, nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 9)).eval()
    points, labels = data
    bound = interval_bound(net, points, labels, radius=0.1, kappa=0.0)
    for seed in range(50):
        moved = (points + 0.1 * noise(6, 4, seed=seed).sign()).clamp(0.0, 1.0)
        assert functional.cross_entropy(net(moved), labels) <= bound


@pytest.mark.parametrize(
    ("middle", "kappa"),
    [((nn.Tanh(),), 0.25), ((nn.BatchNorm1d(9), nn.Softplus()), 0.25), ((nn.Tanh(),), 0.0)],
)
def test_its_gradient_in_the_parameters_is_right(settled, data, middle, kappa, check_gradient):
    net, (points, labels) = model(settled, *middle).eval(), data
    loss = partial(interval_bound, net, points, labels, radius=0.15, kappa=kappa)
    check_gradient(net, loss, rel=1e-6)


def test_a_classifier_is_bounded_in_the_units_of_its_points(settled, data):
    net, (points, labels) = model(settled), data
    with torch.no_grad():
        twin = model(settled)
        twin[0].bias -= twin[0].weight.sum(1) * 2.0
        twin[0].weight *= 4.0
    found = interval_bound(Classifier(net, mean=0.5, std=0.25), points, labels, radius=0.1)
    torch.testing.assert_close(found, interval_bound(twin, points, labels, radius=0.1))


@pytest.mark.slow
def test_a_network_trained_by_it_is_certified_where_another_is_not():
    digits, radius = read_images("digits", split="train"), 0.1
    held_out = read_images("digits", split="test")
    shares = {}
    for name in ("plain", "interval"):
        generator = torch.Generator().manual_seed(0)
        net = initialise(fc(64, 64, 10), generator=generator)
        options = {"learning_rate": 5e-3, "batch_size": 64, "generator": generator}
        for step in range(1, 6):
            share = 0.0 if name == "plain" else step / 5
            loss = partial(interval_bound, radius=radius * max(share, 0.2), kappa=1 - share / 2)
            train(net, digits, loss=loss, epochs=6, **options)
        found = certified_radius(net.eval(), held_out.points, held_out.labels)
        shares[name] = float((found >= radius).double().mean())
        with torch.no_grad():
            right = (net(held_out.points).argmax(1) == held_out.labels).double().mean()
        assert right > 0.8
        upper = distance(net, held_out.points, held_out.labels, norm="inf", effort="quick")
        assert bool((found <= upper.distance).all())
    assert shares["interval"] > 0.5
    assert shares["interval"] > shares["plain"] + 0.3


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(settled, data, left_as_found):
    net, (points, labels) = model(settled, nn.BatchNorm1d(9), nn.ReLU()).eval(), data
    with left_as_found(net, points, labels):
        interval_bound(net, points, labels, radius=0.1)
    with pytest.raises(ParameterError, match="`radius` must be positive, got 0"):
        interval_bound(net, points, labels, radius=0.0)
    with pytest.raises(ParameterError, match="`kappa` must lie in 0 to 1, got 2"):
        interval_bound(net, points, labels, radius=0.1, kappa=2.0)
    with pytest.raises(ParameterError, match="`points` must lie within the bounds"):
        interval_bound(net, points + 1.0, labels, radius=0.1)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 2"):
        interval_bound(net, points, labels + 1, radius=0.1)
    with pytest.raises(FieldError, match=r"must map points \(6, \d+\) to \(6, k\)"):
        interval_bound(lambda x: net(x)[..., None], points, labels, radius=0.1)
    with pytest.raises(FieldError, match=r"the layer `model\.1` \(GELU\), whose bounds"):
        interval_bound(model(settled, nn.GELU()), points, labels, radius=0.1)
    assert float(interval_bound(net, points[:0], labels[:0], radius=0.1).detach()) == 0.0


def test_training_mode_is_that_of_the_logits_alone(settled, data):
    net, (points, labels) = model(settled, nn.BatchNorm1d(9), nn.ReLU()).train(), data
    steps = int(net[1].num_batches_tracked)
    interval_bound(net, points, labels, radius=0.1)
    assert net.training
    assert int(net[1].num_batches_tracked) == steps + 1
