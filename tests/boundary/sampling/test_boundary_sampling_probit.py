"""The fit of the share and its quantile, against shares that are known."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from levelset.boundary._sampling._probit import Draws, fit_quantile, outer_ends


def made(shares, log_sigma, pairs, rng, rows=200, *, correlation=0.0) -> Draws:
    """Draws of `rows` points at levels with these shares, pairs correlated by a common normal."""
    draws = Draws.empty(rows, 2)
    for share, level in zip(shares, log_sigma, strict=True):
        normal = rng.standard_normal((rows, pairs, 2))
        other = correlation * normal[..., 0] + np.sqrt(1 - correlation**2) * normal[..., 1]
        kept = (normal[..., 0] < ndtri(share)).astype(int) + (other < ndtri(share))
        counts = np.stack([(kept == k).sum(1) for k in range(3)], axis=1).astype(float)
        draws.append(np.arange(rows), np.full(rows, level), counts)
    return draws


@pytest.mark.parametrize("gamma", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("correlation", [-0.6, 0.0])
@pytest.mark.parametrize("bend", [0.0, 0.67, 1.0])
def test_quantile_interval_and_error_are_those_of_a_probit(gamma, correlation, bend):
    rng = np.random.default_rng(3)
    levels = np.array([-0.3, 0.0, 0.3])
    slope = -2.0
    shares = ndtr(ndtri(gamma) + slope * levels + bend * levels**2)
    draws = made(shares, levels, 400, rng, correlation=correlation)
    fit = fit_quantile(draws, np.zeros(200), gamma, norm.ppf(0.975))
    spread = fit.log_sigma.std()
    # Bends of a third and a half of the slope, as within a ball and beside a plane, leave no bias.
    assert abs(fit.log_sigma.mean()) < (4 / np.sqrt(200) if bend else 0.5) * spread
    assert 0.85 < np.median(fit.error) / spread < 1.4
    assert np.mean((fit.low <= 0) & (fit.high >= 0)) >= 0.93
    assert abs(np.median(fit.slope) - slope) < 0.3


def test_opposite_pairs_make_the_error_smaller():
    rng = np.random.default_rng(3)
    levels = np.array([-0.3, 0.0, 0.3])
    shares = ndtr(ndtri(0.7) - 2.0 * levels)
    errors = [
        np.median(
            fit_quantile(
                made(shares, levels, 400, rng, correlation=c), np.zeros(200), 0.7, 1.96
            ).error
        )
        for c in (-0.9, 0.0, 0.9)
    ]
    assert errors[0] < 0.9 * errors[1] < 0.8 * errors[2]


def test_a_share_that_is_no_probit_is_fitted_in_a_narrower_window():
    """A step: constant on either side of a fall. The widest window must be given up."""
    rng = np.random.default_rng(3)
    levels = np.array([-0.7, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 0.7])
    shares = np.array([0.9, 0.9, 0.9, 0.88, 0.5, 0.35, 0.35, 0.35])
    fit = fit_quantile(made(shares, levels, 1000, rng), np.zeros(200), 0.7, 1.96)
    assert fit.bent.mean() > 0.95
    assert np.all(np.abs(fit.log_sigma) < 0.1)


def test_a_quantile_beyond_the_draws_has_an_open_interval():
    rng = np.random.default_rng(3)
    draws = made(np.array([0.9, 0.9, 0.9]), np.array([-0.2, 0.0, 0.2]), 20, rng, rows=20)
    fit = fit_quantile(draws, np.zeros(20), 0.3, 1.96)
    assert np.isinf(fit.high).all()
    assert np.all(fit.log_sigma > 0)


def test_draws_remember_what_was_entered():
    draws = Draws.empty(3, 2)
    draws.append(
        np.array([0, 2]), np.array([0.5, 0.7]), np.array([[1.0, 2.0, 3.0], [0.0, 4.0, 0.0]])
    )
    assert draws.total.tolist() == [[12.0], [0.0], [8.0]]
    assert draws.kept.tolist() == [[8.0], [0.0], [4.0]]
    part = draws[np.array([2])]
    assert part.log_sigma.tolist() == [[0.7]]
    single = Draws.empty(1, 1)
    single.append(np.array([0]), np.array([0.0]), np.array([[3.0, 7.0, 0.0]]))
    assert (single.total.item(), single.kept.item()) == (10.0, 7.0)


def test_draws_far_away_set_ends_as_seldom_wrong_as_asked():
    """Shares equal to gamma at all levels: an end is wrong wherever there is one."""
    rng = np.random.default_rng(3)
    levels = np.linspace(-1.0, 1.0, 9)
    draws = made(np.full(9, 0.7), levels, 30, rng, rows=2000)
    low, high = outer_ends(draws, np.zeros(2000), 0.7, 0.01, np.ones(2000))
    assert np.isfinite(low).mean() < 0.02
    assert np.isfinite(high).mean() < 0.02


def test_draws_far_away_set_the_nearest_ends_that_they_show():
    draws = Draws.empty(1, 2)
    for level, kept in ((-1.0, 40), (-0.5, 40), (0.0, 20), (0.5, 5), (1.0, 0)):
        draws.append(np.array([0]), np.array([level]), np.array([[40.0 - kept, 0.0, kept]]))
    low, high = outer_ends(draws, np.zeros(1), 0.7, 0.01, np.ones(1))
    assert (low[0], high[0]) == (-0.5, 0.5)
    low, high = outer_ends(draws, np.array([0.5]), 0.05, 0.01, np.ones(1))
    assert (low[0], high[0]) == (0.0, np.inf)


@pytest.mark.parametrize("slope", [-12.0, -40.0, -140.0])
@pytest.mark.parametrize("gamma", [0.7, 0.95])
def test_a_sharp_transition_is_fitted_on_its_own_scale(slope, gamma):
    """As in balls of 72, 800 and 9,800 dimensions, where both copies of a pair agree."""
    rng = np.random.default_rng(3)
    levels = np.array([-0.35, -0.5 / -slope, 0.0, 0.5 / -slope, 0.35])
    shares = ndtr(ndtri(gamma) + slope * levels)
    draws = made(shares, levels, 100, rng, correlation=1.0)
    start = rng.uniform(-0.3, 0.3, 200) / -slope
    fit = fit_quantile(draws, start, gamma, norm.ppf(0.975), np.full(200, 1.0 / -slope))
    assert abs(fit.log_sigma.mean()) < 0.1 / -slope
    assert 0.8 < np.median(fit.error) / fit.log_sigma.std() < 1.4
    assert np.mean((fit.low <= 0) & (fit.high >= 0)) >= 0.94
    assert abs(np.median(fit.slope) / slope - 1.0) < 0.2
    assert np.all(fit.unit < 1.0)
    flat = fit_quantile(made(ndtr(0.5 - levels), levels, 100, rng), start, 0.7, 1.96)
    assert np.all(flat.unit == 1.0)
