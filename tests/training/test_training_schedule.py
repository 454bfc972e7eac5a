"""The learning rate from step to step."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levelset.errors import ParameterError
from levelset.training import Ramp, Steps
from levelset.training._schedule import rate_factor


@given(st.integers(1, 500))
def test_cosine_rises_then_falls_within_0_and_1(steps: int) -> None:
    factors = [rate_factor("cosine", step, steps, 1) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert top <= steps / 20 + 1


def test_cosine_at_its_corners() -> None:
    factors = [rate_factor("cosine", step, 100, 1) for step in range(100)]
    assert factors[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert rate_factor("cosine", 2 + 38 // 2, 40, 1) == pytest.approx(0.5)
    assert factors[-1] < 0.001


@given(st.integers(1, 500), st.data())
def test_constant_is_constant(steps: int, data: st.DataObject) -> None:
    assert rate_factor("constant", data.draw(st.integers(0, steps - 1)), steps, 1) == 1.0


def test_ramps_and_steps_at_their_knots() -> None:
    ramp = Ramp({2: 1.0, 4: 3.0, 8: 0.0})
    assert [ramp.at(t, 100) for t in (0, 2, 3, 4, 6, 8, 50)] == [1.0, 1.0, 2.0, 3.0, 1.5, 0.0, 0.0]
    shares = Ramp({"20%": 1.0, "40%": 3.0, "80%": 0.0})
    assert [shares.at(t, 10) for t in (0, 2, 3, 4, 6, 8, 9)] == pytest.approx(
        [ramp.at(t, 10) for t in (0, 2, 3, 4, 6, 8, 9)]
    )
    assert Ramp({0: 0.0, "50%": 1.0}).at(2, 8) == 0.5
    steps = Steps({"50%": 0.5, "75%": 0.25})
    assert [steps.at(t, 8) for t in (0, 3.99, 4, 6, 8)] == [1.0, 1.0, 0.5, 0.25, 0.25]


def test_schedules_are_equal_by_kind_and_knots() -> None:
    assert Ramp({0: 1, 5: 2}) == Ramp({0: 1, 5: 2})
    assert hash(Ramp({0: 1})) == hash(Ramp({0: 1}))
    assert Ramp({0: 1}) != Steps({0: 1})
    assert Ramp({0: 1}) != Ramp({1: 1})
    assert repr(Steps({50: 0.5})) == "steps({50: 0.5})"


def test_the_learning_rate_follows_a_schedule_step_by_step() -> None:
    factor = Steps({1: 0.5})
    assert [rate_factor(factor, step, 6, 3) for step in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    rise = Ramp({0: 0.0, 3: 1.0})
    assert [rate_factor(rise, step, 6, 3) for step in range(6)] == pytest.approx(
        [1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12]
    )


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ({}, "`knots` must be a dict of values by their times"),
        ([(0, 1)], "must be a dict of values by their times, such as .*got list"),
        ({5: 1, 2: 1}, "must ascend"),
        ({1: 1, "50%": 1}, r"all numbers of epochs or all shares .*, got \[1, '50%'\]"),
        ({-1: 1}, "a number of epochs from 0, or a share .* got -1"),
        ({"120%": 1}, "got '120%'"),
        ({"5": 1}, "got '5'"),
        ({True: 1}, "got True"),
        ({float("nan"): 1}, "got nan"),
        ({0: float("inf")}, "values of `knots` must be finite"),
        ({0: "x"}, "`knots.0.` must be a number, got 'x'"),
    ],
)
@pytest.mark.messages
def test_knots_that_cannot_be_are_named(knots: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Ramp(knots)
