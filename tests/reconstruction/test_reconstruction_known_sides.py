import re

import numpy as np
import pytest
import torch

from levelset.errors import ParameterError, ShapeError
from levelset.reconstruction import Fast, surface
from levelset.reconstruction._cloud import prepare
from levelset.reconstruction._orientation import orient


def torus(count, noise, seed=0):
    random = np.random.default_rng(seed)
    u, v = 2 * np.pi * random.random((2, count))
    normals = np.stack([np.cos(u) * np.cos(v), np.sin(u) * np.cos(v), np.sin(v)], 1)
    ring = np.stack([np.cos(u), np.sin(u), 0 * u], 1)
    points = ring + 0.4 * normals + noise * random.standard_normal(normals.shape)
    return points, normals


def sheet(count=800, seed=0):
    random = np.random.default_rng(seed)
    x, y = random.uniform(-1, 1, (2, count))
    return np.stack([x, y, 0.1 * np.sin(3 * x)], 1) + 0.003 * random.standard_normal((count, 3))


def oriented(points, normals=None, sensor=None):
    cloud = prepare(
        torch.from_numpy(points),
        None if normals is None else torch.from_numpy(normals),
        sensor=None if sensor is None else torch.tensor(sensor, dtype=torch.float64),
    )
    return orient(cloud)


@pytest.mark.parametrize("which", ["scattered", "one side"])
def test_flipped_normals_are_turned_and_counted(which):
    points, normals = torus(1200, 0.005)
    scattered = np.random.default_rng(1).random(1200) < 0.05
    wrong = scattered if which == "scattered" else points[:, 0] > 0.4
    given = np.where(wrong[:, None], -normals, normals)
    result = oriented(points, given)
    assert ((result.normals * normals).sum(1) > 0).mean() > 0.998
    (note,) = result.notes
    words = r"(\d+) of 1,200 normals point against .* \(first rows: (\d+),"
    count, first = re.match(words, note).groups()
    assert int(count) == pytest.approx(wrong.sum(), rel=0.02)
    assert int(first) in np.flatnonzero(wrong)[:3]


def test_right_normals_stay_to_the_bit_and_nothing_is_said():
    points, normals = torus(1200, 0.005)
    result = oriented(points, normals)
    assert result.notes == ()
    assert np.abs(result.normals - normals).max() < 1e-15


def test_inward_normals_of_a_closed_surface_stay_and_are_named():
    points, normals = torus(1200, 0.005)
    wrong = np.random.default_rng(3).random(1200) < 0.02
    result = oriented(points, np.where(wrong[:, None], normals, -normals))
    assert "the normals point inwards" in result.notes[0]
    assert "point against those around them" in result.notes[1]
    assert ((result.normals * normals).sum(1) < 0).mean() > 0.998


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_of_an_open_sheet_the_caller_says_the_side(side):
    points = sheet()
    given = np.tile([0.0, 0.0, side], (len(points), 1))
    assert (np.sign(oriented(points, given).normals[:, 2]) == side).all()
    result = oriented(points, sensor=[0.3, 0.0, 4.0 * side])
    assert (np.sign(result.normals[:, 2]) == side).all()
    assert (result.unsure, result.notes) == (0.0, ())


def test_askew_normals_are_replaced_and_counted():
    points, normals = torus(1200, 0.002)
    around = np.cross(normals, points)
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    wrong = np.random.default_rng(2).random(1200) < 0.04
    result = oriented(points, np.where(wrong[:, None], around, normals))
    assert ((result.normals * normals).sum(1) > 0.9).mean() > 0.99
    assert re.match(r"\d+ of 1,200 normals stand askew .*: replaced", result.notes[0])


def test_each_point_has_its_own_sensor_or_one_that_cannot_have_seen_all_is_doubted():
    points, normals = torus(1200, 0.005)
    seen = oriented(points, sensor=(points + 3.0 * normals).tolist())
    assert ((seen.normals * normals).sum(1) > 0).mean() > 0.999
    inside = oriented(points, sensor=(points - 0.1 * normals).tolist())
    assert ((inside.normals * normals).sum(1) < 0).mean() > 0.99
    one = oriented(points, sensor=[0.0, 0.0, 5.0])
    assert ((one.normals * normals).sum(1) > 0).mean() > 0.99
    assert "of the points would be seen from behind by the sensor" in one.notes[0]


def test_zero_normals_are_named_and_the_notes_reach_the_user():
    points, normals = torus(1200, 0.005)
    given = torch.from_numpy(normals).clone()
    given[[7, 9, 40, 41]] = 0.0
    result = surface(torch.from_numpy(points), settings=Fast(grid=32), normals=given, resolution=32)
    assert result.notes[0] == (
        "4 of 1,200 normals are zero or not finite (first rows: 7, 9, 40): left out with their "
        "points."
    )
    assert (result.mesh.genus, result.mesh.watertight) == (1, True)


@pytest.mark.messages
def test_sensors_of_another_shape_are_refused():
    points = torch.from_numpy(sheet(200))
    with pytest.raises(ShapeError, match=r"`sensor` must be one place \(3,\), or one for each"):
        surface(points, sensor=torch.zeros(4))
    with pytest.raises(ParameterError, match="`sensor` must be finite"):
        surface(points, sensor=torch.tensor([0.0, torch.inf, 0.0]))
