"""Clopper-Pearson intervals, against scipy's own and against their definition."""

import pytest
import torch
from scipy.stats import binom, binomtest

from levelset._tools.proportions import clopper_pearson


@pytest.mark.parametrize("total", [1, 7, 100, 2500])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_it_is_scipys(total, confidence):
    hits = torch.unique(torch.linspace(0, total, 9).round().long())
    low, high = clopper_pearson(hits, total, confidence)
    for k, a, b in zip(hits.tolist(), low.tolist(), high.tolist(), strict=True):
        expected = binomtest(k, total).proportion_ci(confidence, "exact")
        assert a == pytest.approx(expected.low, abs=1e-12)
        assert b == pytest.approx(expected.high, abs=1e-12)


def test_it_covers_as_promised():
    total, confidence = 30, 0.9
    low, high = clopper_pearson(torch.arange(total + 1), total, confidence)
    for share in torch.linspace(0.01, 0.99, 99, dtype=torch.float64):
        inside = (low <= share) & (share <= high)
        weight = binom.pmf(range(total + 1), total, float(share))
        assert float((torch.from_numpy(weight) * inside).sum()) >= confidence - 1e-12


def test_the_ends_are_closed_and_nothing_tried_says_nothing():
    low, high = clopper_pearson(torch.tensor([[0, 5]]), 5)
    assert low.shape == (1, 2)
    assert low.dtype == torch.float64
    assert low[0, 0] == 0.0
    assert high[0, 1] == 1.0
    low, high = clopper_pearson(torch.tensor(0), 0)
    assert (low.item(), high.item()) == (0.0, 1.0)
