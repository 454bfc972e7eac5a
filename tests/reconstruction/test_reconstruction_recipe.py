"""How the constants of a fit depend on the cloud."""

import pytest

from levelset.reconstruction._settings import Recipe


def test_better_points_are_smoothed_more_in_units_of_their_noise_and_less_in_length():
    recipe = Recipe()
    base = recipe.smoothness_at(0.01, 30_000)
    assert base == pytest.approx(recipe.smoothness)
    assert recipe.smoothness_at(0.0025, 30_000) == pytest.approx(2 * base)
    assert recipe.smoothness_at(0.01, 7_500) == pytest.approx(base / 2)


def test_passes_follow_the_level_and_the_last_holds_on():
    recipe = Recipe(passes=(1, 2, 5))
    assert [recipe.passes_at(cells) for cells in (16, 32, 64, 128, 256)] == [1, 2, 5, 5, 5]
