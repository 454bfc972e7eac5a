import pytest
import torch
from torch import nn

from levelset.errors import DataError, ParameterError
from levelset.reconstruction import distance_likeness, extract_mesh
from levelset.shapes import Ellipsoid, Sphere, Torus


def sphere_points(count=20_000):
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).double()
    return points / points.norm(dim=1, keepdim=True)


def test_of_an_exact_distance_all_numbers_vanish():
    torus = Torus(0.7, 0.25)
    mesh = extract_mesh(torus, bounds=([-1.1] * 3, [1.1] * 3), resolution=64)
    found = distance_likeness(torus, mesh, band=0.1, draws=3000)
    assert found.slope < 1e-9
    assert found.error_size < 2e-3  # the mesh is not the torus
    cloud = distance_likeness(torus, torus.project(sphere_points()), band=0.1, draws=3000)
    assert cloud.slope < 1e-9
    assert 0.0 > cloud.error > -0.02  # a cloud's points are farther than its surface


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_stretched_distance_is_told_by_its_factor(factor):
    field = lambda x: factor * Sphere(1.0)(x)  # noqa: E731
    mesh = extract_mesh(Sphere(1.0), bounds=([-1.2] * 3, [1.2] * 3), resolution=64)
    found = distance_likeness(field, mesh, band=0.2, draws=4000)
    assert found.slope == pytest.approx(abs(factor - 1.0), abs=1e-9)
    assert found.slope_spread == pytest.approx(0.0, abs=1e-9)
    plain = distance_likeness(Sphere(1.0), mesh, band=0.2, draws=4000)
    assert plain.error_size < 1e-3
    # |F| - d = (factor - 1) d; the mean of d over the band is a quarter of its width: steps are
    # uniform, and their part along the normal is half of them in the mean.
    assert found.error == pytest.approx((factor - 1.0) * 0.2 / 4, rel=0.05)


def test_bent_levels_spread():
    ellipsoid = Ellipsoid((1.0, 0.6, 0.5))
    points = ellipsoid.project(sphere_points(4000) * 0.9)
    found = distance_likeness(ellipsoid, points, band=0.1, draws=3000)
    assert found.slope > 0.2
    assert found.slope_spread > 0.05


def test_networks_are_asked_in_their_own_dtype_and_left_alone(settled, left_as_found):
    network = settled(nn.Sequential(nn.Linear(3, 9), nn.Tanh(), nn.Linear(9, 1)))
    points = sphere_points(500).float()
    with left_as_found(network, points):
        one = distance_likeness(network, points, draws=200)
        other = distance_likeness(network, points, draws=200, batch_size=7)
    assert one.points == 200
    assert one.slope == pytest.approx(other.slope, rel=1e-5)
    assert one.summary()["band"] == 0.1


@pytest.mark.messages
def test_bad_arguments_are_refused():
    points = sphere_points(20)
    with pytest.raises(ParameterError, match="`band` must be positive"):
        distance_likeness(Sphere(1.0), points, band=0.0)
    with pytest.raises(ParameterError, match="`draws` must be at least 1, got 0"):
        distance_likeness(Sphere(1.0), points, draws=0)
    with pytest.raises(DataError, match="must be finite near the surface"):
        distance_likeness(lambda x: x.norm(dim=1) * torch.nan, points)
