import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from levelset import Classifier
from levelset.boundary import certified_radius, distance
from levelset.errors import FieldError, ParameterError, ShapeError

NOWHERE = (-math.inf, math.inf)


def network(settled, *, inputs=3, hidden=6, classes=3, seed=0):
    net = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    return settled(net, seed, torch.float64).eval()


def pictures(settled, seed=1, dtype=torch.float64):
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(36, 12), nn.Softplus(), nn.Dropout(), nn.Linear(12, 3),
    )  # fmt: skip
    return settled(net, seed, dtype).eval()


def affine_distances(layer, points, labels, power):
    """Return |margin| over the dual norm of the weights, the least over the rivals."""
    logits = layer(points)
    rows = []
    for point, label in zip(logits, labels, strict=True):
        gaps = [
            (point[label] - point[j])
            / torch.linalg.vector_norm(layer.weight[label] - layer.weight[j], ord=power)
            for j in range(len(point)) if j != label
        ]  # fmt: skip
        rows.append(torch.stack(gaps).min())
    return torch.stack(rows).detach()


@pytest.mark.parametrize(("norm", "power"), [(math.inf, 1), (2.0, 2)])
def test_of_an_affine_model_it_is_the_distance_to_the_nearest_hyperplane(
    settled, noise, norm, power
):
    layer, points = settled(nn.Linear(5, 4), dtype=torch.float64), noise(7, 5)
    labels = layer(points).argmax(1)
    expected = affine_distances(layer, points, labels, power)
    found = certified_radius(layer, points, norm=norm, bounds=NOWHERE, tolerance=1e-11)
    assert bool((found <= expected).all())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def nearest_by_enumeration(net, point, label):
    """Return the exact L-infinity distance to another class, by one program a pattern."""
    w, b, v, c = (p.detach().numpy() for p in net.parameters())
    d, hidden, best = w.shape[1], len(w), math.inf
    x = point.numpy()
    box = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
    for signs in itertools.product([0.0, 1.0], repeat=hidden):
        s = np.array(signs)
        side = np.where(s > 0, -1.0, 1.0)  # w x + b >= 0 where active
        pattern = np.hstack([side[:, None] * w, np.zeros((hidden, 1))])
        for rival in set(range(len(v))) - {label}:
            row = (v[label] - v[rival]) * s
            lead = np.append(row @ w, 0.0)[None]
            upper = np.concatenate([x, -x, -side * b, [-(row @ b + c[label] - c[rival])]])
            solved = linprog(
                np.append(np.zeros(d), 1.0), np.vstack([box, pattern, lead]), upper,
                bounds=[(None, None)] * d + [(0, None)],
            )  # fmt: skip
            if solved.status == 0:
                best = min(best, solved.fun)
    return best


@pytest.mark.slow
def test_it_is_below_the_exact_distance_of_small_networks_and_not_far(settled, noise):
    ratios = []
    for seed in range(4):
        net, points = network(settled, seed=seed), 0.5 * noise(3, 3, seed=seed)
        labels = net(points).argmax(1)
        found = certified_radius(net, points, bounds=NOWHERE)
        for point, label, radius in zip(points, labels, found, strict=True):
            exact = nearest_by_enumeration(net, point, int(label))
            assert float(radius) <= exact * (1 + 1e-9)
            ratios.append(float(radius) / exact if math.isfinite(exact) else 1.0)
    assert np.median(ratios) > 0.8
    assert min(ratios) > 0.4


@pytest.mark.parametrize("norm", [math.inf, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_attack_and_no_draw_finds_another_class_within_it(settled, noise, norm, dtype):
    net = pictures(settled, dtype=dtype)
    points = torch.sigmoid(noise(6, 1, 6, 6)).to(dtype)
    labels = net(points).argmax(1)
    radius = certified_radius(net, points, norm=norm)
    assert bool((radius > 0).all())
    assert bool((radius <= distance(net, points, labels, norm=norm).distance).all())
    for seed in range(20):
        step = noise(6, 1, 6, 6, seed=seed).to(dtype)
        step = (
            step.sign()
            if math.isinf(norm)
            else step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        )
        moved = (points + radius.view(-1, 1, 1, 1) * step).clamp(0.0, 1.0)
        assert torch.equal(net(moved).argmax(1), labels)


def test_tighter_ranges_inside_only_help(settled, noise):
    net, points = pictures(settled), torch.sigmoid(noise(5, 1, 6, 6))
    deep = nn.Sequential(*list(net)[:-1], nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    deep = settled(deep, 2, torch.float64).eval()
    loose, tight = (certified_radius(deep, points, max_units=units) for units in (0, 1000))
    assert bool((tight >= loose * 0.999).all())
    assert bool((tight > 1.05 * loose).any())


def test_the_relaxation_is_at_least_as_good_as_intervals(settled, noise):
    net, points = network(settled, inputs=4, hidden=20), 0.5 * noise(5, 4)
    found = certified_radius(net, points, bounds=NOWHERE)
    w, b, v, c = net.parameters()
    labels = net(points).argmax(1)
    pre = points @ w.T + b
    radius = found.view(-1, 1) * 0.999
    low, high = pre - radius * w.abs().sum(1), pre + radius * w.abs().sum(1)
    low, high = low.relu(), high.relu()
    best = []
    for row, label in enumerate(labels):
        gap = v[label] - v
        least = (gap.clamp(min=0) @ low[row]) + (gap.clamp(max=0) @ high[row]) + c[label] - c
        best.append(torch.cat([least[:label], least[label + 1 :]]).min())
    # Within 0.999 of the radius, intervals alone would often fail.
    assert bool((torch.stack(best) < 0).any())


def test_misclassified_inputs_have_radius_0_and_constant_models_have_none(settled, noise):
    net, points = network(settled), noise(5, 3)
    labels = (net(points).argmax(1) + 1) % 3
    assert not certified_radius(net, points, labels, bounds=NOWHERE).any()
    with torch.no_grad():
        net[2].weight.zero_()
    assert certified_radius(net, points.sigmoid()).isinf().all()


def test_bounds_cut_the_ball(settled, noise):
    net, points = network(settled, seed=3), torch.sigmoid(noise(6, 3))
    inside, outside = certified_radius(net, points), certified_radius(net, points, bounds=NOWHERE)
    assert bool((inside >= outside * 0.998).all())
    assert bool((inside > outside * 1.01).any())


def test_a_tie_has_radius_0():
    layer = nn.Linear(2, 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    assert float(certified_radius(layer, torch.rand(1, 2))) == 0.0


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Linear(4, 8), nn.Linear(8, 8)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(16, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = nn.functional.leaky_relu(self.norm(self.branch(x)), 0.2) + x
        return self.head(torch.cat([y / 3, 0.3 * x - 0.7], dim=1).view(x.size(0), -1))


@pytest.mark.parametrize("norm", [math.inf, 2.0])
def test_branches_that_are_added_and_joined(settled, noise, norm):
    net, points = settled(Residual(), 4, torch.float64).eval(), noise(6, 4)
    radius = certified_radius(net, points, norm=norm, bounds=NOWHERE)
    assert bool((radius > 0).all())
    found = distance(net, points, norm=norm, bounds=NOWHERE).distance
    assert bool((radius <= found).all())
    assert float((radius / found).median()) > 0.2


def test_a_classifier_is_measured_in_the_units_of_its_points(settled, noise):
    net, points = network(settled), torch.sigmoid(noise(5, 3))
    model = Classifier(net, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 2.0])
    with torch.no_grad():
        twin = network(settled)
        twin[0].bias -= twin[0].weight @ (mean.double() / std)
        twin[0].weight /= std
    torch.testing.assert_close(
        certified_radius(model, points), certified_radius(twin, points), rtol=3e-3, atol=0
    )


@pytest.mark.filterwarnings("ignore:certified_radius:levelset.errors.LevelSetWarning")
def test_probabilities_and_one_output_are_read_as_logits(settled, noise):
    net, points = network(settled), noise(5, 3)
    expected = certified_radius(net, points, bounds=NOWHERE)
    for head in (nn.Softmax(1), nn.LogSoftmax(1)):
        model = nn.Sequential(net, head)
        found = certified_radius(model, points, bounds=NOWHERE)
        torch.testing.assert_close(found, expected, rtol=3e-3, atol=0)
    one = network(settled, classes=1)
    two = nn.Sequential(one, nn.Linear(1, 2, dtype=torch.float64))
    with torch.no_grad():
        two[1].weight.copy_(torch.tensor([[0.0], [1.0]]))
        two[1].bias.zero_()
    expected = certified_radius(two, points, bounds=NOWHERE)
    for model in (one, nn.Sequential(one, nn.Flatten(0)), nn.Sequential(one, nn.Sigmoid())):
        found = certified_radius(model, points, bounds=NOWHERE)
        torch.testing.assert_close(found, expected, rtol=3e-3, atol=0)


def test_float32_is_rounded_outwards(settled, noise):
    """What float32 certifies, float64 certifies too, of the same weights."""
    net, points = pictures(settled, dtype=torch.float32), torch.sigmoid(noise(8, 1, 6, 6)).float()
    single = certified_radius(net, points, tolerance=1e-6)
    double = certified_radius(net.double(), points.double(), tolerance=1e-6)
    assert bool((single.double() <= double).all())
    torch.testing.assert_close(single.double(), double, rtol=2e-3, atol=1e-4)


class Unknown(nn.Module):
    def forward(self, x):
        return torch.sin(x)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.GELU(), r"the layer `model\.1` \(GELU\)"),
        (nn.LeakyReLU(1.5), r"the layer `model\.1` \(LeakyReLU\)"),
        (nn.LayerNorm(6), r"LayerNorm"),
        (Unknown(), r"`sin` in the code of `model`"),
        (nn.Sequential(nn.Softmax(1), nn.Linear(6, 6)), "after a softmax"),
    ],
)
def test_layers_without_known_bounds_are_refused_by_name(settled, noise, layer, words):
    net = nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 3)).double()
    with pytest.raises(FieldError, match=words + r".*Supported: Linear, Conv2d"):
        certified_radius(net, noise(2, 3), bounds=NOWHERE)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(x) if x.sum() > 0 else self.head(-x)


def test_code_that_cannot_be_read_is_refused(settled, noise):
    with pytest.raises(FieldError, match=r"`model` \(Branches\) cannot be traced"):
        certified_radius(Branches().double(), noise(2, 3), bounds=NOWHERE)
    net = network(settled)
    with pytest.raises(FieldError, match="cannot be traced"):
        certified_radius(lambda x: net(x), noise(2, 3), bounds=NOWHERE)


def test_a_model_that_is_not_what_its_layers_say_is_refused(settled, noise):
    net = network(settled)
    net[1].register_forward_hook(lambda module, given, out: out + 5.0)
    with pytest.raises(FieldError, match="something else than its layers do"):
        certified_radius(net, noise(2, 3), bounds=NOWHERE)


@pytest.mark.messages
def test_bad_arguments_are_refused(settled, noise):
    net, points = network(settled), noise(2, 3).sigmoid()
    with pytest.raises(ParameterError, match="`tolerance` must lie between 0 and 1, got 0"):
        certified_radius(net, points, tolerance=0.0)
    with pytest.raises(ParameterError, match="`max_units` must be an integer"):
        certified_radius(net, points, max_units=-1)
    with pytest.raises(ParameterError, match="`norm` must be one of inf, 2, got"):
        certified_radius(net, points, norm=1)
    with pytest.raises(ParameterError, match="`points` must lie within the bounds"):
        certified_radius(net, points + 2.0)
    with pytest.raises(ShapeError, match="`labels` must have one row per point"):
        certified_radius(net, points, torch.tensor([0, 1, 2]))


def test_progress_counts_points(settled, noise):
    told = []
    certified_radius(
        network(settled), noise(5, 3), bounds=NOWHERE, batch_size=2,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(2, 5), (4, 5), (5, 5)]
