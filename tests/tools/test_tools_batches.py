"""Batches: every row once, in order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from levelset._tools.batches import row_batches, swift_batch


@given(n=st.integers(0, 200), size=st.integers(1, 250))
def test_every_row_comes_once_in_order_and_no_batch_is_too_large(n, size):
    batches = list(row_batches(n, size))
    assert [row for rows in batches for row in range(rows.start, rows.stop)] == list(range(n))
    assert all(0 < rows.stop - rows.start <= size for rows in batches)
    assert len(batches) == -(-n // size)


def test_networks_with_convolutions_get_the_batches_that_stay_in_cache():
    images = torch.empty(1, 1, 28, 28)
    assert 25 <= swift_batch(nn.Sequential(nn.Conv2d(1, 4, 3)), images) <= 100
    assert swift_batch(nn.Flatten(), images) > 100
    assert swift_batch(lambda x: x, images) > 100


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (1, 3, 1000, 1000), (1, 0)])
def test_any_points_get_a_batch(shape):
    for field in (nn.Conv2d(3, 3, 3), lambda x: x):
        assert 8 <= swift_batch(field, torch.empty(shape)) <= 16_384


def test_larger_points_get_smaller_batches():
    sizes = [swift_batch(nn.Conv2d(1, 1, 1), torch.empty(1, 1, w, w)) for w in (4, 16, 64, 256)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_off_the_cpu_all_rows_go_at_once():
    assert swift_batch(nn.Conv2d(1, 1, 1), torch.empty(5000, 1, 28, 28, device="meta")) == 5000
