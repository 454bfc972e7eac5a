import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.losses import curvature


def model(settled, activation=None):
    return settled(
        nn.Sequential(nn.Linear(5, 9), activation or nn.Tanh(), nn.Linear(9, 3)),
        dtype=torch.float64,
    )


def test_without_weight_it_is_the_cross_entropy(settled, noise):
    net, points, labels = model(settled), noise(4, 5), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(
        curvature(net, points, labels, weight=0.0), functional.cross_entropy(net(points), labels)
    )


def test_for_small_steps_it_is_the_hessian_along_the_sign_of_the_gradient(settled, noise):
    net, points, labels, h = model(settled), noise(3, 5), torch.tensor([0, 1, 2]), 1e-5
    penalty = []
    for point, label in zip(points, labels, strict=True):
        loss = lambda x, y=label: functional.cross_entropy(net(x[None]), y[None])  # noqa: E731
        g = torch.autograd.functional.jacobian(loss, point)
        whole = torch.autograd.functional.hessian(loss, point)
        z = g.sign() / g.sign().norm()
        penalty.append((whole @ z).square().sum() * h * h)
    expected = functional.cross_entropy(net(points), labels) + 2e10 * torch.stack(penalty).mean()
    found = curvature(net, points, labels, weight=2e10, h=h)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)


def test_its_gradient_in_the_parameters_is_right(settled, noise):
    net, points, labels = model(settled), noise(3, 5), torch.tensor([0, 1, 2])
    weight = net[0].weight
    (gradient,) = torch.autograd.grad(curvature(net, points, labels, weight=0.7), weight)
    step, sides = 1e-6, []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            weight[2, 1] += sign * step
        sides.append(float(curvature(net, points, labels, weight=0.7).detach()))
        with torch.no_grad():
            weight[2, 1] -= sign * step
    assert float(gradient[2, 1]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-4)


def test_it_flattens_a_network_that_is_trained_with_it(settled):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(200, 5, generator=generator, dtype=torch.float64)
    labels = ((points - 0.5).norm(dim=1) > 0.6).long()
    bends = []
    for weight in (0.0, 4.0):
        net = model(settled, nn.ReLU())
        solver = torch.optim.Adam(net.parameters(), 0.02)
        for _ in range(150):
            solver.zero_grad()
            curvature(net, points, labels, weight=weight, h=0.5).backward()
            solver.step()
        with torch.no_grad():
            plain = functional.cross_entropy(net(points), labels)
        full = curvature(net, points, labels, weight=1.0, h=0.5).detach()
        bends.append(float(full - plain))
    assert bends[1] < 0.3 * bends[0]


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(settled, noise, left_as_found):
    net, points, labels = model(settled), noise(3, 5), torch.tensor([0, 1, 2])
    with left_as_found(net, points, labels):
        curvature(net, points, labels)
    with pytest.raises(ParameterError, match="`weight` must be at least 0"):
        curvature(net, points, labels, weight=-1.0)
    with pytest.raises(ParameterError, match="`h` must be positive"):
        curvature(net, points, labels, h=0.0)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 2"):
        curvature(net, points, labels + 1)
    with pytest.raises(ShapeError, match=r"`labels` must be integers, got torch\.float64"):
        curvature(net, points, [0.0, 1.0, 2.0])
    with pytest.raises(FieldError, match="must map points"):
        curvature(lambda x: x[..., None], points, labels)
    with pytest.raises(FieldError, match="must be differentiable in its points"):
        curvature(lambda x: x.detach(), points, labels)
    assert float(curvature(net, points[:0], labels[:0]).detach()) == 0.0


def test_models_may_write_into_their_input(settled, noise, left_as_found):
    net, points, labels = model(settled), noise(3, 5), torch.tensor([0, 1, 2])
    with left_as_found(points):
        found = curvature(lambda x: net(x.sub_(0.5)), points, labels)
    torch.testing.assert_close(found, curvature(lambda x: net(x - 0.5), points, labels))
