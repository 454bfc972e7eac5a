"""Planes to draw: where their points lie, and which way they turn."""

import pytest
import torch
from torch import nn

from levelset.boundary._sections._planes import principal_view, three_inputs, witness_view
from levelset.errors import DataError, ParameterError, ShapeError


class Ball(nn.Module):
    """Class 1 outside of an ellipsoid that bends most along the third axis."""

    def forward(self, x):
        inside = 1.0 - (x * x * torch.tensor([1.0, 1.0, 9.0], dtype=x.dtype)).flatten(1).sum(1)
        return torch.stack([4.0 * inside, -inside], dim=1)


def check_axes(view):
    axes = torch.stack([view.u, view.v]).flatten(1).double()
    torch.testing.assert_close(axes @ axes.T, torch.eye(2).double(), atol=1e-6, rtol=0.0)
    for place, point in zip(view.marks.values(), view.points, strict=True):
        found = view.origin.flatten().double() + torch.tensor(place).double() @ axes
        torch.testing.assert_close(found, point.flatten().double(), atol=1e-5, rtol=1e-5)
        assert max(map(abs, place)) < view.extent


def test_three_inputs(noise):
    points = noise(3, 2, 2).float()
    view = three_inputs(nn.Flatten(), points, ["a", "b", "c"])
    check_axes(view)
    assert list(view.marks) == ["a", "b", "c"]
    assert view.classes == points.flatten(1).argmax(1).tolist()
    assert "through a, b and c" in view.text


def test_three_inputs_in_line_and_two():
    line = torch.arange(3.0).view(3, 1) * torch.ones(4)
    with pytest.raises(ParameterError, match="a, b, c are in line, and span no plane"):
        three_inputs(nn.Identity(), line, ["a", "b", "c"])
    with pytest.raises(ShapeError, match="through three inputs, got 2"):
        three_inputs(nn.Identity(), line[:2], ["a", "b"])


def test_an_input_and_its_witness():
    generator = torch.Generator().manual_seed(0)
    point = torch.tensor([0.5, 0.0, 0.1])
    view = witness_view(Ball(), point, "x", bounds=(-2.0, 2.0), generator=generator)
    check_axes(view)
    assert 0.15 < view.marks["witness"][0] < 0.25
    assert view.classes[0] == 0


def test_the_direction_that_bends_most():
    point = torch.tensor([0.9, 0.0, 0.0])
    view = principal_view(Ball(), point, "x", bounds=(-2.0, 2.0))
    check_axes(view)
    assert abs(float(view.u[0])) > 0.99
    assert abs(float(view.v[2])) > 0.99
    assert "-9" in view.text or "-8.9" in view.text


def test_nothing_near():
    constant = nn.Linear(3, 2)
    with torch.no_grad():
        constant.weight.zero_()
        constant.bias.copy_(torch.tensor([3.0, -1.0]))
    with pytest.raises(DataError, match="no point of another class was found near x"):
        witness_view(constant, torch.rand(3), "x")
