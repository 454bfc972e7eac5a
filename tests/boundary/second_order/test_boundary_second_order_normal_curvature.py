import pytest
import torch
from torch import nn

from levelset.boundary import (
    CentralDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
    curvature,
    normal_curvature,
)
from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.shapes import Sphere, Torus


def test_along_principal_directions_it_is_the_principal_curvature(settled, noise):
    field = settled(nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 1)), dtype=torch.float64)
    points = noise(3, 5)
    whole = curvature(field, points, level=None)
    for k in range(4):
        found = normal_curvature(field, points, 7.0 * whole.directions[:, k])
        torch.testing.assert_close(found, whole.principal[:, k])


def test_euler_s_formula_on_the_torus():
    points = torch.tensor([[2.5, 0.0, 0.0]], dtype=torch.float64)
    for angle in (0.0, 0.3, 1.2):
        c, s = torch.tensor(angle).cos(), torch.tensor(angle).sin()
        tangent = torch.tensor(
            [[4.0, float(c), float(s)]], dtype=torch.float64
        )  # and a normal part
        found = normal_curvature(Torus(2.0, 0.5), points, tangent)
        assert float(found) == pytest.approx(float(c) ** 2 / 2.5 + float(s) ** 2 / 0.5, rel=1e-6)


@pytest.mark.parametrize(
    "smoothing", [CentralDifference(0.2), SoftplusSurrogate(3.0), GaussianSmoothing(0.3, 40)]
)
def test_smoothings_mean_what_they_mean_for_curvature(settled, noise, smoothing):
    field = settled(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 1)), dtype=torch.float64)
    points = noise(3, 6)
    seeded = {"generator": torch.Generator().manual_seed(1), "smoothing": smoothing}
    whole = curvature(field, points, level=None, **seeded)
    seeded["generator"] = torch.Generator().manual_seed(1)
    found = normal_curvature(field, points, whole.directions[:, 0], **seeded)
    torch.testing.assert_close(found, whole.principal[:, 0])


@pytest.mark.messages
def test_bad_tangents_and_fields_are_refused(settled, noise):
    point = torch.tensor([[1.0, 0.0, 0.0]])
    for tangent in (torch.zeros(1, 3), 5.0 * point):
        with pytest.raises(ParameterError, match=r"zero or normal to it in 1 rows \(first: 0\)"):
            normal_curvature(Sphere(), point, tangent)
    with pytest.raises(ShapeError, match="`tangents` must have the shape of `points`"):
        normal_curvature(Sphere(), point, torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"`tangents` must be a torch\.Tensor, got list"):
        normal_curvature(Sphere(), point, [[0.0, 1.0, 0.0]])
    with pytest.raises(ShapeError, match="`tangents` must be floating point"):
        normal_curvature(Sphere(), point, torch.ones(1, 3).long())
    with pytest.raises(ShapeError, match=r"`tangents` must have the shape \(n, \*d\)"):
        normal_curvature(Sphere(), point, torch.ones(3))
    with pytest.raises(ParameterError, match=r"`smoothing` must be one of .* got 0\.1"):
        normal_curvature(Sphere(), point, torch.ones(1, 3), smoothing=0.1)
    many = torch.ones(1, 15_000)
    with pytest.raises(ParameterError, match=r"15,000 would take 6\.3 GB.*only\.$"):
        normal_curvature(Sphere(), many, many, smoothing=CentralDifference(0.1))
    assert float(normal_curvature(Sphere(), point, torch.ones(1, 3).double())) == pytest.approx(1.0)
    broken = lambda x: torch.nn.functional.relu(x - 1.0).sum(1) + x.abs().pow(1.5).sum(1)  # noqa: E731
    with pytest.raises(FieldError, match=r"must be finite, .* 1 of these 1 points"):
        normal_curvature(broken, point, torch.ones(1, 3), smoothing=SoftplusSurrogate(1.0))
    relu = settled(nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 1)))
    with pytest.raises(FieldError, match="identically zero along the level set"):
        normal_curvature(relu, point, torch.ones(1, 3))
    assert normal_curvature(Sphere(), point[:0], point[:0]).shape == (0,)
