"""Dropout crossings against all masks of a small network; distances from Gaussians."""

import itertools
import math

import pytest
import torch
from torch import nn

from levelset.boundary import dropout_crossings, normality
from levelset.errors import DataError, ParameterError

WEIGHTS = (0.71, 1.13, 0.4, 0.92)
# Half a mask leads to class 1 at t = 0.35 / (2 sum of the weights that stay).
BIAS = 0.35


@pytest.fixture
def gated(linear):
    """Two classes: the logit of class 1 is the masked sum of the weighted inputs less a bias."""
    head = linear([[0.0] * 4, list(WEIGHTS)], bias=[0.0, -BIAS])
    return nn.Sequential(nn.Dropout(0.5), head)


def test_crossings_are_those_of_the_masks(gated, generator):
    start, end = torch.zeros(4).double(), torch.ones(4).double()
    found = dropout_crossings(gated, start, end, draws=400, generator=generator)
    sums = [
        sum(w for w, stays in zip(WEIGHTS, mask, strict=True) if stays)
        for mask in itertools.product((0, 1), repeat=4)
    ]
    expected = torch.tensor([BIAS / (2.0 * s) for s in sums if 2.0 * s > BIAS]).double()
    assert found.shape == (400, 1)
    crossed = found[~found.isnan()]
    gap = (crossed.unsqueeze(1) - expected).abs().amin(1)
    assert float(gap.max()) < 1e-6
    # Each of the sixteen masks is as likely as the others; the empty one never crosses.
    which = (crossed.unsqueeze(1) - expected).abs().argmin(1)
    counts = torch.bincount(which, minlength=15)
    assert int(counts.min()) > 8
    assert int(counts.max()) < 50
    assert int(found.isnan().sum()) < 50


def test_a_mask_stays_the_same_along_the_segment_and_in_any_batch(gated):
    start, end = torch.zeros(4).double(), torch.ones(4).double()
    one = dropout_crossings(gated, start, end, draws=70, generator=torch.Generator().manual_seed(3))
    other = dropout_crossings(
        gated, start, end, draws=70, steps=11, batch_size=5,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    assert torch.allclose(one, other, atol=1e-6, equal_nan=True)


def test_channels_are_dropped_as_wholes(settled, generator):
    model = settled(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.Dropout2d(0.4), nn.Flatten(), nn.Linear(27, 3)), 1
    )
    ends = torch.zeros(1, 5, 5), 3.0 * torch.ones(1, 5, 5)
    before = [len(module._forward_hooks) for module in model.modules()]
    found = dropout_crossings(model, *ends, draws=50, generator=generator)
    assert [len(module._forward_hooks) for module in model.modules()] == before
    distinct = found.nan_to_num(-1.0).unique(dim=0)
    assert 1 < len(distinct) <= 8  # three channels have eight masks


def test_a_segment_without_a_change_has_no_crossing(gated):
    start = torch.zeros(4).double()
    assert dropout_crossings(gated, start, start, draws=5).shape == (5, 0)


def test_a_network_without_dropout_is_refused(linear):
    with pytest.raises(ParameterError, match=r"must have torch.nn.Dropout layers"):
        dropout_crossings(linear([[1.0], [0.0]]), torch.zeros(1), torch.ones(1), draws=2)
    other = nn.Sequential(nn.AlphaDropout(0.5), nn.Linear(1, 2))
    with pytest.raises(ParameterError, match="0 of another kind"):
        dropout_crossings(other, torch.zeros(1), torch.ones(1), draws=2)


def test_a_gaussian_is_near_and_a_uniform_law_is_far(noise, generator):
    near = normality(noise(2000), generator=generator)
    assert near.p_value > 0.05
    far = normality(torch.rand(2000, generator=generator), generator=generator)
    assert far.p_value < 0.01
    # Of a uniform law the largest gap is at a quarter of an end, found by hand.
    z = torch.linspace(-math.sqrt(3.0), math.sqrt(3.0), 100_001).double()
    gap = ((z / math.sqrt(3.0) + 1.0) / 2.0 - torch.special.ndtr(z)).abs().max()
    assert far.distance == pytest.approx(float(gap), abs=0.02)
    assert far.kurtosis == pytest.approx(-1.2, abs=0.1)


def test_the_p_value_is_uniform_for_gaussians(noise):
    values = [normality(noise(50, seed=s), draws=200).p_value for s in range(100)]
    assert 0.35 < sum(values) / 100 < 0.65
    assert sum(p < 0.1 for p in values) < 25


def test_nan_are_left_out_and_too_few_values_refused(noise):
    values = noise(30)
    spaced = torch.cat([values, torch.full((5,), math.nan).double()])
    assert normality(spaced).distance == normality(values).distance
    with pytest.raises(DataError, match="at least 3 finite numbers that differ, got 4 equal"):
        normality(torch.ones(4))
    with pytest.raises(DataError, match="got 2"):
        normality(noise(2))
