"""Even samples: covering radii against hexagons, equal arcs, boxes, labels, refusals."""

import math

import pytest
import torch
from scipy.spatial import cKDTree
from torch import nn

from levelset import Component, Margin, Newton, sample_level_set
from levelset.errors import DataError, NotConvergedError, ParameterError, ShapeError
from levelset.shapes import Plane, Sphere, Torus


class Circle2d(nn.Module):
    """The unit circle, as a field in any dimension a sphere."""

    def forward(self, points):
        return points.norm(dim=1) - 1.0


class Ring(nn.Module):
    """A circle in space, by two equations."""

    def forward(self, points):
        return torch.stack([points[:, :2].norm(dim=1) - 1.0, points[:, 2]], dim=1)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def covering(samples, dense):
    tree = cKDTree(samples.double().numpy())
    return float(tree.query(dense.double().numpy())[0].max())


def on_torus(shape, count=200_000):
    u, v = 2.0 * math.pi * torch.rand(2, count, generator=seeded(), dtype=torch.float64)
    rho = shape.major + shape.minor * v.cos()
    return torch.stack([rho * u.cos(), rho * u.sin(), shape.minor * v.sin()], dim=1)


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sphere_is_covered_within_1_3_of_hexagons(count, dtype, noise):
    starts = noise(20, 3, dtype=dtype)
    result = sample_level_set(Sphere(), starts, count, generator=seeded())
    dense = torch.nn.functional.normalize(noise(200_000, 3, seed=2), dim=1)
    ideal = 0.6204 * math.sqrt(4.0 * math.pi / count)
    assert covering(result.points, dense) <= 1.3 * ideal
    assert len(result) == count
    assert bool(result.converged.all())
    assert result.points.dtype == dtype


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 600])
def test_a_torus_is_covered_within_1_3_of_hexagons(count, noise):
    shape = Torus()
    result = sample_level_set(shape, noise(20, 3), count, generator=seeded())
    ideal = 0.6204 * math.sqrt(shape.area() / count)
    assert covering(result.points, on_torus(shape)) <= 1.3 * ideal


@pytest.mark.parametrize(
    ("field", "size"), [(Circle2d(), 2), pytest.param(Ring(), 3, marks=pytest.mark.slow)]
)
def test_a_circle_is_cut_into_nearly_equal_arcs(field, size, noise):
    result = sample_level_set(field, noise(5, size), 40, generator=seeded())
    angle = torch.atan2(result.points[:, 1], result.points[:, 0]).sort().values
    arcs = torch.cat([angle.diff(), angle[:1] + 2.0 * math.pi - angle[-1:]])
    assert float(arcs.max()) < 1.2 * 2.0 * math.pi / 40
    assert float(result.residual.max()) <= 1e-5


def test_an_unbounded_level_set_stays_in_the_box_of_the_starts(noise):
    starts = noise(30, 3).clamp(-1.0, 1.0)
    result = sample_level_set(Plane(normal=(0.0, 0.0, 1.0)), starts, 30, generator=seeded())
    assert float(result.points.abs().max()) <= 1.001
    assert float(torch.pdist(result.points).min()) > 0.2


def test_bounds_hold_the_samples(noise):
    box = torch.tensor([[0.0, -2.0, -2.0], [2.0, 2.0, 2.0]], dtype=torch.float64)
    result = sample_level_set(Sphere(), noise(30, 3), 60, bounds=box, generator=seeded())
    assert float(result.points[:, 0].min()) >= 0.0
    cube = sample_level_set(Sphere(), noise(30, 3), 60, bounds=(-0.9, 0.9), generator=seeded())
    assert float(cube.points.abs().max()) <= 0.9


@pytest.mark.slow
def test_several_pieces_get_samples_in_proportion(noise):
    def two(points):
        left = (points - torch.tensor([2.0, 0.0]).to(points)).norm(dim=1) - 1.0
        right = (points + torch.tensor([2.0, 0.0]).to(points)).norm(dim=1) - 0.5
        return torch.minimum(left, right)

    result = sample_level_set(two, 2.0 * noise(40, 2), 60, generator=seeded())
    assert abs(int((result.points[:, 0] > 0).sum()) - 40) <= 2


def test_many_dimensions_repel_by_distance(noise):
    result = sample_level_set(Circle2d(), noise(10, 30), 50, generator=seeded())
    random = torch.nn.functional.normalize(noise(50, 30, seed=3), dim=1)
    assert torch.pdist(result.points).min() > 1.2 * torch.pdist(random).min()
    assert bool(result.converged.all())


def test_another_level_and_a_label_are_sampled(noise, settled):
    sphere = sample_level_set(Sphere(), noise(10, 3), 20, level=1.0, generator=seeded())
    assert torch.allclose(sphere.points.norm(dim=1), torch.full((20,), 2.0).double(), atol=1e-4)
    model = settled(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)), seed=2)
    field, starts = Margin(model), noise(30, 2, dtype=torch.float32)
    own = int(model(starts[:1]).argmax())
    box = (-3.0, 3.0)
    result = sample_level_set(field, starts, 20, labels=own, bounds=box, generator=seeded())
    assert result.labels.tolist() == [own] * 20
    assert float(field(result.points, result.labels).detach().abs().max()) < 1e-4


def test_progress_counts_the_rounds(noise):
    seen = []
    sample_level_set(
        Sphere(), noise(5, 3), 10, generator=seeded(), progress=lambda *at: seen.append(at)
    )
    assert seen[-1][0] == seen[-1][1] == len(seen)


def test_what_cannot_be_sampled_is_refused(noise, settled):
    starts = noise(4, 3)
    with pytest.raises(DataError, match="must hold at least one start"):
        sample_level_set(Sphere(), starts[:0], 5)
    with pytest.raises(NotConvergedError, match="none of the 4 starts"):
        sample_level_set(Sphere(), starts, 5, level=-3.0, method=Newton(max_iter=3))
    with pytest.raises(ParameterError, match="low below high"):
        sample_level_set(Sphere(), starts, 5, bounds=(1.0, -1.0))
    with pytest.raises(ShapeError, match=r"two corners \(2, 3\)"):
        sample_level_set(Sphere(), starts, 5, bounds=[[0.0, 0.0], [1.0, 1.0]])
    with pytest.raises(ParameterError, match="same for all points"):
        sample_level_set(Margin(settled(nn.Linear(3, 3))), starts, 5, labels=[0, 1, 0, 0])
    with pytest.raises(NotConvergedError, match="must lead to 50 points"):
        sample_level_set(Component(nn.Identity(), 0), noise(4, 1), 50)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_walked_in_single(dtype):
    starts = torch.randn(20, 3, generator=seeded()).to(dtype)
    samples = sample_level_set(Circle2d(), starts, 50, tol=0.04, generator=seeded())
    assert samples.points.dtype == dtype
    assert float((samples.points.double().norm(dim=1) - 1.0).abs().max()) <= 0.05
    ring = sample_level_set(Ring(), starts, 5, tol=0.04, generator=seeded())
    assert bool(ring.converged.all())


def test_points_without_coordinates_are_refused():
    with pytest.raises(ShapeError, match=r"`points` must have coordinates, got the shape \(4, 0\)"):
        sample_level_set(Circle2d(), torch.zeros(4, 0), 5)
