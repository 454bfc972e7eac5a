import pytest
import torch
from torch import nn

from levelset import Margin, attach, project
from levelset._tools.evaluation import Evaluator
from levelset.errors import FieldError
from levelset.losses._samples import follow, margins, places_at


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


def test_places_move_with_the_parameters_as_attached_ones(settled, noise):
    net = settled(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))).double()
    points, labels = noise(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    field = Margin(net)
    projection = project(field, points, level=0.25, labels=labels)
    places = places_at(Evaluator("test", field), projection.points, labels)
    moved, attached = follow(field, places, labels), attach(field, projection)
    assert torch.equal(moved.detach(), projection.points)
    reached = projection.converged
    assert bool(((places.values[reached] - 0.25).abs() <= 1e-5).all())
    weights = noise(6, 3)
    for one, other in zip(
        torch.autograd.grad((weights * moved).sum(), net.parameters()),
        torch.autograd.grad((weights * attached).sum(), net.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    none = torch.zeros(0, dtype=torch.int64)
    assert len(follow(field, places.at(none), labels[none])) == 0
