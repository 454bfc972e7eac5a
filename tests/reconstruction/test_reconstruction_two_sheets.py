"""Walls thinner than the points of one face are apart: two sheets, not one thick one."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from levelset.reconstruction import Fast, surface
from levelset.reconstruction._cloud import prepare
from levelset.reconstruction._noise import noise_level
from levelset.reconstruction._orientation import orient
from levelset.reconstruction._two_sheets import paired

HALF = (0.7, 0.6)


def plate(count, thickness, noise=0.0, seed=0):
    """Points evenly drawn from all six faces of a plate, and their normals."""
    random = np.random.default_rng(seed)
    half = np.array([*HALF, thickness / 2])
    areas = np.repeat(half.prod() / half, 2)
    face = random.choice(6, count, p=areas / areas.sum())
    points = random.uniform(-1, 1, (count, 3)) * half
    normals = np.zeros((count, 3))
    rows, sides = np.arange(count), 2.0 * (face % 2) - 1.0
    normals[rows, face // 2] = sides
    points[rows, face // 2] = sides * half[face // 2]
    return points + noise * random.standard_normal(points.shape), normals


def shell(count, thickness):
    """Points of two balls within one another."""
    random = np.random.default_rng(0)
    points = random.standard_normal((count, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points * np.where(np.arange(count) % 2, 1.0, 1.0 - thickness)[:, None]


def pairs_of(points):
    return paired(points, noise_level(points, cKDTree(points)))


@pytest.mark.parametrize("count", [1000, 2000])
def test_normals_and_noise_of_a_plate_thinner_than_its_points_are_apart(count):
    points, normals = plate(count, 0.04)
    pairs = pairs_of(points)
    assert pairs.double.mean() > 0.85
    cosine = np.abs((pairs.normals * normals[pairs.double]).sum(1))
    assert np.quantile(cosine, 0.1) > 0.98  # those of its narrow sides are not
    off = np.abs(np.abs(pairs.feet[:, 2]) - 0.02)
    assert np.median(off) < 1e-3
    assert pairs.noise < 2e-3
    cloud = prepare(torch.from_numpy(points))
    outward = (orient(cloud).normals * normals).sum(1)[pairs.double]
    assert (outward < -0.5).mean() < 0.01


def test_sheets_may_be_bent():
    points = shell(6000, 0.05)
    pairs = pairs_of(points)
    assert pairs.double.mean() > 0.7
    points = points[pairs.double]
    cosine = np.abs((pairs.normals * points).sum(1) / np.linalg.norm(points, axis=1))
    assert np.quantile(cosine, 0.05) > 0.98


def test_two_sheets_are_seen_where_a_few_points_lie_far_apart_and_these_are_no_outliers():
    # 20 times as dense at one end: 2 % of the points, but a tenth of the plate
    rng = np.random.default_rng(5)
    points, normals = plate(200_000, 0.04)
    rows = np.flatnonzero(rng.random(len(points)) < 20.0 ** (points[:, 0] / 2 / HALF[0] - 0.5))
    points, normals = points[rows[:12_000]], normals[rows[:12_000]]
    points = points + 0.002 * rng.standard_normal(points.shape)
    flat, end = np.abs(normals[:, 2]) == 1.0, points[:, 0] < -0.75 * HALF[0]
    assert (flat & end).mean() < 0.04
    pairs = pairs_of(points)
    assert pairs.double[flat & end].mean() > 0.8
    assert pairs.double[points[:, 0] > 0.5 * HALF[0]].mean() < 0.01
    result = orient(prepare(torch.from_numpy(points)))
    inner = flat & end & (points[:, 0] > -0.95 * HALF[0]) & (np.abs(points[:, 1]) < 0.9 * HALF[1])
    assert result.outlier[inner].mean() < 0.05
    assert ((result.normals * normals).sum(1)[inner & ~result.outlier] > 0.95).mean() > 0.95


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
def test_one_sheet_with_noise_and_sheets_far_apart_are_none(noise):
    ball = shell(3000, 0.0) + noise * np.random.default_rng(1).standard_normal((3000, 3))
    for points in (ball, plate(2000, 0.3, noise)[0], ball[:20]):
        pairs = pairs_of(points)
        assert not pairs.double.any()
        assert len(pairs.normals) == 0
        assert pairs.noise == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("count", [5_000, 12_000])
def test_noise_that_makes_two_sheets_a_thick_one_is_that_about_each(count):
    noise = 0.4 * np.sqrt(12_000 / count) * 0.025
    points, normals = plate(count, 4.0 * noise, noise)
    level = noise_level(points, cKDTree(points))
    pairs = paired(points, level)
    assert level.noise > 1.8 * noise
    assert pairs.noise == pytest.approx(noise, rel=0.1)
    assert pairs.double.mean() > 0.98
    flat = np.abs(normals[pairs.double, 2]) == 1.0
    assert np.quantile(np.abs(pairs.normals[flat, 2]), 0.05) > 0.98
    # on which sheet a point lies is wrong for as many as cross the middle: 2.3 %
    side = np.sign(pairs.feet[:, 2])
    wrong = side[flat] != normals[pairs.double, 2][flat]
    assert 0.01 < wrong.mean() < 0.04
    sides = pairs.sides[flat]
    assert 1.0 < wrong.mean() / (0.5 * (1.0 - sides).mean()) < 2.0
    assert wrong[sides > 0.9].mean() < 0.01
    oriented = orient(prepare(torch.from_numpy(points)))
    outward = np.sign(oriented.normals[pairs.double, 2])[flat]
    assert (outward != side[flat]).mean() < 0.01


def test_thick_noise_about_one_sheet_or_a_rod_is_none():
    random = np.random.default_rng(2)
    rod = random.standard_normal((8000, 3)) * (1, 1, 0)
    rod = 0.05 * rod / np.linalg.norm(rod, axis=1, keepdims=True)
    rod[:, 2] = random.uniform(-1, 1, 8000)
    for points in (shell(8000, 0.0), rod):
        noisy = points + 0.04 * random.standard_normal(points.shape)
        assert not pairs_of(noisy).double.any()


@pytest.mark.slow
def test_a_thin_plate_has_its_area_and_volume():
    points, _ = plate(2000, 0.04)
    mesh = surface(torch.from_numpy(points), settings=Fast(grid=64), resolution=96).mesh
    area, volume = 8 * HALF[0] * HALF[1] + 0.16 * sum(HALF), 0.16 * HALF[0] * HALF[1]
    assert (mesh.watertight, mesh.components, mesh.genus) == (True, 1, 0)
    assert float(mesh.area) == pytest.approx(area, rel=0.03)
    assert float(mesh.volume) == pytest.approx(volume, rel=0.05)


@pytest.mark.slow
def test_a_plate_half_as_thick_as_its_points_are_apart_has_its_thickness():
    # what a field that resists to bend across it makes twice as thick, with many holes
    points, _ = plate(2000, 0.02)
    mesh = surface(torch.from_numpy(points)).mesh
    area, volume = 8 * HALF[0] * HALF[1] + 0.08 * sum(HALF), 0.08 * HALF[0] * HALF[1]
    assert (mesh.watertight, mesh.components, mesh.genus) == (True, 1, 0)
    assert float(mesh.area) == pytest.approx(area, rel=0.03)
    assert float(mesh.volume) == pytest.approx(volume, rel=0.1)


@pytest.mark.slow
def test_right_normals_of_a_thin_plate_are_left_alone():
    points, normals = plate(2000, 0.04)
    result = surface(
        torch.from_numpy(points), normals=torch.from_numpy(normals), settings=Fast(grid=64),
        resolution=64,
    )  # fmt: skip
    assert not any("normals point against" in note for note in result.notes)
    assert float(result.mesh.volume) == pytest.approx(0.16 * HALF[0] * HALF[1], rel=0.05)
