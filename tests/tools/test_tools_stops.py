"""A stop waits for the part in hand, and comes once."""

from collections.abc import Callable

from levelset._tools.stops import finishing, postpone, stop_asked


def part(*work: Callable[[], object]) -> list[object]:
    """Do all work in one part; return the answers, also where a stop or an error ends it."""
    answers: list[object] = []
    try:
        with finishing():
            for one in work:
                answers.append(one())
    except (KeyboardInterrupt, ZeroDivisionError) as error:
        answers.append(type(error))
    return answers


def test_a_stop_comes_when_the_part_is_done() -> None:
    assert part(stop_asked, postpone, stop_asked) == [False, True, True, KeyboardInterrupt]
    assert part(stop_asked) == [False]


def test_a_stop_within_a_part_of_a_part_waits_for_the_outer_one() -> None:
    answers = part(lambda: part(postpone), stop_asked)
    assert answers == [[True, KeyboardInterrupt], True, KeyboardInterrupt]
    assert not stop_asked()


def test_without_a_part_or_a_second_time_it_is_not_postponed() -> None:
    assert not postpone()
    assert part(postpone, postpone) == [True, False, KeyboardInterrupt]


def test_an_error_in_the_part_passes_and_the_stop_is_forgotten() -> None:
    assert part(postpone, lambda: 1 // 0) == [True, ZeroDivisionError]
    assert part(stop_asked) == [False]
