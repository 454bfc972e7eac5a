"""Progress at an even pace."""

from levelset.auditing._plan import Meter


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


def test_without_a_hook_it_counts_all_the_same() -> None:
    meter = Meter(None, {"a": 1}, {"a": 1.0})
    meter.hear(0, {"a": 1}, ("a", 1.0, 2.0))
    meter.tell()
    assert meter._seconds() == {"a": 2.0}
