import pytest
import torch
from torch import nn

from levelset import Projection, attach
from levelset.reconstruction._paper import follow
from levelset.shapes import Sphere


def network(settled, outputs):
    return settled(
        nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs)), 4, torch.float64
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_without_a_step_it_is_attach_on_the_points_own_level(settled, noise, outputs):
    net, points = network(settled, outputs), noise(9, 3)
    found, levels = follow(net, points, torch.zeros(9).double(), max_step=1.0)
    wanted = attach(net, Projection.at(net, points))
    torch.testing.assert_close(found.detach(), points, rtol=0, atol=1e-15)
    direction = noise(9, 3, seed=1)
    for one, other in zip(
        torch.autograd.grad((found * direction).sum(), list(net.parameters())),
        torch.autograd.grad((wanted * direction).sum(), list(net.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    own = net(points).detach()[:, 0] if outputs == 1 else torch.zeros(9).double()
    torch.testing.assert_close(levels, own)


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_step_is_newtons_and_the_residual_falls_with_its_square(settled, noise, outputs):
    net, points = network(settled, outputs), noise(20, 3)
    ones = torch.ones(20).double()
    for _ in range(6):
        points = follow(net, points, ones, max_step=0.5)[0].detach()
    with torch.no_grad():
        good = net(points).abs().amax(1) < 1e-10
        assert int(good.sum()) >= 10
        points, share = points[good], ones[good]
        sizes = []
        for h in (1e-2, 1e-3):
            net[2].bias += h
            with torch.enable_grad():
                moved, levels = follow(net, points, share, max_step=10.0)
            sizes.append(float(net(moved).abs().amax(1).median()))
            assert levels.tolist() == [0.0] * len(points)
            net[2].bias -= h
    assert sizes[1] < 0.03 * sizes[0]


def test_a_step_that_is_cut_leaves_its_sample_on_a_level_of_its_own():
    points = torch.tensor([[3.0, 0.0, 0.0], [1.1, 0.0, 0.0]]).double()
    sphere = Sphere(1.0)

    class Module(nn.Module):
        def forward(self, x):
            return sphere(x)

    found, levels = follow(Module(), points, torch.ones(2).double(), max_step=0.5)
    assert found[:, 0].tolist() == pytest.approx([2.5, 1.0])
    assert levels.tolist() == pytest.approx([1.5, 0.0])
