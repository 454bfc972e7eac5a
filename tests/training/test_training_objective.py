"""Sums of losses with weights and schedules: their value, their gradient, what they report."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levelset import losses
from levelset.errors import FieldError, ParameterError
from levelset.networks import fc
from levelset.training import Objective, Ramp, Steps, Term, cross_entropy, initialise, train


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> tuple[nn.Module, Tensor, Tensor]:
    net = initialise(fc(3, 8, 3), generator=seeded(2)).double()
    points = torch.rand(12, 3, generator=seeded(1), dtype=torch.float64)
    return net, points, torch.arange(12) % 3


def test_value_and_gradient_are_those_of_the_weighted_sum(batch: Any) -> None:
    net, points, labels = batch
    objective = Objective(
        Term(losses.hinge, {"margin": 2.0}, 0.25),
        Term(losses.large_margin, {"radius": 0.3}, 3.0),
        cross_entropy,
    )
    by_hand = (
        0.25 * losses.hinge(net, points, labels, margin=2.0)
        + 3.0 * losses.large_margin(net, points, labels, radius=0.3)
        + cross_entropy(net, points, labels)
    )
    value = objective(net, points, labels)
    torch.testing.assert_close(value, by_hand, rtol=1e-14, atol=0)
    parameters = list(net.parameters())
    for one, other in zip(
        torch.autograd.grad(value, parameters),
        torch.autograd.grad(by_hand, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_a_single_loss_of_weight_1_is_the_loss_itself_to_the_bit(batch: Any) -> None:
    net, points, labels = batch
    partial = functools.partial(losses.hinge, margin=2.0)
    assert str(Objective.of(partial)) == "hinge(margin=2.0)"
    own = Objective.of(partial)(net, points, labels)
    assert torch.equal(own, partial(net, points, labels))
    objective = Objective(cross_entropy)
    assert Objective.of(objective) is objective
    assert objective.at(3, 10) is objective


def test_terms_add_up_to_the_loss_and_carry_their_weights(batch: Any) -> None:
    net, points, labels = batch
    reports: list[losses.Diagnostics] = []
    objective = Objective(
        Term(losses.interval_bound, {"radius": 0.1, "kappa": 0.25}, 2.0),
        Term(losses.robust_distance, {"radius": 0.3, "adversarial": 0.5, "generator": seeded()}),
        Term(losses.hinge, weight=0.5),
        losses.hinge,
    )
    value = objective(net, points, labels, watch=reports.append)
    (report,) = reports
    assert list(report.terms) == [
        "interval_bound.cross_entropy", "interval_bound.bound", "robust_distance.adversarial",
        "robust_distance.samples", "hinge", "hinge_2",
    ]  # fmt: skip
    torch.testing.assert_close(sum(report.terms.values()), value, rtol=1e-13, atol=0)
    torch.testing.assert_close(report.terms["hinge"], 0.5 * report.terms["hinge_2"])
    plain = 0.5 * cross_entropy(net, points, labels)  # 2 times 0.25
    torch.testing.assert_close(report.terms["interval_bound.cross_entropy"], plain)
    assert report.converged is not None
    assert report.distance is not None
    assert len(report.converged) == len(report.distance) > 0


def test_a_term_of_weight_0_is_not_evaluated(batch: Any) -> None:
    def never(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
        raise AssertionError

    objective = Objective(Term(never, weight=Steps({0: 0.0, 5: 1.0})), cross_entropy)
    assert torch.equal(objective.at(4, 10)(*batch), cross_entropy(*batch))
    with pytest.raises(AssertionError):
        objective.at(5, 10)(*batch)


def test_schedules_reach_the_loss_in_the_middle_of_each_step() -> None:
    seen: list[float] = []

    def loss(model: nn.Module, points: Tensor, labels: Tensor, *, radius: float) -> Tensor:
        seen.append(radius)
        return cross_entropy(model, points, labels)

    points = torch.rand(20, 2, generator=seeded())
    data: Any = type("Toy", (), {"points": points, "labels": torch.arange(20) % 2})()
    objective = Objective(Term(loss, {"radius": Ramp({0: 0.0, 2: 1.0})}))
    history = train(fc(2, 2), data, loss=objective, epochs=3, batch_size=10, generator=seeded())
    assert seen == pytest.approx([0.125, 0.375, 0.625, 0.875, 1.0, 1.0])
    name = next(name for name in history.names if name.endswith(": radius"))
    assert history.columns()[name] == pytest.approx([0.375, 0.875, 1.0])


@pytest.mark.messages
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: Objective(), ParameterError, "`terms` must hold at least one loss"),
        (lambda b: Objective(Term(losses.hinge, weight=0))(*b), ParameterError, "every term is 0"),
        (
            lambda b: Objective(Term(losses.hinge, {"margin": Ramp({0: 1})}))(*b),
            ParameterError,
            r"hinge\(margin=ramp\({0: 1}\)\) follows a schedule. Call `objective.at",
        ),
        (lambda b: Objective(lambda m, x, y: m(x))(*b), FieldError, r"one number, shape \(\), got"),
        (
            lambda b: Term(losses.hinge, weight=float("nan")),
            ParameterError,
            "`weight` must be a fi",
        ),
        (lambda b: Term(losses.hinge, weight=True), ParameterError, "`weight` must be a finite"),
        (lambda b: Term(3), ParameterError, "`loss` must be callable, got 3"),
        (lambda b: Term(losses.hinge, {1: 2}), ParameterError, "`options` must be a dict"),
    ],
)
def test_what_cannot_be_is_named(
    batch: Any, call: Callable[[Any], Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        call(batch)
