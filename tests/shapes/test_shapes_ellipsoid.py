"""Ellipsoids, whose nearest points have no closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from levelset.errors import ParameterError
from levelset.shapes import Ellipsoid, Sphere

AXES = [(1.0, 2.0, 0.5), (1.0, 1.0, 3.0), (2.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.1, 5.0, 1.0)]


def on_it(axes: tuple[float, ...], unit: Tensor) -> Tensor:
    return unit / unit.norm(dim=1, keepdim=True) * torch.tensor(axes, dtype=unit.dtype)


@pytest.mark.parametrize("axes", AXES)
def test_nearest_points_against_a_dense_sample(noise, check_nearest, cloud, axes):
    surface = on_it(axes, noise(60_000, 3, seed=3))
    check_nearest(Ellipsoid(axes), cloud, surface, width=0.1)


@pytest.mark.parametrize("zeros", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("axes", AXES)
def test_nearest_points_from_the_planes_of_symmetry(noise, check_nearest, cloud, axes, zeros):
    points = cloud.clone()
    points[:, list(zeros)] = 0.0
    check_nearest(Ellipsoid(axes), points, on_it(axes, noise(20_000, 3, seed=3)), width=0.2)


@pytest.mark.parametrize("axes", [(1.0, 2.0), (1.0, 2.0, 0.5), (3.0, 1.0, 2.0, 0.5, 1.0)])
def test_the_displacement_is_normal(noise, axes):
    """Where the nearest point is, gradient and displacement are parallel, to 1e-9."""
    shape, points = Ellipsoid(axes), noise(300, len(axes))
    nearest = shape.project(points)
    normal = nearest / torch.tensor(axes, dtype=torch.float64).square()
    normal = normal / normal.norm(dim=1, keepdim=True)
    away = points - nearest
    across = away - (away * normal).sum(1, keepdim=True) * normal
    assert across.abs().max() < 1e-9
    outside = shape(points) > 0
    assert torch.equal((away * normal).sum(1) > 0, outside)


def test_scipy_finds_nothing_nearer(noise):
    axes = (1.0, 2.0, 0.5)
    points = noise(12, 3)

    def squared(unit, point) -> float:
        return float(((unit / (unit @ unit) ** 0.5 * axes - point) ** 2).sum())

    for point, length in zip(points, Ellipsoid(axes).distance(points).tolist(), strict=True):
        starts = noise(4, 3, seed=1).numpy()
        found = min(minimize(squared, s, args=(point.numpy(),), tol=1e-14).fun for s in starts)
        assert math.sqrt(found) == pytest.approx(length, rel=1e-7)


@pytest.mark.parametrize("tiny", [0.0, 1e-300, 1e-100, 1e-30, 1e-20, 1e-17, 1e-12, 1e-6])
def test_points_next_to_a_plane_of_symmetry_lose_no_digits(tiny):
    """Inside, near the plane, the nearest point is far from the plane and nearly known.

    For x = (0, p, q) it is the lift of (4 p / 3, 9 q / 8): gradient and displacement are parallel.
    """
    shape = Ellipsoid((1.0, 2.0, 3.0))
    points = torch.tensor([[tiny, 0.5, 0.4], [-tiny, -0.5, 0.0], [tiny, 0.0, 0.0]]).double()
    found = shape.project(points)
    y, z = 4.0 / 3.0 * points[:, 1], 9.0 / 8.0 * points[:, 2]
    lift = (1.0 - y.square() / 4.0 - z.square() / 9.0).sqrt()
    assert (found[:, 0].abs() - lift).abs().max() <= 2 * tiny + 1e-12
    assert (found[:, 1] - y).abs().max() <= 2 * tiny + 1e-12
    assert (found[:, 2] - z).abs().max() <= 2 * tiny + 1e-12
    assert torch.equal(found.sign()[points != 0], points.sign()[points != 0])
    assert shape(found).abs().max() < 1e-14


def test_points_outside_on_a_plane_of_symmetry_stay_on_it():
    points = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, -4.0], [0.0, 1.99, 0.0]]).double()
    found = Ellipsoid((1.0, 2.0, 3.0)).project(points)
    assert found[:2, 0].abs().max() == 0.0
    assert Ellipsoid((1.0, 2.0, 3.0))(found).abs().max() < 1e-14


@settings(max_examples=100)
@given(
    st.lists(st.floats(-1.3, 1.3), min_size=3, max_size=3),
    st.lists(st.floats(-1.5, 1.5), min_size=3, max_size=3),
)
def test_no_point_of_the_surface_is_nearer(logs, place):
    """Points and axes of any size: the answer beats its own neighbours and a sample."""
    axes = tuple(math.exp(log) for log in logs)
    shape, point = Ellipsoid(axes), torch.tensor([place], dtype=torch.float64)
    found = shape.project(point)
    assert shape(found).abs().item() < 1e-13
    length = (found - point).norm()
    generator = torch.Generator().manual_seed(0)
    unit = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    unit = unit / unit.norm(dim=1, keepdim=True)
    for spread in (1e-6, 1e-3, 0.1, 10.0):
        scaled = found / torch.tensor(axes, dtype=torch.float64) + spread * unit
        others = on_it(axes, scaled)
        assert ((others - point).norm(dim=1) >= length * (1 - 1e-12) - 1e-13).all()


def test_with_equal_axes_it_is_a_sphere(noise):
    points = noise(100, 4)
    assert (Ellipsoid((1.5,) * 4).project(points) - Sphere(1.5).project(points)).abs().max() < 1e-12


def test_float32_is_solved_in_double_and_rounded(noise):
    points = noise(100, 3, dtype=torch.float32)
    shape = Ellipsoid((1.0, 2.0, 0.5))
    assert shape.project(points).dtype == torch.float32
    assert torch.equal(shape.project(points), shape.project(points.double()).float())


def test_contains_and_volume(noise):
    shape = Ellipsoid((1.0, 2.0, 0.5))
    points = 4.0 * torch.rand(200_000, 3, generator=torch.Generator().manual_seed(0)) - 2.0
    share = shape.contains(points).double().mean().item()
    assert share * 64 == pytest.approx(shape.volume(), rel=0.03)
    assert Ellipsoid((2.0, 3.0)).volume() == pytest.approx(6 * math.pi)
    assert Ellipsoid((2.0, 3.0, 4.0)).volume() == pytest.approx(32 * math.pi)
    assert shape.contains(shape.project(points[:50].double()) * 0.999).all()
    assert not shape.contains(shape.project(points[:50].double()) * 1.001).any()


@pytest.mark.parametrize("axes", [(1.0, 0.0), (-1.0,), (1.0, math.nan)])
def test_the_axes_must_be_positive(axes):
    with pytest.raises(ParameterError, match=r"Ellipsoid: `axes` must be positive, got"):
        Ellipsoid(axes)
