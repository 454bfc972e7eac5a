"""Cuts through surfaces."""

import pytest
import torch

from levelset import plots
from levelset.errors import ParameterError
from levelset.reconstruction import Fast, surface


@pytest.fixture(scope="module")
def ball():
    draws = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double()
    return surface(
        torch.nn.functional.normalize(draws, dim=1), settings=Fast(grid=32), resolution=20
    )


def test_the_zero_line_is_a_circle(ball):
    axes = plots.cut(ball, axis=0, at=0.6)
    zero = axes.collections[2].get_paths()[0].vertices
    radius = (zero**2).sum(1) ** 0.5
    assert abs(radius - 0.8).max() < 0.03
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("y", "z")


def test_points_near_the_plane_are_drawn(ball):
    axes = plots.cut(ball)
    drawn = axes.lines[0].get_xydata()
    near = ball.points[ball.points[:, 2].abs() < 0.012]
    assert len(drawn) == len(near) > 0


def test_an_axis_that_is_not_there_is_refused(ball):
    with pytest.raises(ParameterError, match="`axis` must be 0, 1 or 2"):
        plots.cut(ball, axis=3)
