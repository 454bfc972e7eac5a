"""Pieces that cover the rows, of less than a minute each, and their threads."""

import pytest
import torch
from torch import nn

from levelset._tools.engines import cut, expected_seconds, threads_of


@pytest.mark.parametrize(
    ("n", "size", "seconds"),
    [(1, 1, 1.0), (500, 64, 0.05), (10_000, 784, 0.05), (300, 784, 2.0), (7, 150_528, 400.0)],
)
def test_parts_cover_the_inputs_in_order_and_take_half_a_minute_at_most(
    n: int, size: int, seconds: float
) -> None:
    parts = cut(n, size, seconds)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(n))
    lengths = [part.stop - part.start for part in parts]
    assert all(length == 1 or length * seconds <= 30.0 for length in lengths)
    assert all(length * size <= 200_000 or length <= 4 for length in lengths)


def test_a_cheap_audit_is_one_part_and_a_dear_one_many() -> None:
    assert cut(500, 64, 0.01) == [slice(0, 500)]
    assert cut(100, 784, 1.0)[:2] == [slice(0, 30), slice(30, 60)]
    assert cut(1000, 784, 0.1)[:2] == [slice(0, 255), slice(255, 510)]


def test_expected_seconds_grow_with_operations_and_calls() -> None:
    assert expected_seconds(1000.0, 0, "cpu") == pytest.approx(0.05)
    assert expected_seconds(1.0, 2 * 10**9, "cpu") == pytest.approx(0.1, rel=0.01)
    assert expected_seconds(1.0, 10**9, "cuda") < expected_seconds(1.0, 10**9, "cpu") / 10


def test_parts_of_several_have_one_thread_and_others_all_that_they_keep_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    small, large = nn.Linear(64, 10), nn.Linear(64, 10_000)
    points = torch.rand(200, 64)
    for parts, seconds in ((1, 0.5), (3, 40.0)):
        assert threads_of(parts, seconds, small, points) == 1
        assert threads_of(parts, seconds, large, points) == 4
    assert threads_of(3, 0.5, large, points) == 1
