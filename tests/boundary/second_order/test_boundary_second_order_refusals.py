import pytest
import torch
from torch import nn

from levelset import project
from levelset.boundary import SoftplusSurrogate, curvature
from levelset.errors import FieldError
from levelset.shapes import Sphere


def network(settled, activation, outputs, dtype, d=6):
    layers = [nn.Linear(d, 16), activation, nn.Linear(16, 16), activation, nn.Linear(16, outputs)]
    return settled(nn.Sequential(*layers), dtype=dtype)


TOPS = {
    "sigmoid": (1, lambda out: out[:, 0].sigmoid() - 0.5),
    "tanh": (1, lambda out: out[:, 0].tanh()),
    "softmax": (2, lambda out: out.softmax(1)[:, 0] - 0.5),
    "difference of a softmax": (2, lambda out: out.softmax(1).diff(dim=1)[:, 0]),
    "log-softmax": (2, lambda out: out.log_softmax(1).diff(dim=1)[:, 0]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("top", TOPS)
def test_a_smooth_function_of_a_relu_network_is_flat_along_its_level_sets(
    settled, noise, top, dtype
):
    outputs, finish = TOPS[top]
    points = noise(20, 6).to(dtype)
    for activation, flat in ((nn.ReLU(), True), (nn.Tanh(), False)):
        net = network(settled, activation, outputs, dtype)
        field = lambda x, net=net: finish(net(x))  # noqa: E731
        near = project(field, points, tol=1e-6)
        near = near.points[near.converged]
        assert len(near) > 3
        for where in (points, near):
            if flat:
                with pytest.raises(FieldError, match=rf"zero along .* at {len(where)} of these"):
                    curvature(field, where, level=None)
            else:
                assert curvature(field, where, level=None).principal.abs().amin() > 0
    net = network(settled, nn.ReLU(), outputs, dtype)
    rounded = curvature(
        lambda x: finish(net(x)), points, level=None, smoothing=SoftplusSurrogate(2.0)
    )
    assert float(rounded.principal.abs().amax()) > 1e-3


def test_a_linear_model_with_a_sigmoid_is_as_flat_as_a_plane(settled, noise):
    field = settled(nn.Sequential(nn.Linear(5, 1), nn.Sigmoid()), dtype=torch.float64)
    with pytest.raises(FieldError, match="identically zero along the level set at 4 of these 4"):
        curvature(field, noise(4, 5), level=None)


@pytest.mark.parametrize("radius", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_spheres_of_any_size_in_any_units_are_not(noise, radius, scale):
    points = noise(10, 4).float()
    points = radius * points / points.norm(dim=1, keepdim=True)
    field = lambda x: scale * Sphere(radius=radius)(x)  # noqa: E731
    found = curvature(field, points, level=None).principal
    torch.testing.assert_close(found * radius, torch.ones_like(found), rtol=1e-3, atol=0)


def test_curvature_along_one_direction_alone_is_found_wherever_it_points():
    """A cylinder around each axis, and a gradient along either probe."""
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        points = torch.zeros(1, 3)
        points[0, others[0]] = 2.0
        found = curvature(lambda x, o=others: x[:, o].norm(dim=1) - 2.0, points).principal
        torch.testing.assert_close(found, torch.tensor([[0.5, 0.0]]))
    for slope in (torch.tensor([1.0, -2.0]), torch.tensor([-2.0, 1.0])):
        field = lambda x, g=slope: x @ g + 0.5 * x.square().sum(1)  # noqa: E731
        found = curvature(field, torch.zeros(1, 2)).principal
        torch.testing.assert_close(found, torch.tensor([[5.0**-0.5]]))
