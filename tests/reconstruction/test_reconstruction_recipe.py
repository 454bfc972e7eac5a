"""How the constants of a fit depend on the cloud."""

import numpy as np
import pytest

from levelset.reconstruction._settings import Recipe


def test_better_points_are_smoothed_more_in_units_of_their_noise_and_less_in_length():
    recipe = Recipe()
    weights = recipe.smoothness_at(
        np.array([0.01, 0.0025, 0.01]), np.array([30_000.0, 30_000.0, 7_500.0])
    )
    assert weights == pytest.approx(recipe.smoothness * np.array([1.0, 2.0, 0.5]))


def test_passes_follow_the_level_and_the_last_holds_on():
    recipe = Recipe(passes=(1, 2, 5))
    assert [recipe.passes_at(cells) for cells in (16, 32, 64, 128, 256)] == [1, 2, 5, 5, 5]


def test_finer_grids_need_points_in_every_cell_and_noise_far_below_it():
    recipe = Recipe(whole=128, gap=0.9, blur=0.15)
    width = 2.2 / 256
    assert recipe.cells_for(0.8 * width, 0.1 * width, 256) == 256
    assert recipe.cells_for(1.0 * width, 0.1 * width, 256) == 128
    assert recipe.cells_for(0.8 * width, 0.2 * width, 256) == 128
    assert recipe.cells_for(1.0, 1.0, 64) == 64


def test_grids_without_a_band_are_solved_to_the_tighter_tolerance():
    recipe = Recipe(dense=32, tol=1e-2, tol_dense=1e-4)
    assert [recipe.tol_at(cells) for cells in (16, 32, 64)] == [1e-4, 1e-4, 1e-2]
    assert Recipe(dense=32, tol=1e-7).tol_at(16) == 1e-7
