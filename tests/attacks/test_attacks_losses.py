"""The losses that attacks raise, by hand; and the margins kept beside them."""

import pytest
import torch
from torch import nn

from levelset.attacks._losses import AttackLoss

LOGITS = torch.tensor([[4.0, 1.0, 2.0, 0.0], [0.5, 3.0, -1.0, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 3])
PAIRS = torch.tensor([[0, 2], [3, 1]])


def loss(name: str, *, targeted: bool = False) -> AttackLoss:
    return AttackLoss("test", nn.Identity(), name, targeted=targeted, classes=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("margin", [-2.0, 1.0]), ("ratio", [-2.0 / 3.0, 1.0 / 2.5])],
)
def test_away_from_the_label(name: str, expected: list[float]) -> None:
    assert loss(name)(LOGITS, LABELS).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    # ratio: -(4 - 2) / (4 - (1 + 0) / 2) and -(2 - 3) / (3 - (0.5 - 1) / 2)
    [("margin", [-2.0, 1.0]), ("ratio", [-2.0 / 3.5, 1.0 / 3.25])],
)
def test_towards_a_target(name: str, expected: list[float]) -> None:
    assert loss(name, targeted=True)(LOGITS, PAIRS).tolist() == pytest.approx(expected)


def test_cross_entropy_is_that_of_the_label_or_less_that_of_the_target() -> None:
    entropy = -LOGITS.log_softmax(1)
    away = loss("cross_entropy")(LOGITS, LABELS)
    assert away.tolist() == pytest.approx([float(entropy[0, 0]), float(entropy[1, 3])])
    towards = loss("cross_entropy", targeted=True)(LOGITS, PAIRS)
    assert towards.tolist() == pytest.approx([-float(entropy[0, 2]), -float(entropy[1, 1])])


@pytest.mark.parametrize("name", ["cross_entropy", "margin", "ratio"])
def test_margins_are_negative_where_the_attack_is_through(name: str) -> None:
    away = loss(name)
    away(LOGITS[:1], LABELS[:1])
    away(LOGITS[1:], LABELS[1:])
    assert away.take_margins().tolist() == [2.0, -1.0]
    towards = loss(name, targeted=True)
    towards(LOGITS, PAIRS)
    assert towards.take_margins().tolist() == [2.0, -1.0]


def test_a_ratio_is_blind_to_scale_and_shift() -> None:
    for targeted, labels in ((False, LABELS), (True, PAIRS)):
        ratio = loss("ratio", targeted=targeted)
        torch.testing.assert_close(ratio(7.0 * LOGITS - 3.0, labels), ratio(LOGITS, labels))
