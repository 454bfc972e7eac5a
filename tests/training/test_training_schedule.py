"""The learning rate from step to step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levelset.training._schedule import rate_factor


@given(st.integers(1, 500))
def test_cosine_rises_then_falls_within_0_and_1(steps: int) -> None:
    factors = [rate_factor("cosine", step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert top <= steps / 20 + 1


def test_cosine_at_its_corners() -> None:
    factors = [rate_factor("cosine", step, 100) for step in range(100)]
    assert factors[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert rate_factor("cosine", 2 + 38 // 2, 40) == pytest.approx(0.5)
    assert factors[-1] < 0.001


@given(st.integers(1, 500), st.data())
def test_constant_is_constant(steps: int, data: st.DataObject) -> None:
    assert rate_factor("constant", data.draw(st.integers(0, steps - 1)), steps) == 1.0
