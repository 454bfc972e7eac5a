"""Surfaces from raw points: the whole way, in the points' own units."""

import math
import re

import pytest
import torch

from levelset.errors import DataError, ParameterError
from levelset.reconstruction import Fast, Paper, extract_mesh, metrics, sample_surface, surface
from levelset.shapes import Torus

SMALL = Fast(grid=32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ball(count=1500, noise=0.0, seed=0):
    """Return points on the unit sphere, and noise."""
    draws = torch.randn(count, 3, generator=seeded(seed), dtype=torch.float64)
    points = torch.nn.functional.normalize(draws, dim=1)
    return points + noise * torch.randn(count, 3, generator=seeded(seed + 1), dtype=torch.float64)


def rim_of(mesh):
    """Return the edges with one face, `(e, 2)`."""
    edges, uses = (
        mesh.faces[:, [0, 1, 1, 2, 2, 0]]
        .reshape(-1, 2)
        .sort(1)
        .values.unique(dim=0, return_counts=True)
    )
    return edges[uses == 1]


@pytest.fixture(scope="module")
def sphere():
    return surface(ball(noise=0.005), settings=SMALL, resolution=40)


def test_a_ball_is_one_closed_piece_without_handles(sphere):
    assert (sphere.mesh.watertight, sphere.mesh.components, sphere.mesh.genus) == (True, 1, 0)
    assert sphere.mesh.volume == pytest.approx(4 / 3 * math.pi, rel=0.02)
    assert (sphere.mesh.vertices.norm(dim=1) - 1).abs().max() < 0.02


def test_noise_residuals_and_summary_agree(sphere):
    found = sphere.summary()
    assert sphere.noise == pytest.approx(0.005, rel=0.25)
    # the median of |z| is 0.674 standard deviations, and the surface follows the points a little
    assert 0.2 * 0.005 < found["residual_median"] < 0.7 * 0.005
    assert found["points"] == len(sphere.points) == len(sphere.residuals) == 1500
    assert 0.95 < sphere.history[-1].quality <= 1.0
    assert [step.seconds for step in sphere.history] == sorted(s.seconds for s in sphere.history)
    assert repr(sphere).startswith("Surface(points=(")


@pytest.mark.slow
def test_each_side_is_smoothed_by_its_own_noise():
    """Of two halves with a noise of 0.001 and 0.02 each is as near the ball as if it were all."""
    points = ball(3000)
    noise = torch.where(points[:, :1] < 0.0, 0.001, 0.02)
    draws = torch.randn(points.shape, generator=seeded(1), dtype=torch.float64)
    result = surface(points + noise * draws, settings=Fast(grid=64), resolution=64)
    assert result.mesh.genus == 0
    assert any(note.startswith("The noise differs from place to place") for note in result.notes)
    assert result.outliers < 40
    places = result.mesh.vertices
    away = (places.norm(dim=1) - 1.0).abs()
    # with one noise on all of the ball they are 0.0006 and 0.0049 away
    for side, most in ((places[:, 0] < -0.1, 0.0008), (places[:, 0] > 0.1, 0.0056)):
        assert away[side].mean() < most


def test_values_are_distances_negative_inside(sphere):
    radius = torch.tensor([0.9, 1.0, 1.1], dtype=torch.float64)
    places = torch.nn.functional.normalize(torch.ones(3, 3, dtype=torch.float64), dim=1)
    values = sphere.values(places * radius[:, None])
    assert torch.allclose(values, radius - 1, atol=0.02)


@pytest.mark.parametrize(("unit", "place"), [(1e6, 3e6), (1e-6, 0.0)])
def test_units_and_place_of_the_points_are_kept(sphere, unit, place):
    found = surface(unit * ball(noise=0.005) + place, settings=SMALL, resolution=40)
    assert len(found.mesh.faces) == pytest.approx(len(sphere.mesh.faces), rel=0.01)
    radius = (found.mesh.vertices - place).norm(dim=1) / unit
    assert (radius - 1).abs().max() < 0.02
    assert found.noise / unit == pytest.approx(sphere.noise, rel=1e-3)


def test_the_same_points_give_the_same_surface_bit_for_bit(sphere):
    before = torch.random.get_rng_state()
    again = surface(ball(noise=0.005), settings=SMALL, resolution=40)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again.mesh.vertices, sphere.mesh.vertices)


def test_rows_with_nan_and_duplicates_are_dropped_and_told():
    points = torch.cat([ball(600), ball(600)[:40], torch.full((3, 3), torch.nan).double()])
    found = surface(points, settings=SMALL, resolution=24)
    assert len(found.points) == 600
    told = " ".join(found.notes)
    assert "3 of 643 rows hold NaN" in told
    assert "40 of 643 rows repeat" in told


def test_very_many_points_are_averaged_and_it_is_said(monkeypatch):
    monkeypatch.setattr("levelset.reconstruction._surface.MOST_POINTS", 400)
    found = surface(ball(1000), settings=SMALL, resolution=24)
    assert 200 < len(found.points) <= 400
    assert re.fullmatch(r"1,000 points were averaged in \d+ cells of side 0\.\d+\.", found.notes[0])
    assert (found.mesh.vertices.norm(dim=1) - 1).abs().max() < 0.03


@pytest.mark.parametrize("count", [600, 3_000])
def test_points_that_fill_a_volume_are_doubted(count):
    points = torch.rand(count, 3, generator=seeded(), dtype=torch.float64)
    found = surface(points, settings=SMALL, resolution=24)
    assert found.unsure > 0.4
    assert any("lie on no surface" in note for note in found.notes)


def test_two_objects_are_both_kept():
    apart = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
    found = surface(
        torch.cat([ball(700), ball(700, seed=5) + apart]), settings=SMALL, resolution=48
    )
    assert (found.mesh.components, found.mesh.watertight) == (2, True)
    assert found.mesh.volume == pytest.approx(8 / 3 * math.pi, rel=0.05)


def test_normals_that_are_given_decide_the_side():
    points = ball(600)
    found = surface(points, normals=-points, settings=SMALL, resolution=24)
    assert found.values(torch.zeros(1, 3, dtype=torch.float64)) > 0
    assert math.isnan(found.unsure)
    assert found.summary()["unsure"] is None


@pytest.mark.slow
def test_what_was_not_seen_is_closed_or_left_open():
    points = ball(2000)
    bowl = points[points[:, 2] < 0.6]
    closed = surface(bowl, settings=SMALL, resolution=40)
    left = surface(bowl, settings=SMALL, resolution=40, closed=False)
    assert closed.mesh.watertight
    assert "Holes were closed: " in closed.notes[0]
    assert re.search(r"about 1\.\d+ across, near \(", closed.notes[0])
    assert not left.mesh.watertight
    assert left.notes == ()
    assert left.mesh.area == pytest.approx(2 * math.pi * 1.6, rel=0.02)
    assert left.sketch.area == pytest.approx(left.mesh.area, rel=0.01)
    rim = left.mesh.vertices[rim_of(left.mesh)]
    assert float(rim[:, :, 2].min()) > 0.5
    assert float(rim[:, :, 2].max()) < 0.65


def test_previews_and_steps_are_told():
    seen, meshes = [], []
    surface(
        ball(150), settings=Fast(grid=64), resolution=24, progress=seen.append,
        preview=meshes.append,
    )  # fmt: skip
    assert any("32 cells" in step.stage for step in seen)
    assert not any("64 cells" in step.stage for step in seen)  # finer than 150 points can tell
    assert seen[-2].quality > 0.9
    assert seen[-1].stage == "done"
    assert len(meshes) == 1
    assert meshes[0].watertight


def test_an_interrupt_ends_the_fit_and_meshes_what_is_there():
    def impatient(step):
        if "32 cells" in step.stage:
            raise KeyboardInterrupt

    found = surface(ball(600), settings=Fast(grid=128), resolution=24, progress=impatient)
    assert found.mesh.watertight
    assert found.network.cells == 32


@pytest.mark.slow
def test_a_torus_is_nearer_than_the_noise():
    box = ((-1.4, -1.4, -0.4), (1.4, 1.4, 0.4))
    truth = extract_mesh(Torus(1.0, 0.3), bounds=box, resolution=128)
    points, _ = sample_surface(truth, 10_000, generator=seeded())
    points = points + 0.01 * torch.randn(points.shape, generator=seeded(1))
    found = surface(points, resolution=128)
    score = metrics(found.mesh, truth, generator=seeded())
    assert (found.mesh.genus, found.mesh.components) == (1, 1)
    assert score.surface_l1 < 0.3 * 0.01
    assert score.normal_consistency > 0.99


@pytest.mark.slow
def test_the_papers_training_gives_a_ball_too():
    settings = Paper(epochs=60, batch_size=500)
    found = surface(0.5 * ball(1000), settings=settings, resolution=32, generator=seeded())
    assert (found.mesh.components, found.mesh.genus) == (1, 0)
    assert (found.mesh.vertices.norm(dim=1) - 0.5).abs().mean() < 0.02
    assert found.values(torch.zeros(1, 3, dtype=torch.float64)) < 0


def test_resuming_needs_a_folder():
    with pytest.raises(ParameterError, match="needs the folder of the run"):
        surface(ball(100), resume=True)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (ball(49), "at least 50"),
        (ball(100) * torch.tensor([1.0, 1.0, 0.0]), "in a plane"),
        (ball(100) * torch.tensor([1.0, 0.0, 0.0]), "straight line"),
    ],
)
def test_points_that_make_no_surface_are_refused(points, message):
    with pytest.raises(DataError, match=message):
        surface(points)
