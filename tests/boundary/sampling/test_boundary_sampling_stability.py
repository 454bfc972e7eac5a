"""Stability: shares, exact intervals, and decisions that stop early."""

import math

import pytest
import torch

from levelset.boundary import stability
from levelset.errors import ParameterError
from levelset.shapes import Orthant


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("k", "sigma"), [(1, 0.5), (2, 1.0), (5, 2.0)])
def test_intervals_cover_the_closed_form(k, sigma):
    shape = Orthant(k, 6)
    found = stability(
        shape, torch.ones(300, 6), sigma=sigma, gamma=None, draws=400, generator=seeded()
    )
    exact = shape.stability(1.0, sigma)
    inside = (found.low <= exact) & (exact <= found.high)
    assert inside.double().mean() >= 0.93
    assert abs(float(found.share.double().mean()) - exact) < 4 * math.sqrt(0.25 / 120_000)
    assert (found.evaluations == 401).all()
    assert not found.decided.any()


@pytest.mark.parametrize(("sigma", "stable"), [(0.5, True), (4.0, False)])
def test_clear_cases_are_decided_early_and_right(sigma, stable):
    found = stability(
        Orthant(3, 3), torch.ones(200, 3), sigma=sigma, draws=10_000, generator=seeded()
    )
    assert found.decided.all()
    assert (found.stable == stable).all()
    assert (found.evaluations < 1000).all()


def test_decisions_are_wrong_as_rarely_as_they_say():
    """At a noise where the share is just below gamma, few may be called stable."""
    shape = Orthant(2, 2)
    sigma = shape.persistence(1.0, 0.7) * 1.05
    found = stability(
        shape, torch.ones(400, 2), sigma=sigma, draws=2000, confidence=0.9, generator=seeded()
    )
    wrong = found.decided & found.stable
    assert wrong.double().mean() <= 0.1
    exact = shape.stability(1.0, sigma)
    inside = (found.low <= exact) & (exact <= found.high)
    assert inside.double().mean() >= 0.9


def test_ball_noise_in_one_dimension_has_its_closed_form():
    """Uniform between -r and r, r = sigma times the square root of 3."""
    found = stability(
        Orthant(1, 1), torch.ones(50, 1), sigma=1.0, gamma=None, noise="ball", draws=2000,
        generator=seeded(),
    )  # fmt: skip
    exact = 0.5 * (1.0 + 1.0 / math.sqrt(3.0))
    assert abs(float(found.share.double().mean()) - exact) < 4 * math.sqrt(0.25 / 100_000)


def test_a_point_gets_the_same_alone_and_in_any_batch():
    points = 1.0 + torch.rand(5, 4, generator=seeded(1))
    whole = stability(Orthant(2, 4), points, sigma=1.0, generator=seeded())
    alone = stability(Orthant(2, 4), points[3:4], sigma=1.0, generator=seeded(), batch_size=3)
    assert torch.equal(alone.share, whole.share[3:4])
    assert torch.equal(alone.evaluations, whole.evaluations[3:4])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": 0.0}, "`sigma` must be positive, got 0.0"),
        ({"gamma": 1.2}, "`gamma` must lie between 0 and 1, both excluded, got 1.2"),
        ({"confidence": 0.0}, "`confidence` must lie between 0 and 1"),
        ({"draws": 0}, "`draws` must be at least 1, got 0"),
        ({"draws": 2}, r"`draws` must be at least \d+ to decide anything at gamma = 0.7"),
        ({"noise": "cube"}, "`noise` must be"),
    ],
)
@pytest.mark.messages
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ParameterError, match=words):
        stability(Orthant(1, 2), torch.ones(1, 2), **({"sigma": 1.0} | options))


def test_the_summary_counts():
    found = stability(Orthant(1, 2), torch.ones(3, 2), sigma=0.1, generator=seeded())
    assert found.summary() == {
        "points": 3, "stable": 3, "decided": 3, "evaluations": 3 * 65, "share_mean": 1.0,
    }  # fmt: skip
