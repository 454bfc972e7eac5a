import pytest
import torch
from torch import nn

from levelset import Newton, Projection, attach, project
from levelset.errors import DataError, FieldError, ParameterError, ShapeError
from levelset.losses import reconstruction
from levelset.reconstruction import PointTree
from levelset.shapes import Circle, Sphere


def sphere_points(noise, count=200, seed=3):
    points = noise(count, 3, seed=seed)
    return points / points.norm(dim=1, keepdim=True)


def network(settled, outputs=1, seed=4):
    return settled(
        nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs)), seed, torch.float64
    )


def test_of_an_exact_distance_to_the_points_it_is_zero(noise):
    """With one point as the cloud, its own distance is a field that has nothing to learn."""
    point, near = noise(1, 3), noise(30, 3, seed=1)
    field = lambda x: (x - point).norm(dim=1)  # noqa: E731
    sample = Projection.at(field, near)
    found = reconstruction(
        field, sample.points, field(near), PointTree(point), point, weight=3.0, power=2.0
    )
    assert float(found) == pytest.approx(0.0, abs=1e-15)


def test_it_is_the_sum_over_levels_of_the_means(noise):
    cloud, field = sphere_points(noise), Sphere(1.0)
    points = torch.cat([noise(6, 3, seed=s) for s in (5, 6, 7)])
    levels = torch.tensor([0.0] * 6 + [0.3] * 6 + [-0.1, 0.2, -0.4, 0.5, 0.25, 0.6]).double()
    distance = torch.cdist(points, cloud).min(1).values
    for power in (1.0, 2.0, 3.0):
        error = (distance - levels.abs()).abs() ** power
        expected = sum(error[k : k + 6].mean() ** (1 / power) for k in (0, 6, 12))
        expected = expected + 0.7 * field(cloud[:9] * 1.5).abs().mean()
        found = reconstruction(
            field, points, levels, PointTree(cloud), cloud[:9] * 1.5, weight=0.7, power=power
        )
        assert float(found) == pytest.approx(float(expected), rel=1e-12)


def test_of_a_curve_both_values_count(noise):
    cloud, field = noise(40, 3), Circle()
    found = reconstruction(
        field, cloud, torch.zeros(40).double(), PointTree(cloud), cloud, weight=2.0
    )
    assert float(found) == pytest.approx(float(2.0 * field(cloud).abs().sum(1).mean()), rel=1e-12)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_gradient_is_that_of_samples_projected_anew(settled, noise, power, outputs):
    """Eq. 13 with Eq. 8 against central differences of the parameters, samples re-projected."""
    net, cloud = network(settled, outputs), PointTree(noise(60, 3))
    starts, on_data = noise(12, 3, seed=1), noise(9, 3, seed=2)
    sample = project(net, starts, tol=1e-13, method=Newton(max_iter=60))
    sample = sample[sample.converged]
    assert len(sample) >= 6
    levels = torch.zeros(len(sample)).double()

    def loss(points):
        return reconstruction(net, points, levels, cloud, on_data, weight=0.6, power=power)

    parameters = list(net.parameters())
    gradients = torch.autograd.grad(loss(attach(net, sample)), parameters)
    scale, step = max(float(g.abs().max()) for g in gradients), 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for entry in range(0, parameter.numel(), 3):
            sides = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter.view(-1)[entry] += sign * step
                again = project(net, sample.points, tol=1e-14, method=Newton(max_iter=10))
                sides.append(float(loss(again.points).detach()))
                with torch.no_grad():
                    parameter.view(-1)[entry] -= sign * step
            expected = (sides[0] - sides[1]) / (2 * step)
            assert abs(float(gradient.view(-1)[entry]) - expected) < 1e-6 * scale


def test_samples_on_their_own_levels_move_the_levels(settled, noise):
    """A sample of level t, held on t by re-projection, moves as the gradient says."""
    net, cloud = network(settled), PointTree(noise(60, 3))
    points, on_data = noise(10, 3, seed=1), noise(3, 3, seed=2)
    sample = Projection.at(net, points)
    with torch.no_grad():
        levels = net(points).squeeze(1)

    def loss(at):
        return reconstruction(net, at, levels, cloud, on_data, weight=0.0)

    bias = net[2].bias
    (gradient,) = torch.autograd.grad(loss(attach(net, sample)), bias)
    sides, step = [], 1e-5
    for sign in (1.0, -1.0):
        with torch.no_grad():
            bias += sign * step
        lifted = lambda x, y: net(x).squeeze(1) - y  # noqa: E731
        again = project(lifted, points, labels=levels, tol=1e-14, method=Newton(max_iter=10))
        sides.append(float(loss(again.points).detach()))
        with torch.no_grad():
            bias -= sign * step
    assert float(gradient) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6)


def test_samples_in_place_give_no_nan(settled, noise):
    net, cloud = network(settled), noise(5, 3)
    sample = attach(net, Projection.at(net, cloud))
    loss = reconstruction(
        net, sample, torch.zeros(5).double(), PointTree(cloud), cloud, weight=0.0, power=2.0
    )
    gradients = torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
    assert float(loss.detach()) == 0.0
    assert all(float(g.abs().max()) == 0.0 for g in gradients)


@pytest.mark.messages
def test_arguments_are_left_alone_and_bad_ones_refused(settled, noise, left_as_found):
    net, points, cloud = network(settled), noise(5, 3), PointTree(noise(9, 3))
    levels = torch.zeros(5).double()
    with left_as_found(net, points, levels, cloud.points):
        reconstruction(net, points, levels, cloud, points, weight=1.0)
    with pytest.raises(ShapeError, match="`levels` must hold one level a sample"):
        reconstruction(net, points, levels[:3], cloud, points, weight=1.0)
    with pytest.raises(ParameterError, match="`weight` must be 0 or positive, got -1"):
        reconstruction(net, points, levels, cloud, points, weight=-1.0)
    with pytest.raises(ParameterError, match=r"`power` must be at least 1, got 0\.5"):
        reconstruction(net, points, levels, cloud, points, weight=1.0, power=0.5)
    with pytest.raises(FieldError, match="must map `on_data`"):
        reconstruction(lambda x: x.sum(), points, levels, cloud, points, weight=1.0)
    with pytest.raises(DataError, match="must be finite"):
        reconstruction(net, points * torch.nan, levels, cloud, points, weight=1.0)
    none = reconstruction(net, points[:0], levels[:0], cloud, points[:0], weight=1.0)
    assert float(none.detach()) == 0.0
