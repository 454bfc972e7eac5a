import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn import datasets, svm
from torch import nn

from levelset import Margin, Newton, project
from levelset._tools.evaluation import Evaluator
from levelset.errors import FieldError, ParameterError
from levelset.losses import geometric_svm, hinge
from levelset.losses._geometric_svm import _sample, _Samples, _terms
from levelset.losses._samples import Places, places_at

LINEAR = {"alpha": -2.0, "norm": 2.0, "tol": 1e-11}


def line(weight, bias):
    layer = nn.Linear(len(weight), 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).view(1, -1))
        layer.bias.fill_(bias)
    return layer


def soft_margin(layer, points, labels, weight):
    """Return Eq. 10."""
    signs = 2.0 * labels - 1.0
    hinge = (1.0 - signs * layer(points).squeeze(1)).clamp(min=0.0)
    return hinge.mean() + weight * layer.weight.square().sum()


def test_of_affine_models_it_is_the_soft_margin_svm_value_and_gradient(noise):
    points, labels = noise(30, 4), (noise(30, seed=1) > 0).long()
    layer = line([0.7, -1.2, 0.3, 0.4], 0.2)
    found = geometric_svm(layer, points, labels, weight=0.3, **LINEAR)
    expected = soft_margin(layer, points, labels, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    for one, other in zip(
        torch.autograd.grad(found, layer.parameters()),
        torch.autograd.grad(expected, layer.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("ratio", ["distances", "output"])
def test_one_newton_step_is_enough_for_affine_models(noise, ratio):
    points, labels = noise(30, 4), (noise(30, seed=1) > 0).long()
    layer = line([0.7, -1.2, 0.3, 0.4], 0.2)
    value = geometric_svm(layer, points, labels, weight=0.3, ratio=ratio, max_iter=1, **LINEAR)
    expected = soft_margin(layer, points, labels, 0.3)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)
    for one, other in zip(
        torch.autograd.grad(value, layer.parameters()),
        torch.autograd.grad(expected, layer.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_a_share_of_the_calls_has_the_same_mean(settled, noise):
    model = settled(nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3)), 3, torch.float64)
    points, labels = noise(9, 4), torch.tensor([0, 1, 2] * 3)
    loss = partial(geometric_svm, model, points, labels, weight=0.2, norm=2, ratio="output")
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([loss(share=0.25, generator=generator).detach() for _ in range(200)])
    kinds, counts = values.unique(return_counts=True)
    plain, sampled = kinds.tolist()
    assert plain == pytest.approx(float(hinge(model, points, labels).detach()), rel=1e-12)
    expected = float(loss().detach())
    assert plain + 0.25 * (sampled - plain) == pytest.approx(expected, rel=1e-9)
    assert abs(int(counts[1]) - 50) < 19  # three standard deviations


def two_classes(name):
    """Return two classes of a data set of scikit-learn, standardised, three features."""
    data = getattr(datasets, f"load_{name}")()
    rows = data.target < 2
    points, labels = data.data[rows][:, :3], data.target[rows]
    return (points - points.mean(0)) / points.std(0), labels


def lowest(weight, cuts, constants, start):
    """Return where the penalty plus the highest of the cutting planes is least."""
    d, tail = len(start) - 1, np.ones((len(cuts), 1))
    height = max(0.0, (cuts @ start + constants).max())
    found = minimize(
        lambda v: (weight * v[:d] @ v[:d] + v[-1], np.append(2 * weight * v[:d], [0.0, 1.0])),
        np.append(start, height), jac=True, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        bounds=[(-20, 20)] * (d + 1) + [(0, None)],
        constraints={
            "type": "ineq", "fun": lambda v: v[-1] - cuts @ v[:-1] - constants,
            "jac": lambda v: np.hstack([-cuts, tail]),
        },
    )  # fmt: skip
    return found.x[:-1]


def minimised(points, labels, weight):
    """Return the weights at the minimum of Eq. 11, by cutting planes under the loss alone."""
    x, y = torch.tensor(points), torch.tensor(labels)
    d, slopes, offsets = x.shape[1], [], []
    here = np.append(np.full(d, 0.1), 0.0)
    for _ in range(200):
        layer = line(here[:d], here[d])
        loss = geometric_svm(layer, x, y, weight=weight, **LINEAR)
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, layer.parameters())])
        slope = slope.numpy().copy()
        slope[:d] -= 2 * weight * here[:d]  # of the hinge alone
        slopes.append(slope)
        offsets.append(float(loss.detach()) - weight * here[:d] @ here[:d] - slope @ here)
        best = lowest(weight, np.array(slopes), np.array(offsets), here)
        if np.abs(best - here).max() < 1e-7:
            break
        here = best
    return here[:d]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer"])
def test_its_minimum_of_affine_models_is_that_of_scikit_learn(name):
    points, labels = two_classes(name)
    weight = 0.05
    reference = svm.SVC(kernel="linear", C=1 / (2 * weight * len(points)), tol=1e-9)
    reference.fit(points, labels)
    found = minimised(points, labels, weight)
    assert np.abs(found - reference.coef_[0]).max() < 1e-4


class Radial(nn.Module):
    """A network of the distance from 0: every projection stays on its ray, and is the nearest."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, points):
        radius = points.norm(dim=1, keepdim=True)
        return (3.0 * radius - 4.0 + 0.5 * self.inner(radius)).squeeze(1)


def differences(loss, parameter, place, step=1e-6):
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            parameter[place] += sign * step
        sides.append(float(loss().detach()))
        with torch.no_grad():
            parameter[place] -= sign * step
    return (sides[0] - sides[1]) / (2 * step)


def check_gradients(model, loss, again, rel=1e-5):
    for parameter in model.parameters():
        (gradient,) = torch.autograd.grad(loss(), parameter)
        place = tuple(int(i) for i in torch.unravel_index(gradient.abs().argmax(), gradient.shape))
        assert float(gradient[place]) == pytest.approx(
            differences(again, parameter, place), rel=rel, abs=1e-9
        )


def test_its_gradient_is_that_through_projecting_anew_from_the_inputs(settled, noise):
    model = settled(Radial(), 2, torch.float64)
    points, labels = noise(12, 3), torch.tensor([0, 1] * 6)
    loss = partial(geometric_svm, model, points, labels, weight=0.2, alpha=-1.5, norm=2, tol=1e-12)
    check_gradients(model, loss, loss)


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_its_gradient_is_that_through_projecting_anew_from_the_samples(settled, noise, norm):
    """A level-set point moves along its normal: the new projection starts where it is now."""
    model = settled(nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3)), 3, torch.float64)
    points, labels = noise(9, 4), torch.tensor([0, 1, 2] * 3)
    field = Margin(model)
    values, samples = _sample(field, points, labels, 50, 1e-12)
    reached = (samples.sides.values.view(2, -1) - torch.tensor([[1.0], [-1.0]])).abs() < 1e-12
    rows = ((samples.boundary.values.abs() < 1e-12) & reached.all(0)).nonzero().flatten()
    assert len(rows) > 4
    points, labels, values = points[rows], labels[rows], values[rows]
    samples = _Samples(
        samples.boundary.at(rows), samples.sides.at(torch.cat([rows, rows + len(reached[0])]))
    )

    def places(points, labels, level):
        moved = project(
            field, points, level=level, labels=labels, method=Newton(50), tol=1e-12
        ).points
        return places_at(Evaluator("test", field), moved, labels)

    def loss(samples):
        distances, width = _terms(
            field, points, labels, values, samples, alpha=-1.0, norm=norm, tol=1e-11
        )
        return ((1.0 - values.sign() * distances).clamp(min=0.0) + 0.2 * width).mean()

    def again():
        boundary, sides = samples
        two = (
            places(part, labels, level)
            for part, level in zip(sides.points.chunk(2), (1.0, -1.0), strict=True)
        )
        both = Places(*(torch.cat(pair) for pair in zip(*two, strict=True)))
        return loss(_Samples(places(boundary.points, labels, 0.0), both))

    check_gradients(model, lambda: loss(samples), again)


def test_levels_that_are_out_of_reach_count_by_proportion(noise):
    """An affine margin cut off at a half: the distances are those of the whole one."""

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = line([2.0, -1.0], 0.1)

        def forward(self, points):
            return 0.5 * torch.tanh(2.0 * self.inner(points).squeeze(1))

    points, labels = 0.1 * noise(8, 2), torch.tensor([0, 1] * 4)
    cut, whole = Cut(), line([2.0, -1.0], 0.1)
    one = geometric_svm(cut, points, labels, alpha=-2.0, norm=2.0)
    other = geometric_svm(whole, points, labels, alpha=-2.0, norm=2.0)
    assert bool(one.isfinite())
    assert float(one.detach()) == pytest.approx(float(other.detach()), rel=0.5)


@pytest.mark.slow
def test_it_widens_the_margin_of_a_network(settled):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40, 2, generator=generator, dtype=torch.float64)
    labels = (points.sum(1) > 1.0).long()
    points = points + (2.0 * labels.unsqueeze(1) - 1.0) * 0.1
    net = settled(nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2)), 0, torch.float64)
    solver = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(80):
        solver.zero_grad()
        geometric_svm(net, points, labels, weight=0.01).backward()
        solver.step()
    assert float((net(points).argmax(1) == labels).double().mean()) == 1.0
    zero = project(Margin(net), points, labels=labels)
    assert float((points - zero.points).abs().amax(1).min()) > 0.04


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(settled, noise, left_as_found):
    net = settled(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3))).double()
    points, labels = noise(4, 3), torch.tensor([0, 1, 2, 0])
    with left_as_found(net, points, labels):
        geometric_svm(net, points, labels)
    with pytest.raises(ParameterError, match="`weight` must be 0 or positive, got -1"):
        geometric_svm(net, points, labels, weight=-1.0)
    with pytest.raises(ParameterError, match="`alpha` must be negative, got 0"):
        geometric_svm(net, points, labels, alpha=0.0)
    for share in (0.0, 1.5):
        with pytest.raises(ParameterError, match=r"`share` must lie in \(0, 1\], got"):
            geometric_svm(net, points, labels, ratio="output", share=share)
    with pytest.raises(ParameterError, match="`share` must be 1 with `ratio='distances'`"):
        geometric_svm(net, points, labels, share=0.5)
    with pytest.raises(ParameterError, match="`norm` must be one of"):
        geometric_svm(net, points, labels, norm=1.0)
    with pytest.raises(ParameterError, match="`max_iter` must be an integer of at least 1, got 0"):
        geometric_svm(net, points, labels, max_iter=0)
    with pytest.raises(ParameterError, match="`tol` must be positive"):
        geometric_svm(net, points, labels, tol=0.0)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 2"):
        geometric_svm(net, points, labels + 1)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        geometric_svm(lambda x: net(x).detach(), points, labels)
    with pytest.raises(FieldError, match="must return finite logits, got NaN or infinity for 4"):
        geometric_svm(lambda x: net(x) / 0.0, points, labels)
    assert float(geometric_svm(net, points[:0], labels[:0]).detach()) == 0.0


def test_batch_norm_learns_from_the_batch_and_level_sets_are_those_of_evaluation(settled, noise):
    net = settled(
        nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2))
    ).double()
    points, labels = noise(8, 3), torch.tensor([0, 1] * 4)
    expected = geometric_svm(net.eval(), points, labels).detach()
    net.train()
    geometric_svm(net, points, labels)
    assert net.training
    assert int(net[1].num_batches_tracked) == 1
    assert bool(geometric_svm(net.eval(), points, labels).detach() != expected)
