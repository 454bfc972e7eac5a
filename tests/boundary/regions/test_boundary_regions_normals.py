"""Normals three ways and the radius of planarity, on planes, spheres and networks."""

import math

import pytest
import torch
from torch import nn

from levelset import Component
from levelset.boundary import angles, normals, planarity
from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.shapes import Plane, Sphere


@pytest.mark.parametrize("method", ["gradient", "displacement", "plane"])
def test_the_normal_of_a_plane_is_one_three_ways(noise, generator, method):
    direction = torch.nn.functional.normalize(noise(1, 4), dim=1)
    plane = Plane(normal=tuple(direction[0].tolist()))
    points = plane.project(noise(6, 4))
    found = normals(plane, points, method=method, radius=0.3, tol=1e-12, generator=generator)
    assert torch.allclose(found, direction.expand(6, 4), atol=1e-9)


@pytest.mark.parametrize("method", ["displacement", "plane"])
def test_on_a_sphere_they_near_the_gradient_as_the_radius_falls(noise, generator, method):
    points = Sphere().project(noise(5, 3))
    exact = normals(Sphere(), points)
    assert torch.allclose(exact, points, atol=1e-12)
    options = {"method": method, "draws": 400, "generator": generator}
    far = angles(normals(Sphere(), points, radius=0.6, **options), exact)
    near = angles(normals(Sphere(), points, radius=0.06, **options), exact)
    assert float(near.max()) < 0.02
    assert float(far.mean()) > 3.0 * float(near.mean())


def test_the_field_of_a_network_grows_along_its_normals(settled, noise):
    model = settled(nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 2)), 1).double()
    points = noise(4, 2, 3)
    field = Component(nn.Sequential(nn.Flatten(), model), 0)
    found = normals(field, points)
    assert found.shape == points.shape
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.ones(4).double())
    with torch.no_grad():
        assert bool((field(points + 1e-4 * found) > field(points)).all())


@pytest.mark.messages
def test_angles_are_exact_when_small():
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[1.0, 1e-9], [0.0, 3.0], [-1.0, 0.0]], dtype=torch.float64)
    expected = [1e-9, math.pi / 2, math.pi]
    assert angles(one, other).tolist() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ShapeError, match="shape of `points`"):
        angles(one, other[:, :1])


def test_the_angles_of_a_sphere_are_arctangents_and_it_bends_at_a_tenth(noise, generator):
    points = Sphere(radius=2.0).project(noise(5, 3))
    radii = (0.05, 0.1, 0.2, 0.4, 0.8)
    result = planarity(
        Sphere(radius=2.0), points, radii=radii, limit=0.15, draws=40, tol=1e-12,
        generator=generator,
    )  # fmt: skip
    expected = torch.tensor([math.atan(r / 2.0) for r in radii], dtype=torch.float64)
    assert torch.allclose(result.angle, expected.expand(5, 5), atol=1e-9)
    height = [2.0 * (1.0 - math.cos(a)) / r for a, r in zip(expected, radii, strict=True)]
    assert torch.allclose(result.deviation, torch.tensor(height).double().expand(5, 5), atol=1e-9)
    assert result.radius.tolist() == pytest.approx([2.0 * math.tan(0.15)] * 5, rel=0.01)
    assert len(result[torch.tensor([True, False, True, False, False])]) == 2


def test_a_plane_never_bends(noise):
    points = Plane(normal=(1.0, 0.0, 0.0)).project(noise(3, 3))
    result = planarity(Plane(normal=(1.0, 0.0, 0.0)), points, radii=(0.1, 1.0), draws=5)
    assert bool(result.radius.isinf().all())
    assert result.summary()["flat_throughout"] == 3


def test_what_has_no_normal_is_refused(noise):
    points = noise(3, 3)
    with pytest.raises(ParameterError, match="`radius` must be given"):
        normals(Sphere(), points, method="plane")
    with pytest.raises(ParameterError, match="`draws` be at least 4"):
        normals(Sphere(), points, method="plane", radius=0.1, draws=3)
    with pytest.raises(FieldError, match="must have a gradient at each point"):
        normals(lambda x: (x * 0.0).sum(1), points)
    with pytest.raises(ShapeError, match="one equation, got 3"):
        normals(nn.Identity(), points)
    with pytest.raises(ParameterError, match="positive and increasing"):
        planarity(Sphere(), points, radii=(0.2, 0.1))
