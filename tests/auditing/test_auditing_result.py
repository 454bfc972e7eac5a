"""What an audit makes of its columns, against counting by hand."""

import math

import pytest
import torch
from scipy.stats import binomtest

from levelset.auditing import Audit
from levelset.errors import ParameterError


def some(distance: list[float], correct: list[bool], nearest: list[int]) -> Audit:
    n = len(distance)
    prediction = torch.arange(n) % 3
    columns = {
        "index": torch.arange(n),
        "label": torch.where(torch.tensor(correct), prediction, (prediction + 1) % 3),
        "prediction": prediction,
        "correct": torch.tensor(correct),
        "margin": torch.zeros(n),
        "distance_2": torch.tensor(distance),
        "nearest_class_2": torch.tensor(nearest),
        "gradients_2": torch.ones(n, dtype=torch.int64),
        "converged_2": torch.ones(n, dtype=torch.bool),
    }
    points = torch.zeros(n, 2)
    return Audit(points, columns, {2.0: points}, (2.0,), ("a", "b", "c"))


AUDIT = some(
    [0.5, 0.125, 0.0, 0.25, math.inf, 0.25],
    [True, True, False, True, True, True],
    [1, 2, 2, 1, -1, 0],
)


def test_robust_accuracy_is_the_share_beyond_each_radius() -> None:
    radius = torch.tensor([0.0, 0.05, 0.125, 0.25, 0.4, 0.5, 9.0], dtype=torch.float64)
    curve = AUDIT.robustness(2.0, radius)
    by_hand = [5, 5, 4, 2, 2, 1, 1]  # a witness at the radius counts as within it
    assert (curve.accuracy * 6).round().tolist() == by_hand
    for k, low, high in zip(by_hand, curve.low.tolist(), curve.high.tolist(), strict=True):
        interval = binomtest(k, 6).proportion_ci(0.95, method="exact")
        assert low == pytest.approx(interval.low, abs=1e-12)
        assert high == pytest.approx(interval.high, abs=1e-12)


def test_the_default_radii_reach_from_zero_to_the_farthest() -> None:
    curve = AUDIT.robustness(2.0)
    assert float(curve.radius[0]) == 0
    assert float(curve.radius[-1]) == pytest.approx(0.5)
    assert (curve.accuracy.diff() <= 0).all()


def test_borders_count_right_answers_only() -> None:
    expected = torch.zeros(3, 3, dtype=torch.int64)
    expected[0, 1] = 2  # inputs 0 and 3
    expected[1, 2] = 1  # input 1; 2 is wrong, 4 has no witness
    expected[2, 0] = 1  # input 5
    assert torch.equal(AUDIT.borders(2.0), expected)


def test_summary_keeps_wrong_and_missed_apart() -> None:
    summary = AUDIT.summary()
    assert summary["points"] == 6
    assert summary["correct"] == 5
    assert summary["missed_2"] == 1
    assert summary["distance_2_min"] == 0.125
    assert summary["distance_2_mean"] == pytest.approx((0.5 + 0.125 + 0.25 + 0.25) / 4)


def test_another_norm_is_refused() -> None:
    with pytest.raises(ParameterError, match="`norm` must be one of 2, got inf"):
        AUDIT.distance(math.inf)


def test_medians_are_those_of_the_textbook_and_leave_out_what_is_not_there() -> None:
    held = some([0.5, 0.1, 0.2, 0.4], [True] * 4, [1] * 4)
    held.columns["sigma_star"] = torch.tensor([996.7, 32.9, math.inf, math.inf])
    held.columns["certified_radius"] = torch.tensor([1.0, math.nan, 2.0, math.nan])
    found = held.summary()
    assert found["sigma_star_found"] == 2
    assert found["sigma_star_median"] == pytest.approx(514.8)
    assert found["certified_radius_median"] == 1.5
    assert found["distance_2_median"] == pytest.approx(0.3)
    held.columns["certified_radius"][:] = math.nan
    assert "certified_radius_median" not in held.summary()
