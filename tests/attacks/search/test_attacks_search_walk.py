"""Averaged planes, and the walk on them: the steps written out by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.norms import norm_of
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._walk import AveragedPlane, linearise, walk


@pytest.fixture
def problem(settled: Callable[..., nn.Module], noise: Callable[..., Tensor]) -> Problem:
    layers = nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)
    model = settled(nn.Sequential(*layers), seed=1, dtype=torch.float64)
    return Problem("test", model, noise(9, 5), None, norm=2.0, bounds=(-math.inf, math.inf))


@pytest.mark.parametrize(("norm", "q"), [(2.0, 2.0), (math.inf, 1.0), (1.0, math.inf)])
def test_a_plane_knows_its_distance(norm: float, q: float, noise: Callable[..., Tensor]) -> None:
    here, gradient, value = noise(6, 4, seed=1), noise(6, 4, seed=2), noise(6, seed=3).abs()
    plane = AveragedPlane(here, norm)
    plane.add(here, value, gradient)
    torch.testing.assert_close(plane.distance(here), value / norm_of(gradient, q))


def test_later_planes_are_averaged_and_the_first_is_whole(noise: Callable[..., Tensor]) -> None:
    here, normals, values = noise(6, 4), noise(2, 6, 4, seed=2), noise(2, 6, seed=3)
    plane = AveragedPlane(here, 2.0)
    for normal, value in zip(normals, values, strict=True):
        plane.add(here, value, normal, memory=0.75)
    sizes = normals.norm(dim=2)
    units = normals / sizes.unsqueeze(2)
    offsets = (units * here).sum(2) - values / sizes
    torch.testing.assert_close(plane.normal, 0.75 * units[0] + 0.25 * units[1])
    torch.testing.assert_close(plane.offset, 0.75 * offsets[0] + 0.25 * offsets[1])


@pytest.mark.parametrize("broken", [math.nan, math.inf, 0.0])
def test_broken_and_flat_planes_are_passed_over(
    broken: float, noise: Callable[..., Tensor]
) -> None:
    here, gradient, value = noise(6, 4), noise(6, 4, seed=2), noise(6, seed=3)
    plane = AveragedPlane(here, 2.0)
    plane.add(here, value, gradient)
    normal, offset = plane.normal.clone(), plane.offset.clone()
    gradient[2] = broken
    plane.add(here, value, gradient, memory=0.5)
    assert torch.equal(plane.normal[2], normal[2])
    assert torch.equal(plane.offset[2], offset[2])
    assert torch.equal(plane.normal[0], normal[0])  # The same plane twice is the same plane.


def test_the_projection_is_beyond_the_plane(problem: Problem) -> None:
    rows = problem.open()
    inputs = problem.points[rows]
    plane = AveragedPlane(inputs, 2.0)
    plane.add(inputs, *linearise(problem, rows, inputs, None))
    near = plane.distance(inputs)
    there = plane.project(problem, inputs, 0.1 * near)
    torch.testing.assert_close((there - inputs).norm(dim=1), 1.1 * near)
    torch.testing.assert_close(plane.distance(there), torch.zeros_like(near))


def test_the_first_step_is_a_share_of_the_projection(problem: Problem) -> None:
    rows = problem.open()
    inputs = problem.points[rows]
    plane = AveragedPlane(inputs, 2.0)
    value, gradient = linearise(problem, rows, inputs, None)
    plane.add(inputs, value, gradient)
    stride = torch.full_like(value, 0.4)
    _, end = walk(problem, rows, inputs, plane, stride, 1)
    newton = -(value / gradient.square().sum(1)).unsqueeze(1) * gradient
    torch.testing.assert_close(end, inputs + 0.4 * 1.05 * newton)


def test_witnesses_are_offered_and_the_nearest_returned(problem: Problem) -> None:
    rows = problem.open()
    inputs = problem.points[rows]
    plane = AveragedPlane(inputs, 2.0)
    plane.add(inputs, *linearise(problem, rows, inputs, None))
    told: list[None] = []
    stride = torch.full_like(problem.distance[rows], 1.2)
    nearest, _ = walk(problem, rows, inputs, plane, stride, 20, step_done=lambda: told.append(None))
    assert torch.equal(nearest, problem.distance[rows])
    assert nearest.isfinite().all()
    assert len(told) == 20
    assert (problem.gradients[rows] == 21).all()
    field = problem.margin(rows, problem.best[rows])
    assert (field < 0).all()


def test_it_settles_at_the_foot_of_a_perpendicular(problem: Problem) -> None:
    rows = problem.open()
    inputs = problem.points[rows]
    plane = AveragedPlane(inputs, 2.0)
    plane.add(inputs, *linearise(problem, rows, inputs, None))
    stride = torch.full_like(problem.distance[rows], 0.5)
    walk(problem, rows, inputs, plane, stride, 150)
    _, gradient = problem.margin_and_gradient(rows, problem.best[rows])
    way = problem.best[rows] - inputs
    cosine = torch.cosine_similarity(way, gradient, dim=1).abs()
    # All but those that stopped on a corner between two rivals.
    assert (cosine > 0.999).double().mean() >= 0.6


def test_a_rival_is_walked_to(problem: Problem) -> None:
    rows = problem.open()
    inputs = problem.points[rows]
    for rivals in ((problem.labels[rows] + 1) % 3, (problem.labels[rows] + 2) % 3):
        plane = AveragedPlane(inputs, 2.0)
        plane.add(inputs, *linearise(problem, rows, inputs, rivals))
        stride = torch.full_like(problem.distance[rows], 0.5)
        _, end = walk(problem, rows, inputs, plane, stride, 80, rivals=rivals)
        value, _ = problem.difference_and_gradient(rows, end, rivals)
        before, _ = problem.difference_and_gradient(rows, inputs, rivals)
        assert (value.abs() < 0.1 * before.abs()).double().mean() > 0.6
