"""The loss that least-norm attacks raise: its gradient, its books, its witnesses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks._search._objective import Objective
from levelset.attacks._search._problem import Problem


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 4)
    return settled(nn.Sequential(*layers), seed=1, dtype=torch.float64)


@pytest.mark.parametrize("targeted", [False, True])
def test_value_gradient_and_success(
    targeted: bool, network: nn.Module, noise: Callable[..., Tensor]
) -> None:
    points = noise(9, 5)
    labels = network(points).argmax(1)
    targets = (labels + 1) % 4 if targeted else None
    problem = Problem(
        "test", network, points, labels, norm=2.0, bounds=(-9.0, 9.0), targets=targets
    )
    rows, here = torch.tensor([6, 1, 4]), noise(3, 5, seed=7)
    value, gradient, across = Objective(problem, "cross_entropy").at(rows, here)
    leaf = here.clone().requires_grad_()
    wanted = labels[rows] if targets is None else targets[rows]
    loss = nn.functional.cross_entropy(network(leaf), wanted, reduction="none")
    loss = loss.expm1().log()  # the log-odds, which grow with the entropy
    loss = -loss if targeted else loss
    torch.testing.assert_close(value, loss.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(loss.sum(), leaf)[0])
    classes = network(here).argmax(1)
    assert torch.equal(across, classes == wanted if targeted else classes != wanted)
    assert problem.gradients.tolist() == [0, 1, 0, 0, 1, 0, 1, 0, 0]
    assert torch.equal(problem.distance[rows].isfinite(), across)
    assert torch.equal(problem.best[rows[across]], here[across])


def test_a_lead_may_be_asked_for(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    points, here = noise(40, 5), noise(40, 5, seed=7)
    labels = network(points).argmax(1)
    problem = Problem("test", network, points, labels, norm=2.0, bounds=(-9.0, 9.0))
    rows = torch.arange(40)
    lead, _, across = Objective(problem, "margin", least=0.5).at(rows, here)
    assert torch.equal(across, lead >= 0.5)
    assert 0 < across.sum() < (lead > 0).sum()


def test_a_broken_gradient_is_none(network: nn.Module, noise: Callable[..., Tensor]) -> None:
    class Root(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return network(points) + 0.0 * points.clamp(min=0.0).sqrt().sum(1, keepdim=True)

    points = noise(6, 5).abs() + 0.1
    points[2, 3] = 0.0
    problem = Problem("test", Root(), points, None, norm=2.0, bounds=(0.0, 9.0))
    _, gradient, _ = Objective(problem, "margin").at(torch.arange(6), points)
    assert (gradient[2] == 0).all()
    others = gradient[torch.arange(6) != 2]
    assert others.isfinite().all()
    assert (others != 0).any(1).all()
