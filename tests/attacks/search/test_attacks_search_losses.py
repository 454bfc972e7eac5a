"""The losses that attacks raise, by hand; and the margins kept beside them."""

import pytest
import torch
from torch import nn

from levelset.attacks._search._objective import AttackLoss

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


def test_cross_entropy_is_raised_by_its_log_odds() -> None:
    """Entropy e is -log p, so that the odds against are (1 - p) / p = exp(e) - 1."""
    odds = (-LOGITS.log_softmax(1)).expm1().log()
    away = loss("cross_entropy")(LOGITS, LABELS)
    assert away.tolist() == pytest.approx([float(odds[0, 0]), float(odds[1, 3])])
    towards = loss("cross_entropy", targeted=True)(LOGITS, PAIRS)
    assert towards.tolist() == pytest.approx([-float(odds[0, 2]), -float(odds[1, 1])])


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_the_log_odds_keep_a_gradient_where_the_entropy_has_none(scale: float) -> None:
    logits = (scale * LOGITS).float().requires_grad_()
    (gradient,) = torch.autograd.grad(loss("cross_entropy")(logits, LABELS).sum(), logits)
    torch.testing.assert_close(gradient.gather(1, LABELS[:, None]), torch.full((2, 1), -1.0))
    entropy = nn.functional.cross_entropy(logits, LABELS, reduction="none")
    (plain,) = torch.autograd.grad(entropy.sum(), logits)
    others = 1.0 - logits.detach().softmax(1).gather(1, LABELS[:, None])
    torch.testing.assert_close(others * gradient, plain, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "margin", "ratio"])
def test_margins_are_negative_where_the_attack_is_through(name: str) -> None:
    away = loss(name)
    away(LOGITS[:1], LABELS[:1])
    away(LOGITS[1:], LABELS[1:])
    margins, scales = away.take_margins()
    assert margins.tolist() == [2.0, -1.0]
    assert scales.tolist() == ([3.0, 2.5] if name == "ratio" else [1.0, 1.0])
    towards = loss(name, targeted=True)
    towards(LOGITS, PAIRS)
    assert towards.take_margins()[0].tolist() == [2.0, -1.0]


def test_a_ratio_is_blind_to_scale_and_shift() -> None:
    for targeted, labels in ((False, LABELS), (True, PAIRS)):
        ratio = loss("ratio", targeted=targeted)
        torch.testing.assert_close(ratio(7.0 * LOGITS - 3.0, labels), ratio(LOGITS, labels))


def test_a_class_may_be_gone_to_where_any_but_the_label_counts() -> None:
    towards = AttackLoss("test", lambda x: x, "ratio", targeted=True, classes=4, any_class=True)
    torch.testing.assert_close(towards(LOGITS, PAIRS), loss("ratio", targeted=True)(LOGITS, PAIRS))
    away = loss("ratio")
    away(LOGITS, LABELS)
    assert torch.equal(towards.take_margins()[0], away.take_margins()[0])
