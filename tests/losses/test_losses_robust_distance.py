from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset import Margin, Newton, project
from levelset.errors import FieldError, ParameterError
from levelset.losses import adversarial, robust_distance
from levelset.losses._climb import Climb
from levelset.losses._robust_distance import _rho, _sample
from levelset.losses._samples import follow, margins

OPEN = (-10.0, 10.0)


def line(weight, bias):
    layer = nn.Linear(len(weight), 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight).view(1, -1))
        layer.bias.fill_(bias)
    return layer


def network(settled, seed=3):
    net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3))
    return settled(net, seed, torch.float64)


def sampled(net, points, labels, radius, samples):
    """Return the samples of all inputs, as the loss takes them, and of which inputs they are."""
    field, values = margins("test", net, points, labels)
    climb = Climb(
        "test", net, points, radius=radius, norm=torch.inf, bounds=None, steps=20, step_size=None,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    ends = climb.across(field, labels, values)
    counted = torch.ones_like(values, dtype=torch.bool)
    return _sample(
        field, labels, values, counted, climb, ends, None, samples, max_iter=60, tol=1e-10
    )


@pytest.mark.parametrize("samples", ["intersect", "project", "both"])
def test_of_affine_models_it_is_the_closed_form(noise, samples):
    """A sample by projection is x - F w / |w|^2; a crossing lies on F = 0 anywhere."""
    w, b = [0.5, -2.0, 1.0], 0.3
    layer, points, labels = line(w, b), noise(40, 3), (noise(40, seed=1) > 0).long()
    options = {"bounds": OPEN, "tol": 1e-12, "max_iter": 60, "radius": 0.7, "step_size": 0.3}
    found = robust_distance(
        layer, points, labels, samples=samples, radius_wrong=0.2, weight_right=2.0,
        weight_wrong=0.5, generator=torch.Generator().manual_seed(0), **options,
    )  # fmt: skip
    values = layer(points).squeeze(1) * (2 * labels - 1)
    rho = values.abs() * 2.0 / layer.weight.square().sum()
    right = 2.0 * (0.7 - rho).clamp(min=0.0)
    wrong = 0.5 * (0.2 + rho)
    expected = torch.where(values > 0, right, wrong).mean()
    if samples == "project":
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    else:  # steps along signs cross elsewhere, or nowhere
        assert 0.0 < float(found.detach()) < 3.0 * float(expected.detach())


@pytest.mark.parametrize("samples", ["intersect", "project", "both"])
@pytest.mark.parametrize("adversarial", [0.0, 0.7])
def test_inputs_of_weight_0_are_not_sampled(settled, noise, samples, adversarial):
    net, points = network(settled), torch.sigmoid(noise(30, 4))
    labels = net(points).argmax(1)
    labels[::3] = (labels[::3] + 1) % 3
    right = net(points).argmax(1) == labels
    starts, reports = points + 0.05, []
    options = {
        "radius": 0.3, "steps": 4, "samples": samples, "adversarial": adversarial, "starts": starts,
    }  # fmt: skip
    loss = robust_distance(
        net, points, labels, weight_right=0.0, weight_wrong=2.0, watch=reports.append, **options
    )
    assert len(reports[0].converged) == int((~right).sum())
    parts = {
        weight: robust_distance(net, points, labels, weight_wrong=weight, **options)
        for weight in (0.0, 1.0)
    }
    hardened = robust_distance(net, points, labels, weight_right=0.0, weight_wrong=0.0, **options)
    torch.testing.assert_close(
        loss - hardened, 2.0 * (parts[1.0] - parts[0.0]), rtol=1e-9, atol=1e-12
    )


def test_crossings_lie_on_the_boundary_within_the_ball(settled, noise):
    net, points = network(settled), torch.sigmoid(noise(30, 4))
    labels = net(points).argmax(1)
    labels[:6] = (labels[:6] + 1) % 3
    field, values = margins("test", net, points, labels)
    found, rows = sampled(net, points, labels, 0.3, "intersect")
    right = values[rows] > 0
    on_boundary = field(found.points, labels[rows]).abs() <= 1e-10
    assert bool(on_boundary[right].all())
    assert bool(on_boundary[~right].any())
    move = (found.points - points[rows])[right]
    assert len(move) > 3
    assert float(move.abs().max()) <= 0.3
    # Every input that is wrong has a sample; of those that are right, only the ones crossed.
    assert int((values <= 0).sum()) == int((~right).sum())
    assert len(rows) < len(points)


def test_the_nearer_of_two_samples_counts(settled, noise):
    net, points = network(settled), torch.sigmoid(noise(30, 4))
    labels = net(points).argmax(1)
    rho = {}
    for samples in ("project", "both"):
        found, rows = sampled(net, points, labels, 0.5, samples)
        assert len(rows) == len(points)
        rho[samples] = _rho(points, found, found.points)
    assert bool((rho["both"] <= rho["project"] + 1e-9).all())
    assert bool((rho["both"] < rho["project"] - 1e-6).any())


def differences(loss, parameter, place, step=1e-6):
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            parameter[place] += sign * step
        sides.append(float(loss().detach()))
        with torch.no_grad():
            parameter[place] -= sign * step
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize("samples", ["intersect", "project"])
def test_its_gradient_is_that_through_projecting_anew_from_the_samples(settled, noise, samples):
    """A level-set point moves along its normal: the new projection starts where it is now."""
    net, points = network(settled), torch.sigmoid(noise(20, 4))
    labels = net(points).argmax(1)
    labels[:5] = (labels[:5] + 1) % 3
    field, values = margins("test", net, points, labels)
    climb = Climb(
        "test", net, points, radius=0.4, norm=torch.inf, bounds=None, steps=20, step_size=None,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    ends = climb.across(field, labels, values)
    found, rows = _sample(
        field, labels, values, values == values, climb, ends, None, samples, max_iter=60, tol=1e-12
    )
    on = (found.values.abs() <= 1e-12).nonzero().flatten()
    found, rows = found.at(on), rows[on]
    assert len(rows) > 5
    side = torch.where(values[rows] > 0, 1.0, -1.0)
    leaf = found.points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(field(leaf, labels[rows]).sum(), leaf)
    torch.testing.assert_close(slope, found.gradient)
    axis = slope.abs().argmax(1)

    def value(there):
        rho = (points[rows] - there).gather(1, axis[:, None]).squeeze(1).abs()
        return (0.4 - side * rho).clamp(min=0.0).mean()

    def again():
        fresh = project(
            Margin(net), found.points, labels=labels[rows], method=Newton(50), tol=1e-13
        )
        return value(fresh.points)

    loss = (
        (0.4 - side * _rho(points[rows], found, follow(field, found, labels[rows])))
        .clamp(min=0.0)
        .mean()
    )
    torch.testing.assert_close(loss.detach(), value(found.points), rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(loss, net.parameters())
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        place = tuple(int(i) for i in torch.unravel_index(gradient.abs().argmax(), gradient.shape))
        assert float(gradient[place]) == pytest.approx(
            differences(again, parameter, place), rel=1e-5, abs=1e-9
        )


def test_the_cross_entropy_where_the_search_ends_is_added_with_its_weight(settled, noise):
    net, points = network(settled), torch.sigmoid(noise(10, 4))
    labels = torch.tensor([0, 1] * 5)
    starts = torch.sigmoid(noise(10, 4))
    loss = partial(
        robust_distance, net, points, labels, radius=0.2, starts=starts, samples="project"
    )
    worst = adversarial(net, points, labels, radius=0.2, starts=starts)
    torch.testing.assert_close(loss(adversarial=0.7), loss() + 0.7 * worst)


def test_a_search_that_goes_on_from_its_end_gets_farther(settled, noise):
    net, points = network(settled), torch.sigmoid(noise(30, 4))
    labels = net(points).argmax(1)
    ends: list[torch.Tensor] = []
    losses = []
    for _ in range(4):
        loss = robust_distance(
            net, points, labels, radius=0.2, adversarial=1.0, steps=1, step_size=0.05,
            starts=ends[-1] if ends else points, watch=lambda d: ends.append(d.ends["search"]),
        )  # fmt: skip
        losses.append(float(loss.detach()))
    assert losses == sorted(losses)
    whole = robust_distance(
        net, points, labels, radius=0.2, adversarial=1.0, steps=4, step_size=0.05, starts=points
    )
    assert losses[-1] == pytest.approx(float(whole.detach()), rel=1e-12)


def test_inputs_that_nothing_crosses_from_have_no_loss():
    layer, points = line([1.0, 0.0], 0.0), torch.tensor([[0.9, 0.5]]).double()
    loss = robust_distance(layer, points, torch.tensor([1]), radius=0.2)
    assert float(loss.detach()) == 0.0
    assert loss.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("samples", ["intersect", "project"])
def test_it_moves_the_boundary_away_from_the_inputs(settled, samples):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(60, 2, generator=generator, dtype=torch.float64)
    labels = (points.sum(1) > 1.0).long()
    points = points + (2.0 * labels.unsqueeze(1) - 1.0) * 0.1
    net = settled(nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2)), 0, torch.float64)
    solver = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(100):
        solver.zero_grad()
        loss = robust_distance(
            net, points, labels, radius=0.08, samples=samples, bounds=OPEN, generator=generator,
            steps=10,
        )  # fmt: skip
        if step < 20:
            loss = loss + functional.cross_entropy(net(points), labels)
        loss.backward()
        solver.step()
    assert float((net(points).argmax(1) == labels).double().mean()) == 1.0
    worst = points - 0.06 * (2.0 * labels.unsqueeze(1) - 1.0)
    assert float((net(worst).argmax(1) == labels).double().mean()) > 0.95


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(settled, noise, left_as_found):
    net, points = network(settled), torch.sigmoid(noise(6, 4))
    labels, generator = torch.tensor([0, 1, 2] * 2), torch.Generator()
    call = partial(robust_distance, net, points, labels)
    with left_as_found(net, points, labels):
        call(radius=0.1, generator=generator)
    for name in ("radius", "radius_wrong", "step_size", "tol"):
        with pytest.raises(ParameterError, match=f"`{name}` must be positive, got 0"):
            call(**{"radius": 0.1, name: 0.0})
    for name in ("weight_right", "weight_wrong", "adversarial"):
        with pytest.raises(ParameterError, match=f"`{name}` must be 0 or positive, got -1"):
            call(radius=0.1, **{name: -1.0})
    with pytest.raises(ParameterError, match="`samples` must be one of intersect, project, both"):
        call(radius=0.1, samples="neither")
    with pytest.raises(ParameterError, match="`steps` must be an integer of at least 1, got 0"):
        call(radius=0.1, steps=0)
    with pytest.raises(ParameterError, match="`points` must lie within the bounds"):
        robust_distance(net, points + 1.0, labels, radius=0.1)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 2"):
        robust_distance(net, points, labels + 1, radius=0.1)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        robust_distance(lambda x: net(x).detach(), points, labels, radius=0.1)
    assert float(robust_distance(net, points[:0], labels[:0], radius=0.1).detach()) == 0.0


def test_a_generator_decides_what_is_drawn(settled, noise):
    net, points, labels = network(settled), torch.sigmoid(noise(6, 4)), torch.tensor([0, 1, 2] * 2)
    loss = lambda seed: robust_distance(  # noqa: E731
        net, points, labels, radius=0.3, generator=torch.Generator().manual_seed(seed)
    ).detach()
    assert torch.equal(loss(1), loss(1))
    assert not torch.equal(loss(1), loss(2))
