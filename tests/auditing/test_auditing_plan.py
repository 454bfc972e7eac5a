"""Parts that cover the inputs, of less than a minute each, and progress at an even pace."""

import pytest
import torch
from torch import nn

from levelset.auditing import _plan
from levelset.auditing._plan import Meter, cut, expected_seconds


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


def test_measures_count_by_the_time_they_take() -> None:
    seen: list[tuple[int, int]] = []
    meter = Meter(
        lambda done, total: seen.append((done, total)),
        {"quick": 100, "slow": 100},
        {"quick": 1.0, "slow": 1.0},  # expected alike, but the second takes nine times as long
    )
    rows, seconds = {"quick": 50, "slow": 50}, {"quick": 5.0, "slow": 45.0}
    for number in range(2):  # two parts of 50 inputs
        for name, whole in seconds.items():
            for k in range(1, 6):
                meter.hear(number, rows, (name, k / 5, whole * k / 5))
        meter.finish(number, rows, seconds)
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (100, 100)
    # After the first part the pace is known: 50 of 100 seconds were half the inputs, and the
    # quick measure of the second part, 5 seconds, is 5 of them.
    assert 50 in done
    assert 55 in done


def test_parts_side_by_side_count_together_and_a_lost_one_anew() -> None:
    seen: list[int] = []
    rows = {"one": 50}
    meter = Meter(lambda done, total: seen.append(done), {"one": 150}, {"one": 1.0})
    meter.hear(0, rows, ("one", 0.6, 3.0))
    meter.hear(2, rows, ("one", 0.4, 2.0))
    meter.hear(0, rows, None)
    meter.tell()
    meter.finish(2, rows, {"one": 5.0})
    assert seen == [30, 50]
    meter.finish(0, rows, {"one": 5.0})
    meter.finish(1, rows, {"one": 5.0})
    assert seen == [30, 50, 100, 150]


def test_a_measure_of_the_first_inputs_alone_does_not_stall_the_rest() -> None:
    seen: list[int] = []
    rows = {"all": 1000, "first": 100}
    meter = Meter(lambda done, total: seen.append(done), rows, {"all": 1.0, "first": 1.0})
    meter.skip({"all": 500, "first": 100})
    meter.tell()
    assert seen == [int(1000 * 600 / 1100)]
    meter.finish(0, {"all": 500, "first": 0}, {"all": 500.0, "first": 0.0})
    assert seen[-1] == 1000


def test_without_a_hook_nothing_happens() -> None:
    meter = Meter(None, {"a": 1}, {"a": 1.0})
    meter.hear(0, {"a": 1}, ("a", 1.0, 1.0))
    meter.tell()


def test_parts_of_several_have_one_thread_and_others_all_that_they_keep_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    small, large = nn.Linear(64, 10), nn.Linear(64, 10_000)
    points = torch.rand(200, 64)
    for parts, seconds in ((1, 0.5), (3, 40.0)):
        assert _plan.threads_of(parts, seconds, small, points) == 1
        assert _plan.threads_of(parts, seconds, large, points) == 4
    assert _plan.threads_of(3, 0.5, large, points) == 1
