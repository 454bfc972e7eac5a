"""Whether draws suffice: what is refused before and after, against what it really takes."""

import pytest
import torch

from levelset.boundary import persistence
from levelset.boundary._sampling._persistence import check_draws, check_spent
from levelset.errors import ParameterError, PrecisionWarning
from levelset.shapes import Orthant


def test_draws_that_cannot_suffice_are_refused_beforehand():
    words = r"`draws` must be at least 350 .* gamma = 0.7, got 100. .* flat boundary takes about 16"
    for method in ("probit", "quickselect"):
        with pytest.raises(ParameterError, match=words):
            check_draws(method, 100, 0.7, 0.02)
        check_draws(method, 400, 0.7, 0.02)
    with pytest.raises(ParameterError, match=r"got 100\. Raise `draws` or `tolerance`"):
        check_draws("probit", 100, 0.4, 0.02)


def test_what_is_said_of_a_flat_boundary_is_what_it_takes():
    points = torch.ones(20, 2)
    found = persistence(Orthant(1, 2), points, generator=torch.Generator().manual_seed(0))
    assert float(found.evaluations.double().mean()) == pytest.approx(16_000, rel=0.3)


def test_bracketing_refuses_draws_of_which_no_share_is_near_enough():
    with pytest.raises(ParameterError, match=r"nearest share is 0\.033 off\. Take 26 or more"):
        check_draws("bracketing", 3, 0.7, 0.02)
    check_draws("bracketing", 10, 0.7, 0.02)
    for gamma in (0.1, 0.33, 0.7, 0.99):
        check_draws("bracketing", 26, gamma, 0.02)


def test_errors_left_at_all_points_are_refused_and_at_some_are_warned_of():
    error, spent = torch.tensor([0.1, 0.04]), torch.tensor([1000, 1000])
    with pytest.raises(ParameterError, match=r"must be about 4,[01]00 for .* got 1000"):
        check_spent(0.7, 0.02, 1000, error, spent)
    with pytest.raises(ParameterError, match="must be many more for"):
        check_spent(0.3, 0.02, 1000, error + torch.inf, spent)
    check_spent(0.7, 0.05, 1000, error, spent)
    with pytest.warns(PrecisionWarning, match="1 of 2 points .* `tolerance` 0.05, 0.1 at most"):
        check_spent(0.7, 0.05, None, error, spent)
    check_spent(0.7, 0.1, None, error, spent)
    check_spent(0.7, 0.1, 500, error[:0], spent[:0])
