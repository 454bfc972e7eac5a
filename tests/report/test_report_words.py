import math

import pytest

from levelset.report._words import inputs, norm_words, rounded, share, signed


def test_numbers_are_written_as_readers_know_them() -> None:
    assert share(0.98249) == "98.2\u00a0%"  # no line break parts it
    assert rounded(-0.01234) == "\u22120.0123"
    assert (signed(-6.66), signed(0.04)) == ("\u22126.7", "+0.0")
    assert (inputs(1), inputs(1200)) == ("1 input", "1,200 inputs")


@pytest.mark.parametrize(
    ("norm", "words"), [(2.0, "L₂"), (math.inf, "L∞"), (1.0, "L₁"), (3.0, "L3")]
)
def test_norms_have_names(norm: float, words: str) -> None:
    assert norm_words(norm) == words
