"""Clouds are cleaned and moved to the unit frame; what cannot be a surface is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from levelset.errors import DataError, ShapeError
from levelset.reconstruction._cloud import Cloud, prepare


def sphere(count: int = 400, radius: float = 1.0) -> Tensor:
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return radius * torch.nn.functional.normalize(drawn, dim=1)


def world(cloud: Cloud) -> Tensor:
    return cloud.to_world(torch.from_numpy(cloud.points))


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_frame_is_centred_has_radius_one_and_leads_back(unit):
    points = unit * (sphere() * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([5.0, -7.0, 9.0]))
    cloud = prepare(points)
    np.testing.assert_allclose(cloud.points.max(0), -cloud.points.min(0))
    assert np.linalg.norm(cloud.points, axis=1).max() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(world(cloud), points, rtol=1e-12, atol=0.0)
    assert cloud.scale == pytest.approx(3.0 * unit, rel=0.02)
    assert cloud.notes == ()
    assert len(cloud.points) == 400


@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_the_noise_of_averaged_points_is_that_before(noise):
    random = np.random.default_rng(0)
    ball = random.standard_normal((40_000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    cloud = prepare(
        torch.from_numpy(5.0 * ball + noise * random.standard_normal(ball.shape)), most=8_000
    )
    assert cloud.raw_noise is not None
    assert cloud.scale * cloud.raw_noise == pytest.approx(noise, rel=0.1)
    assert prepare(torch.from_numpy(ball[:500])).raw_noise is None


def test_means_weigh_as_their_points_do_and_a_sample_shows_the_noise():
    random = np.random.default_rng(0)
    raw = sphere(20_000).numpy() + 0.01 * random.standard_normal((20_000, 3))
    means = torch.from_numpy(raw.reshape(-1, 4, 3).mean(1))  # of four anywhere
    counts, sample = torch.full((5000,), 4), torch.from_numpy(raw[:8000])
    cloud = prepare(means, most=1000, counts=counts, sample=sample)
    assert cloud.counts.sum() == 20_000
    assert cloud.notes[-1].startswith("20,000 points were averaged in")
    assert cloud.raw_noise is not None
    assert cloud.scale * cloud.raw_noise == pytest.approx(0.01, rel=0.1)
    assert prepare(means, counts=counts).counts.tolist() == [4] * 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": torch.ones(3, dtype=torch.int64)}, r"`counts` must be 400 positive .* \(3,\)"),
        ({"counts": torch.zeros(400, dtype=torch.int64)}, r"`counts` must be 400 .* with 0"),
        ({"sample": torch.zeros(60, 2)}, r"`sample` must be at least 50 points .* \(60, 2\)"),
        ({"sample": torch.zeros(9, 3)}, r"`sample` must be at least 50 points .* \(9, 3\)"),
    ],
)
def test_counts_and_samples_that_are_none_are_refused(options, message):
    with pytest.raises(ShapeError, match=message):
        prepare(sphere(), **options)


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 1e12])
def test_a_few_points_very_far_away_are_left_out_alone_or_together(spread):
    random = np.random.default_rng(0)
    far = 1e12 + spread * random.standard_normal((10, 3))
    points = np.concatenate([sphere().numpy()[:190], far])
    cloud = prepare(torch.from_numpy(points))
    assert cloud.rows.tolist() == list(range(190))
    assert cloud.notes[-1].endswith("of 200 points lie far from all others: left out")


def test_rows_that_are_not_finite_are_left_out_and_said():
    points = sphere().float()
    points[3, 0], points[7] = torch.nan, torch.inf
    cloud = prepare(points)
    assert cloud.strays == 0
    assert cloud.notes == ("2 of 400 rows hold NaN or infinity: left out",)
    kept = [row for row in range(400) if row not in (3, 7)]
    assert cloud.rows.tolist() == kept
    assert cloud.points.dtype == np.float64
    torch.testing.assert_close(world(cloud), points[kept].double())


def test_points_that_repeat_are_left_out_and_said():
    points = sphere(100)
    cloud = prepare(torch.cat([points, points[:30]]))
    assert cloud.rows.tolist() == list(range(100))
    assert cloud.notes == ("30 of 130 rows repeat an earlier point: left out",)


def test_points_far_from_all_are_left_out_but_far_objects_stay():
    points = torch.cat([sphere(3_000), 50.0 + 100.0 * sphere(4)])
    cloud = prepare(points)
    assert cloud.strays == 4
    assert cloud.scale == pytest.approx(1.0, rel=0.05)
    assert cloud.notes == ("4 of 3,004 points lie far from all others: left out",)
    two = prepare(torch.cat([sphere(3_000), 0.1 * sphere(50) + 10.0]))
    assert (two.strays, len(two.points)) == (0, 3_050)


def test_normals_are_cut_with_the_points_and_made_unit():
    points = sphere()
    normals = 5.0 * points
    normals[2], normals[4, 1] = 0.0, torch.nan
    cloud = prepare(points, normals)
    assert cloud.notes[0].startswith("2 of 400 normals are zero or not finite (first rows: 2, 4)")
    assert cloud.normals is not None
    np.testing.assert_allclose(cloud.normals, points.numpy()[cloud.rows])


def test_the_input_is_not_touched_and_nothing_is_drawn():
    points = sphere()
    before, state = points.clone(), torch.get_rng_state()
    prepare(points)
    torch.testing.assert_close(points, before, rtol=0.0, atol=0.0)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("rows", [0, 1, 49])
def test_fewer_than_fifty_points_are_refused(rows):
    message = rf"at least 50 different finite points, got {rows} \(of 60 rows\)\. Scan more"
    points = torch.full((60, 3), torch.nan, dtype=torch.float64)
    points[:rows] = sphere(rows)
    with pytest.raises(DataError, match=message):
        prepare(points)


def test_one_point_many_times_is_refused():
    with pytest.raises(DataError, match=r"at least 50 different finite points, got 1 \(of 80"):
        prepare(torch.ones(80, 3))


def test_points_on_a_line_are_refused():
    line = torch.linspace(0.0, 4.0, 80)[:, None] * torch.tensor([1.0, 2.0, -1.0]) + 3.0
    with pytest.raises(DataError, match=r"must not all lie on a straight line .* columns"):
        prepare(line)


def test_points_in_a_plane_are_refused_with_the_command_for_curves():
    turn = torch.linspace(0.0, 6.2, 80, dtype=torch.float64)
    circle = torch.stack([turn.cos(), turn.sin(), 2.0 * turn.cos() - turn.sin()], 1)
    with pytest.raises(DataError, match=r"in a plane .* `levelset reconstruct --curve`"):
        prepare(circle)


def test_a_curve_in_space_is_refused_with_the_command_for_curves():
    turn = torch.linspace(0.0, 25.0, 500, dtype=torch.float64)
    helix = torch.stack([turn.cos(), turn.sin(), 0.3 * turn], 1)
    with pytest.raises(DataError, match=r"this is a curve\. Use `levelset reconstruct --curve`"):
        prepare(helix)


def test_a_sparse_or_noisy_surface_is_no_curve():
    for count in (50, 100, 1_000):
        assert len(prepare(sphere(count)).points) == count
    lattice = torch.cartesian_prod(torch.linspace(0, 1, 40), torch.linspace(0, 1, 40))
    bent = torch.cat([lattice, lattice[:, :1] ** 2], 1)
    assert len(prepare(bent).points) == 1_600


@pytest.mark.parametrize("shape", [(60,), (60, 2), (60, 4), (60, 3, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"`points` must have the shape \(n, "):
        prepare(torch.zeros(shape))


def test_points_in_the_plane_are_sent_to_curve():
    with pytest.raises(ShapeError, match=r"got \(60, 2\)\. For points in the plane use .*curve"):
        prepare(torch.zeros(60, 2))


def test_integers_are_refused():
    with pytest.raises(ShapeError, match=r"`points` must be floating point, got torch.int64"):
        prepare(torch.zeros(60, 3, dtype=torch.int64))


def test_normals_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"`normals` must have the shape of `points`, \(400, 3\)"):
        prepare(sphere(), sphere(10))


@pytest.mark.messages
def test_an_array_is_refused():
    with pytest.raises(ShapeError, match=r"`points` must be a torch.Tensor, got ndarray"):
        prepare(np.zeros((60, 3)))
