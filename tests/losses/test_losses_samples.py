import pytest
import torch
from torch import nn

from levelset import Margin, project
from levelset.errors import FieldError
from levelset.losses._samples import follow, margins


def test_margins_are_those_of_evaluation_mode_and_carry_no_graph(settled, noise):
    net = settled(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))).double()
    points, labels = noise(5, 3), torch.tensor([0, 1, 2, 0, 1])
    expected = Margin(net.eval())(points, labels)
    field, values = margins("test", net, points, labels)
    assert not values.requires_grad
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(field(points, labels), expected)
    # In training mode the batch is seen once, whatever the mode of the values.
    net.train()
    margins("test", net, points, labels)
    assert int(net[1].num_batches_tracked) == 1
    with pytest.raises(FieldError, match="got NaN or infinity for 2 of 5 inputs"):
        margins("test", lambda x: net.eval()(x) + x[:, :1].log(), points, labels)


def test_samples_stay_in_place_and_know_their_level(settled, noise):
    net = settled(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))).double()
    points, labels = noise(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    field = Margin(net)
    projection = project(field, points, level=0.25, labels=labels)
    moving = follow(field, projection)
    assert torch.equal(moving.points.detach(), projection.points)
    assert moving.points.requires_grad
    reached = projection.converged
    assert bool(((moving.level[reached] - 0.25).abs() <= 1e-5).all())
    assert len(follow(field, projection[torch.zeros(6, dtype=torch.bool)]).points) == 0
