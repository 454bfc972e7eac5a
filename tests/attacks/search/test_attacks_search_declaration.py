"""Declared attacks: options checked by name, the model held, docstrings complete."""

import inspect
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset import attacks
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.attacks import Attack
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

FUNCTIONS = [getattr(attacks, name) for name in attacks.__all__ if name.islower()]


@attack(2.0, 1.0)
def straight_line(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    steps: int = 10,
    pull: float = 1.0,
    batch_size: int | None = None,
) -> Attack:
    """Go to the middle of the box.

    Args:
        pull: A share of the way,
            on two lines.

    References:
        - Nobody.
    """
    assert not isinstance(model, nn.Module) or not model.training
    problem = Problem("straight_line", model, points, labels, None, norm, bounds, batch_size)

    def search(rows: Tensor) -> None:
        there = torch.full_like(points[rows], 0.5)
        problem.offer(rows, there, problem.margin(rows, there))

    return least_norm(problem, search)


def test_the_docstring_has_every_argument_in_order_and_the_shared_sections() -> None:
    text = inspect.getdoc(straight_line) or ""
    assert re.findall(r"^    (\w+): ", text, re.MULTILINE) == [
        *inspect.signature(straight_line).parameters, "ParameterError", "FieldError",
    ]  # fmt: skip
    assert "    norm: 2 or 1.\n" in text
    assert "    pull: A share of the way, on two lines.\n" in text
    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == [
        "Args", "Returns", "Raises", "References",
    ]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_attack_describes_each_of_its_arguments_once(function: Callable[..., object]) -> None:
    text = (inspect.getdoc(function) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    described = re.findall(r"^    (\w+): ", text, re.MULTILINE)
    assert described == list(inspect.signature(function).parameters)
    assert max(map(len, (inspect.getdoc(function) or "").splitlines())) <= 100


@pytest.mark.messages
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": 3}, "straight_line: `norm` must be one of 2, 1, got 3"),
        ({"steps": 0}, "straight_line: `steps` must be at least 1, got 0"),
        ({"batch_size": 0}, "straight_line: `batch_size` must be at least 1"),
    ],
)
def test_options_are_checked_by_their_names(options: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        straight_line(nn.Linear(2, 2), torch.rand(1, 2), **options)  # type: ignore[arg-type]


def test_it_is_judged_and_the_model_left_in_its_mode() -> None:
    model = nn.Sequential(nn.Linear(1, 2)).train()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[0].bias.copy_(torch.tensor([-0.6, 0.6]))
    result = straight_line(model, torch.tensor([[0.7]]))
    assert model.training
    assert result.distance.tolist() == pytest.approx([0.1], abs=1e-5)
