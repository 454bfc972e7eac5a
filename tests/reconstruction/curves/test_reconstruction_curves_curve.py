import math
import re

import numpy as np
import pytest
import torch
from scipy.interpolate import splev, splprep

from levelset import project
from levelset.errors import DataError, ParameterError, ShapeError
from levelset.reconstruction import Paper, curve
from levelset.reconstruction._curves._curve import far_from


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def spline(seed, noise, *, missing=0.0):
    """The paper's experiment: a cubic spline through six random points, 300 samples, noise."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-1, 1, (6, 3))
    knots, _ = splprep(np.concatenate([corners, corners[:1]]).T, s=0, per=True)
    truth = np.stack(splev(np.linspace(0, 1, 4000, endpoint=False), knots), 1)
    steps = np.linalg.norm(truth - np.roll(truth, 1, 0), axis=1)
    along = np.append(0.0, np.cumsum(steps[1:]))
    along, start = along / steps.sum(), random.uniform(0.1, 0.8)
    seen = truth[(along < start) | (along > start + missing)]
    chosen = seen[np.linspace(0, len(seen) - 1, 300).round().astype(int)]
    return truth, chosen + noise * random.standard_normal(chosen.shape)


def mean_distance(found, truth):
    lines = [line.numpy() for line in found.lines.lines]
    there = far_from(truth, lines, list(found.lines.closed)).mean()
    back = far_from(np.concatenate(lines), [truth], [True]).mean()
    return (there + back) / 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("noise", "missing"), [(0.01, 0.0), (0.05, 0.0), (0.01, 0.1)])
def test_splines_through_random_points_come_back(seed, noise, missing):
    truth, points = spline(seed, noise, missing=missing)
    wire = curve(torch.from_numpy(points), generator=seeded())
    assert len(wire.lines) == 1
    assert mean_distance(wire, truth) < 2.0 * noise
    assert wire.noise == pytest.approx(noise, rel=0.3)
    assert noise > 0.02 or wire.lines.closed == (True,)


def test_the_lines_are_zeros_of_the_field():
    _, points = spline(0, 0.01)
    wire = curve(torch.from_numpy(points), generator=seeded())
    unit = (wire.lines.points - wire.centre) / wire.scale
    with torch.no_grad():
        assert float(wire.network(unit.float()).norm(dim=1).max()) < 2e-6
    torch.testing.assert_close(wire.to_world(unit), wire.lines.points)
    started = unit.float() + 0.01
    assert project(wire.network, started).converged.float().mean() > 0.99


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_units_come_back_whatever_they_are(scale):
    _, points = spline(1, 0.01)
    found = curve(torch.from_numpy(scale * (points + 7.0)), generator=seeded())
    plain = curve(torch.from_numpy(points), generator=seeded())
    assert float(found.lines.lengths[0]) == pytest.approx(
        scale * float(plain.lines.lengths[0]), rel=0.02
    )
    assert found.noise == pytest.approx(scale * plain.noise, rel=0.05)
    assert found.residuals.median() < 3 * scale * 0.01


def test_in_the_plane_a_closed_curve_bounds_its_inside():
    turn = torch.arange(300).double() * 2 * math.pi / 300
    radius = 1.0 + 0.3 * (3.0 * turn).cos()
    clean = torch.stack([radius * turn.cos(), radius * turn.sin()], 1)
    noise = 0.01 * torch.randn(clean.shape, generator=seeded(), dtype=torch.float64)
    found = curve(clean + noise, generator=seeded())
    assert found.lines.closed == (True,)
    inner = (0.9 * clean - found.centre) / found.scale
    outer = (1.1 * clean - found.centre) / found.scale
    with torch.no_grad():
        assert float(found.network(inner.float()).max()) < 0
        assert float(found.network(outer.float()).min()) > 0


def test_bad_rows_are_dropped_counted_and_told():
    _, points = spline(2, 0.01)
    cloud = torch.from_numpy(np.concatenate([points, points[:5]]))
    cloud[7, 1] = torch.nan
    found = curve(cloud, generator=seeded())
    assert found.notes == (
        "1 rows with NaN or infinity were dropped",
        "5 duplicates were dropped",
    )
    assert found.residuals.isnan().nonzero().flatten().tolist() == [7]
    assert torch.equal(found.residuals[:5], found.residuals[300:305])
    assert found.summary()["points"] == 305
    assert repr(found).startswith("Curve(points=305, curves=1, closed=1, length=")


def test_history_and_arguments_and_seed(left_as_found):
    _, points = spline(3, 0.01)
    cloud, told = torch.from_numpy(points), []
    with left_as_found(cloud):
        found = curve(cloud, generator=seeded(), progress=told.append)
    assert found.history == tuple(told)
    assert [step.stage for step in told] == ["fitting"] * 6 + ["tracing"]
    assert 0.8 < told[-1].quality <= 1.0
    again = curve(cloud, generator=seeded())
    assert torch.equal(found.lines.points, again.lines.points)


@pytest.mark.parametrize(("dim", "spread"), [(2, 3.0), (3, 3.0), (2, 1e12)])
def test_outliers_do_not_change_a_circle(dim, spread):
    random = np.random.default_rng(dim)
    turn = 2 * np.pi * random.random(300)
    ring = np.pad(np.stack([np.cos(turn), np.sin(turn)], 1), ((0, 0), (0, dim - 2)))
    ring += 0.01 * random.standard_normal(ring.shape)
    strewn = spread * random.uniform(-1, 1, (30, dim))
    wire = curve(torch.from_numpy(np.concatenate([ring, strewn])), generator=seeded())
    assert wire.lines.closed == (True,)
    assert wire.summary()["length"] == pytest.approx(2 * math.pi, rel=0.02)
    assert wire.noise == pytest.approx(0.01, rel=0.3)
    assert re.fullmatch(
        r"\d+ of 330 points are strewn off all lines and were left out", wire.notes[0]
    )


def test_a_branch_is_named_with_its_place():
    random = np.random.default_rng(0)
    bar = np.stack([np.linspace(4, 6, 200), np.full(200, 3.0)], 1)
    stem = np.stack([np.full(100, 5.0), np.linspace(3, 4, 100)], 1)
    points = np.concatenate([bar, stem]) + 0.003 * random.standard_normal((300, 2))
    wire = curve(torch.from_numpy(points), generator=seeded())
    assert wire.summary()["length"] == pytest.approx(3.0, rel=0.03)
    (note,) = wire.notes
    words = re.fullmatch(
        r"a line ends on another near \((.*), (.*)\), as where curves branch.*", note
    )
    assert [float(x) for x in words.groups()] == pytest.approx([5.0, 3.0], abs=0.05)


@pytest.mark.slow
def test_the_papers_own_training_finds_a_circle():
    turn = torch.arange(120).float() * 2 * math.pi / 120
    ring = 5.0 * torch.stack([turn.cos(), turn.sin(), 0.0 * turn], 1)
    found = curve(ring, settings=Paper(epochs=250), generator=seeded())
    assert len(found.lines) == 1
    line = found.lines.points
    error = torch.hypot(line[:, :2].norm(dim=1) - 5.0, line[:, 2])
    assert float(error.mean()) < 0.25
    assert found.history[-2].loss < 0.2 * found.history[0].loss


@pytest.mark.messages
def test_bad_arguments_are_refused():
    ring = torch.from_numpy(spline(0, 0.0)[1])
    with pytest.raises(ShapeError, match=r"must be \(n, 3\) or \(n, 2\), got \(300, 4\)"):
        curve(torch.cat([ring, ring[:, :1]], 1))
    with pytest.raises(ParameterError, match="`gap` must be a share"):
        curve(ring, gap=0.7)
    with pytest.raises(DataError, match="at least 10 different finite points, got 2 of 40 rows"):
        curve(ring[:2].repeat(20, 1))
    with pytest.raises(DataError, match="no curve was found near the points"):
        curve(ring, settings=Paper(epochs=1, seconds=1e-3), generator=seeded())
