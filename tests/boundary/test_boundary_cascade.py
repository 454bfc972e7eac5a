"""The cascade: an input's fate is its own, stages take whom they are for, witnesses are judged."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.modes import frozen
from levelset.attacks._search._problem import Problem
from levelset.boundary._cascade import Cascade, Stage

STAGES = [
    Stage("step"),
    Stage("climb", 10),
    Stage("climb", 10, "ratio", rival=2),
    Stage("climb", 5, "cross_entropy", resumes=True),
    Stage("walk", 20),
    Stage("square", 60, near=0.9),
]


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Flatten(), nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 5)
    return settled(nn.Sequential(*layers), seed=11, dtype=torch.float64)


@pytest.fixture
def points(noise: Callable[..., Tensor]) -> Tensor:
    return noise(30, 1, 6, 6).sigmoid()


def begun(
    model: Callable[..., Tensor], points: Tensor, norm: float = math.inf, radius: float = 0.08
) -> Cascade:
    problem = Problem("test", model, points, None, None, norm, look=True)
    return Cascade(problem, radius if math.isinf(norm) else 0.3, seed=7)


def run(model: nn.Module, points: Tensor, norm: float) -> Cascade:
    with frozen(model):
        cascade = begun(model, points, norm)
        for number, stage in enumerate(STAGES):
            cascade.run(number, stage)
        cascade.judge()
    return cascade


@pytest.mark.parametrize("norm", [2.0, math.inf])
def test_what_becomes_of_an_input_does_not_depend_on_the_others(
    network: nn.Module, points: Tensor, norm: float
) -> None:
    whole = run(network, points, norm)
    assert 3 < whole.stands.sum() < 27
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))[:20]
    some = run(network, points[order], norm)
    assert torch.equal(some.stands, whole.stands[order])
    assert torch.equal(some.broken_by, whole.broken_by[order])
    torch.testing.assert_close(some.problem.best, whole.problem.best[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: f"{stage.kind}-{stage.loss}")
def test_each_stage_lowers_margins_and_keeps_their_points(
    network: nn.Module, points: Tensor, stage: Stage
) -> None:
    with frozen(network):
        cascade = begun(network, points)
        before = cascade.lowest.clone()
        cascade.run(0, replace(stage, near=1.0))
        rows = torch.arange(30)
        margins = cascade.problem.margin(rows, cascade.problem.best)
    assert (cascade.lowest <= before).all()
    assert (cascade.lowest < before).any()
    torch.testing.assert_close(cascade.lowest, margins, rtol=1e-9, atol=1e-12)
    assert torch.equal(cascade.stands, cascade.broken_by < 0)
    assert (margins[~cascade.stands] < 0).all()
    assert (margins[cascade.stands] > 0).all()
    moved = (cascade.problem.best - points).flatten(1).norm(p=math.inf, dim=1)
    assert (moved <= 0.08).all()


def test_only_inputs_near_the_boundary_are_taken(network: nn.Module, points: Tensor) -> None:
    with frozen(network):
        cascade = begun(network, points)
        cascade.run(0, Stage("climb", 4))
        spent = cascade.problem.forwards.clone()
        near = cascade.stands & (cascade.lowest <= 0.5 * cascade.problem.margins)
        cascade.run(1, Stage("square", 5, near=0.5))
    assert 0 < near.sum() < cascade.stands.sum()
    assert torch.equal(cascade.problem.forwards > spent, near)


def test_a_rival_is_gone_to_but_any_class_counts(network: nn.Module, points: Tensor) -> None:
    with frozen(network):
        cascade = begun(network, points, radius=0.2)
        assert torch.equal(cascade.ranked[:, 0], cascade.problem.labels)
        expected = network(points).argsort(dim=1, descending=True)
        assert torch.equal(cascade.ranked, expected)
        cascade.run(0, Stage("climb", 40, rival=2))
        reached = network(cascade.problem.best[~cascade.stands]).argmax(1)
    labels, rivals = cascade.problem.labels[~cascade.stands], cascade.ranked[~cascade.stands, 2]
    assert (reached != labels).all()
    assert (reached == rivals).any()


def test_witnesses_that_do_not_hold_are_dropped(network: nn.Module, points: Tensor) -> None:
    with frozen(network):
        cascade = begun(network, points)
        cascade.run(0, Stage("climb", 20))
        broken = (~cascade.stands).nonzero().flatten()
        assert len(broken) > 2
        cascade.problem.best[broken[0]] = points[broken[0]]
        cascade.problem.best[broken[1]] = points[broken[1]] + 0.2
        cascade.judge()
    assert cascade.stands[broken[:2]].all()
    assert (cascade.broken_by[broken[:2]] == -1).all()
    assert not cascade.stands[broken[2:]].any()


def test_a_model_without_gradients_leaves_the_windows(points: Tensor) -> None:
    weight = torch.randn(3, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return x.detach().flatten(1) @ weight.T

    cascade = begun(model, points)
    assert cascade.flat.all()
    for number, stage in enumerate(STAGES):
        cascade.run(number, stage)
    assert set(cascade.broken_by.tolist()) == {-1, 5}
    assert (cascade.problem.gradients <= 1).all()
