"""Numbers of quality, against surfaces whose distances are known."""

import math

import pytest
import torch

from levelset.errors import ParameterError
from levelset.reconstruction import Mesh, extract_mesh, metrics
from levelset.shapes import Sphere


def square(x=0.0, z=0.0, cells=20):
    """The unit square from x at height z."""
    ticks = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    a, b = torch.meshgrid(ticks, ticks, indexing="ij")
    vertices = torch.stack([a + x, b, torch.full_like(a, z)], 2).view(-1, 3)
    i, j = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    c = (i * (cells + 1) + j).view(-1)
    lower = torch.stack([c, c + cells + 1, c + cells + 2], 1)
    return Mesh(vertices, torch.cat([lower, torch.stack([c, c + cells + 2, c + 1], 1)]))


def test_parallel_squares_are_at_their_height_both_ways():
    found = metrics(square(), square(z=0.25), draws=2000, exact_draws=2000)
    for name in (
        "surface_l1", "surface_l2", "surface_max", "surface_accuracy", "surface_completeness",
        "surface_max_accuracy", "surface_max_completeness",
    ):  # fmt: skip
        assert getattr(found, name) == pytest.approx(0.25, rel=1e-12)
    assert found.normal_consistency == pytest.approx(1.0, rel=1e-12)
    # between samples the distance is a little more, by their spacing of about 0.01
    assert 0.25 < found.chamfer_l1 < found.chamfer_l2 < found.hausdorff < 0.26
    assert (found.precision, found.recall, found.f_score) == (0.0, 0.0, 0.0)
    near = metrics(square(), square(z=0.25), draws=2000, exact_draws=10, threshold=0.3)
    assert (near.precision, near.recall, near.f_score) == (1.0, 1.0, 1.0)


@pytest.mark.slow
def test_squares_side_by_side_have_the_moments_of_a_ramp():
    found = metrics(square(), square(x=0.5), draws=20_000, exact_draws=100_000)
    # half of each lies on the other; on the rest the distance runs evenly from 0 to 1/2
    assert found.surface_l1 == pytest.approx(1 / 8, rel=0.02)
    assert found.surface_l2 == pytest.approx(math.sqrt(1 / 24), rel=0.02)
    assert found.surface_max == pytest.approx(0.5, rel=1e-3)
    assert found.chamfer_accuracy == pytest.approx(1 / 8, abs=0.006)
    shares = metrics(square(), square(x=0.5), draws=20_000, exact_draws=10, threshold=0.1)
    assert shares.precision == pytest.approx(0.6, abs=0.02)
    assert shares.f_score == pytest.approx(
        2 * shares.precision * shares.recall / (shares.precision + shares.recall)
    )


def test_the_two_directions_are_told_apart():
    part = Mesh(square().vertices, square().faces[:400])
    part = Mesh(part.vertices, part.faces[part.vertices[part.faces][:, :, 0].amax(1) < 0.501])
    found = metrics(part, square(), draws=5000, exact_draws=20_000)
    assert found.surface_accuracy < 1e-15
    assert found.surface_max_accuracy < 1e-15
    assert found.surface_completeness == pytest.approx(1 / 8, rel=0.04)
    assert found.precision > 0.6 > found.recall
    back = metrics(square(), part, draws=5000, exact_draws=20_000)
    assert back.surface_completeness < 1e-15
    assert back.surface_accuracy == pytest.approx(found.surface_completeness, rel=0.06)
    assert found.surface_l1 == pytest.approx(
        (found.surface_accuracy + found.surface_completeness) / 2
    )


def test_equal_surfaces_are_zero_apart_and_samples_have_their_floor():
    found = metrics(square(), square(), draws=3000, exact_draws=3000)
    assert found.surface_max < 1e-14
    # two independent uniform samples: the mean distance to the nearest of n is 1 / (2 sqrt(n))
    assert found.chamfer_l1 == pytest.approx(0.5 / math.sqrt(3000), rel=0.06)


def test_normals_at_an_angle_agree_by_its_cosine():
    turned = square()
    c, s = math.cos(0.4), math.sin(0.4)
    turn = torch.tensor([[1, 0, 0], [0, c, s], [0, -s, c]], dtype=torch.float64)
    turned = Mesh(turned.vertices @ turn, turned.faces.flip(1))  # the sign counts for nothing
    found = metrics(square(), turned, draws=1000, exact_draws=10)
    assert found.normal_consistency == pytest.approx(c, rel=1e-9)


def test_spheres_have_their_topology_and_the_summary_is_all():
    box = ((-1.2,) * 3, (1.2,) * 3)
    small, large = (extract_mesh(Sphere(r), bounds=box, resolution=40) for r in (0.9, 1.0))
    found = metrics(small, large, draws=500, exact_draws=2000)
    assert found.surface_l1 == pytest.approx(0.1, abs=2e-3)
    assert (found.watertight, found.components, found.genus) == (True, 1, 0)
    assert found.summary() == vars(found)
    assert metrics(square(), large, draws=9, exact_draws=9).genus is None


def test_a_seed_is_a_result_and_nothing_else_moves(left_as_found):
    mesh, truth = square(), square(x=0.3)
    with left_as_found(mesh.vertices, truth.faces):
        one, two = (metrics(mesh, truth, draws=100, exact_draws=100) for _ in range(2))
    other = metrics(
        mesh, truth, draws=100, exact_draws=100, generator=torch.Generator().manual_seed(7)
    )
    assert one == two
    assert one.surface_l1 != other.surface_l1


@pytest.mark.parametrize("name", ["draws", "exact_draws"])
def test_options_out_of_range(name):
    with pytest.raises(ParameterError, match=f"`{name}` must be at least 1, got 0"):
        metrics(square(), square(), **{name: 0})
    with pytest.raises(ParameterError, match="`threshold` must be positive, got 0"):
        metrics(square(), square(), threshold=0.0)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "floor", "consistency"),
    [
        ("stanford-bunny", 6.57e-3, 0.9889),
        ("rocker-arm", 6.05e-3, 0.9902),
        ("fandisk", 5.88e-3, 0.9794),
    ],
)
def test_the_floor_between_samples_is_the_one_known(levelset_data, name, floor, consistency):
    """Values of an independent implementation, with other random draws."""
    truth = Mesh.read(levelset_data / "meshes" / f"{name}.ply")
    found = metrics(truth, truth)
    assert found.chamfer_l1 == pytest.approx(floor, rel=0.01)
    assert found.normal_consistency == pytest.approx(consistency, abs=1.5e-3)
    assert found.surface_max < 1e-12
