from collections.abc import Callable

import pytest
import torch

from levelset.auditing._result import Audit
from levelset.report import _audit
from levelset.report._sections import _distance
from levelset.report._words import share

Make = Callable[..., Audit]


def test_sentence_tells_the_quantiles_of_the_right_inputs(make_audit: Make) -> None:
    audit = make_audit(n=101, wrong=0, missed=0, norms=(2.0,))
    audit.columns["distance_2"][:] = torch.arange(101) / 100.0
    words = _audit._sentence(audit)
    assert "within 0.1, half within 0.5, nine tenths within 0.9." in words
    assert words.startswith("“model”: 101 of 101 inputs are classified right")


def test_one_input_takes_the_singular(make_audit: Make) -> None:
    words = _audit._sentence(make_audit(1, wrong=0, missed=0))
    assert "1 of 1 input is classified right" in words


def test_audit_without_witnesses_says_so(make_audit: Make) -> None:
    card = _audit._cards(make_audit(n=3, wrong=3, missed=0))[1]
    assert card["value"] == "none"
    assert card["note"] == "no input classified right has a witness"


def test_comparison_reads_the_curves_at_round_radii(make_audit: Make) -> None:
    audits = [make_audit(n=50), make_audit(n=50, scale=3.0, seed=1)]
    rows = {row["name"]: row["cells"] for row in _distance._compared(audits)}
    names = [name for name in rows if name.startswith("Accuracy at L₂ radius")]
    assert len(names) == 3
    for name in names:
        radius = float(name.rsplit(" ", 1)[1])
        assert radius == float(f"{radius:.1g}")
        for audit, cell in zip(audits, rows[name], strict=True):
            right = audit.columns["correct"] & (audit.distance(2.0) > radius)
            assert cell["value"] == share(float(right.double().mean()))
    assert rows["Median distance, L₂"][1]["best"]
    assert not rows["Median distance, L₂"][0]["best"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (0, "0 of 5 inputs are classified wrong"),
        (1, "1 of 5 inputs is classified wrong"),
    ],
)
def test_what_is_not_drawn_is_counted(make_audit: Make, wrong: int, words: str) -> None:
    told = _distance._outside(make_audit(n=5, wrong=wrong, missed=0, norms=(2.0,)))
    assert told == f"“model”: {words}: distance 0, not drawn. L₂: {5 - wrong} drawn."
