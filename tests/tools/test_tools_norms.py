"""Norms and their duals."""

import math

import pytest
import torch

from levelset._tools.norms import check_norm, dual, norm_name, norm_of
from levelset.errors import ParameterError


def test_norms_of_a_known_row():
    row = torch.tensor([[[3.0, 0.0], [-4.0, 0.0]]])
    expected = {0.0: 2.0, 1.0: 7.0, 2.0: 5.0, math.inf: 4.0}
    assert {p: norm_of(row, p).item() for p in expected} == expected


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 2, 2)])
def test_nothing_has_norm_zero(shape):
    found = norm_of(torch.empty(shape), math.inf)
    assert found.tolist() == [0.0] * shape[0]


@pytest.mark.parametrize("norm", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_the_dual_is_the_largest_product_with_a_unit_vector(noise, norm):
    assert dual(dual(norm)) == pytest.approx(norm)
    weights, others = noise(1, 4), noise(20_000, 4, seed=1)
    units = others / norm_of(others, norm).unsqueeze(1)
    bound = norm_of(weights, dual(norm)).item()
    products = (units @ weights.T).abs()
    assert products.max() <= bound * (1 + 1e-12)
    assert products.max() >= 0.9 * bound


def test_names():
    assert [norm_name(p) for p in (math.inf, 2.0, 1.0, 0.0, 1.5)] == ["inf", "2", "1", "0", "1.5"]


def test_norms_that_are_not_offered_are_refused():
    assert check_norm("f", 2.0) == 2.0
    assert check_norm("f", math.inf) == math.inf
    with pytest.raises(ParameterError, match=r"f: `norm` must be one of 2, inf, got 1\."):
        check_norm("f", 1.0)
    with pytest.raises(ParameterError, match=r"f: `norm` must be one of 1, got nan\."):
        check_norm("f", math.nan, (1.0,))


@pytest.mark.messages
def test_norms_may_be_whole_numbers():
    assert check_norm("f", 2) == 2.0
    assert norm_name(2) == "2"
