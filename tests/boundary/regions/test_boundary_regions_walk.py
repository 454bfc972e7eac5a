"""Walks: on the level set, uniform on a torus, for several equations, refused off it."""

import math

import pytest
import torch
from torch import nn

from levelset import Margin
from levelset.boundary import walk
from levelset.errors import NotConvergedError, ShapeError
from levelset.shapes import Plane, Sphere, Torus


def seeded():
    return torch.Generator().manual_seed(0)


def test_every_step_is_on_the_level_set_and_of_the_length_asked_for():
    start = torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64)
    plane = Plane(normal=(0.0, 0.0, 1.0))
    path = walk(plane, start, steps=500, step=0.25, tol=1e-9, generator=seeded())
    assert float(path.points[:, 2].abs().max()) <= 1e-9
    moves = path.points.diff(dim=0).norm(dim=1)
    assert float(moves.square().mean().sqrt()) == pytest.approx(0.25, rel=0.1)
    assert bool(path.iterations.all())


@pytest.mark.slow
def test_a_walk_over_a_torus_is_uniform_in_area():
    shape, chains, steps = Torus(major=1.0, minor=0.4), 100, 600
    start = torch.tensor([1.4, 0.0, 0.0], dtype=torch.float64)
    path = walk(shape, start, steps=steps, step=0.4, chains=chains, tol=1e-9, generator=seeded())
    late = path.points.view(chains, steps, 3)[:, 100:]
    cosine = (late[..., :2].norm(dim=2) - shape.major) / shape.minor
    error = float(cosine.mean(1).std()) / math.sqrt(chains)
    expected = shape.minor / (2.0 * shape.major)
    assert abs(float(cosine.mean()) - expected) < 4.0 * error
    assert error < 0.02


def test_a_curve_given_by_two_equations_is_followed():
    class Ring(nn.Module):
        def forward(self, points):
            return torch.stack([points[:, :2].norm(dim=1) - 1.0, points[:, 2]], dim=1)

    start = torch.tensor([1.1, 0.0, 0.2], dtype=torch.float64)
    path = walk(Ring(), start, steps=60, step=0.4, chains=3, generator=seeded())
    assert path.points.shape == (180, 3)
    assert float((path.points[:, :2].norm(dim=1) - 1.0).abs().max()) < 1e-5


def test_a_boundary_of_several_classes_is_followed_around_its_corner(linear):
    corner = linear([[0.0, 0.0], [1.0, 0.0], [0.5, 0.8]])
    start = torch.tensor([0.0, -0.2], dtype=torch.float64)
    path = walk(Margin(corner), start, steps=200, step=0.5, labels=[0], generator=seeded())
    heights = path.points @ torch.tensor([[1.0, 0.5], [0.0, 0.8]]).double()
    assert float(heights.amax(1).abs().max()) < 1e-5
    assert float(path.points[:, 1].min()) < -0.5
    assert float(path.points[:, 0].min()) < -0.5
    assert path.labels.tolist() == [0] * 200


def test_a_start_that_leads_nowhere_is_refused():
    with pytest.raises(NotConvergedError, match="must lead to the level"):
        walk(Sphere(), torch.zeros(3), steps=2, step=0.1, level=-5.0)
    with pytest.raises(ShapeError, match="must have one row"):
        walk(Sphere(), torch.ones(3), steps=2, step=0.1, labels=[0, 1])
