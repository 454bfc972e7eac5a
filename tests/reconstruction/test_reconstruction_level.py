"""One level of a fit against dense least squares, and the judgement of points."""

from dataclasses import replace

import numpy as np
import pytest

from levelset.reconstruction import _fit as levels
from levelset.reconstruction._fit import distances, solve_level, trusted
from levelset.reconstruction._grid import REACH, Pins, all_nodes, roughness, stencil
from levelset.reconstruction._orientation import OrientedPoints
from levelset.reconstruction._settings import Recipe

NUMBERS = np.random.default_rng(0)


def sphere(count, radius=0.7, noise=0.01, numbers=NUMBERS):
    x = numbers.standard_normal((count, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    ones = np.ones(count)
    return OrientedPoints(radius * x, x, ones, ones, ones, noise * ones)


def centres(cells):
    line = (np.arange(cells + 2) - 0.5) * (2 * REACH / cells) - REACH
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)


def planar(cells, slope=(0.6, 0.0, 0.8), shift=0.1):
    """Return the grid of an affine function, whose gradient has the length 1."""
    return centres(cells) @ np.array(slope) - shift


def test_distances_of_an_affine_field_are_exact_whatever_its_slope():
    points = NUMBERS.uniform(-1, 1, (40, 3))
    wanted = points @ [0.6, 0.0, 0.8] - 0.1
    for factor in (0.5, 1.0, 7.0):
        away, unit = distances(points, factor * planar(8))
        np.testing.assert_allclose(away, wanted, rtol=0, atol=1e-12)
        np.testing.assert_allclose(unit, np.tile([0.6, 0, 0.8], (40, 1)), rtol=0, atol=1e-12)


def test_points_are_judged_by_the_field():
    points = NUMBERS.uniform(-0.5, 0.5, (30, 3))
    points -= np.outer(points @ [0.6, 0, 0.8] - 0.1, [0.6, 0, 0.8])
    points[:3] += 0.5 * np.array([0.6, 0, 0.8])
    normals = np.tile([0.6, 0.0, 0.8], (30, 1))
    normals[5:11] *= -1
    ones = np.ones(30)
    sample = OrientedPoints(points, normals, ones, ones, ones, 0.01 * ones)
    judged = trusted(sample, planar(32), Recipe())
    np.testing.assert_array_equal(judged.points, points[3:])
    noise = np.where(np.arange(30) == 1, 0.1, 0.01)
    more = trusted(replace(sample, spread=noise), planar(32), Recipe())
    np.testing.assert_array_equal(more.points, points[[1, *range(3, 30)]])
    np.testing.assert_array_equal(judged.weights, np.ones(27))
    np.testing.assert_allclose(judged.normals, np.tile([0.6, 0, 0.8], (27, 1)), atol=1e-12)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_coarse_level_is_the_minimiser_of_its_energy(factor):
    """Also where one half of the points has so many times the noise of the other."""
    sample, cells = sphere(200, numbers=np.random.default_rng(0)), 4
    noise = np.where(sample.points[:, 0] < 0.0, 0.01, factor * 0.01)
    sample = replace(sample, spread=noise)
    recipe = Recipe(coarsest=4, given=4, dense=4, passes=(1,), tol=1e-7, max_iter=3000, debias=0.7)
    pins = Pins(np.array([0, 7, 100]), np.array([1.0, 1.1, 0.6]))
    start = np.linalg.norm(centres(cells), axis=-1) - 0.5
    ((grid, loss),) = solve_level(sample, start, pins, recipe, lambda: False)
    at, band = stencil(sample.points, cells), all_nodes(cells)
    rows, target = [], []

    def add(entries, nodes, weight, wanted):
        row = np.zeros(6**3)
        np.add.at(row, nodes, entries)
        rows.append(np.sqrt(weight) * row)
        target.append(np.sqrt(weight) * wanted)

    for i in range(200):
        value = at.value[i] - 0.7 * 0.5 * noise[i] ** 2 * at.laplacian[i]
        add(value, at.nodes[i], noise[i] ** -2, 0.0)
        for axis in range(3):
            add(at.gradient[axis][i], at.nodes[i], recipe.slope, sample.normals[i, axis])
    for node, wanted in zip(*pins, strict=True):
        add(np.ones(1), [node], recipe.pin * band.width**3, wanted)
    hard = recipe.smoothness_at(*levels._around(band, sample)) * band.width**3 * 0.5
    rough = np.concatenate([
        kind.matrix.toarray() * np.sqrt(hard[kind.node])[:, None] for kind in roughness(band)
    ])  # fmt: skip
    matrix, wanted = np.concatenate([rows, rough]), np.concatenate([target, np.zeros(len(rough))])
    best = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    np.testing.assert_allclose(grid.ravel(), best, rtol=0, atol=1e-3)
    assert loss == pytest.approx(((matrix @ best - wanted) ** 2).sum() / 200, rel=1e-4)


def test_a_fine_level_changes_nothing_far_from_the_surface():
    sample = sphere(2500, noise=0.002)
    recipe = Recipe(coarsest=16, dense=16, passes=(1, 2))
    start = np.linalg.norm(centres(32), axis=-1) - 0.72
    results = list(solve_level(sample, start, None, recipe, lambda: False))
    assert len(results) == 2
    grid = results[-1][0]
    same = grid == start
    assert same[np.abs(start) > (recipe.band + 3) * 2 * REACH / 32].all()
    assert not same[np.abs(start) < 2 * REACH / 32].any()
    away, _ = distances(sphere(500).points, grid)
    assert np.abs(away).max() < 1e-3


@pytest.mark.slow
def test_later_passes_let_outliers_be():
    numbers = np.random.default_rng(0)
    sample = sphere(2500, noise=0.002, numbers=numbers)
    points = sample.points.copy()
    points[:40] *= 0.78 / 0.7
    sample = replace(sample, points=points)
    start = np.linalg.norm(centres(32), axis=-1) - 0.7
    recipe = Recipe(coarsest=16, given=32, dense=32, passes=(1, 6))
    errors = [
        np.abs(distances(sphere(500, numbers=numbers).points, grid)[0]).mean()
        for grid, _ in solve_level(sample, start, None, recipe, lambda: False)
    ]
    assert errors[-1] < 0.7 * errors[0]


def test_the_bell_across_the_surface_integrates_to_one():
    line = np.linspace(-0.5, 0.5, 4001)
    for cells, noise in ((128, 0.002), (32, 0.002), (128, 0.05)):
        bell = levels._layer(line, cells, np.full(4001, noise), Recipe(far=0.0))
        assert np.trapezoid(bell, line) == pytest.approx(1, rel=1e-3)


@pytest.mark.slow
def test_the_preconditioner_saves_iterations():
    """A diagonal alone is far from the minimum where the cycle with it is close."""
    sample = sphere(2000, noise=0.002)
    recipe = Recipe(dense=32, given=32, coarsest=16, passes=(1,), tol=1e-9, max_iter=400)
    start = np.linalg.norm(centres(32), axis=-1) - 0.5
    ((best, least),) = solve_level(sample, start, None, recipe, lambda: False)
    budget = Recipe(dense=32, given=32, coarsest=16, passes=(1,), tol=1e-9, max_iter=15)
    ((_, ours),) = solve_level(sample, start, None, budget, lambda: False)
    real = levels._coarser
    levels._coarser = lambda *_: []
    try:
        ((_, plain),) = solve_level(sample, start, None, budget, lambda: False)
    finally:
        levels._coarser = real
    assert np.isfinite(best).all()
    assert ours - least < 0.1 * (plain - least)


def test_noise_and_density_at_nodes_are_those_of_the_points_near():
    """Of a ball with four times as many points on one half, which has a tenth of the noise."""
    sample = sphere(8000)
    few = (sample.points[:, 0] > 0.0) & (np.arange(8000) % 4 > 0)
    sample = replace(sample, spread=np.where(sample.points[:, 0] < 0.0, 0.002, 0.02))
    sample = sample._rows(~few)
    band = all_nodes(32)
    noise, count = levels._around(band, sample)
    x = centres(32).reshape(-1, 3)
    shell = np.abs(np.linalg.norm(x, axis=1) - 0.7) < 0.1
    for side, sigma, total in ((x[:, 0] < -0.3, 0.002, 8000), (x[:, 0] > 0.3, 0.02, 2000)):
        np.testing.assert_array_equal(noise[shell & side], sigma)
        assert np.median(count[shell & side]) == pytest.approx(total, rel=0.15)
    noise, count = levels._around(band, sphere(500))
    np.testing.assert_array_equal(noise, 0.01)
    np.testing.assert_array_equal(count, 500)
