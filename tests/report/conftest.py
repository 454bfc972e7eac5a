from collections.abc import Callable

import pytest
import torch

from levelset._tools.norms import norm_name
from levelset.auditing._result import Audit


def build(
    n: int = 30,
    shape: tuple[int, ...] = (1, 4, 4),
    k: int = 3,
    *,
    norms: tuple[float, ...] = (2.0, float("inf")),
    classes: tuple[str, ...] | None = None,
    name: str = "model",
    bounds: tuple[float, float] = (0.0, 1.0),
    wrong: int = 2,
    missed: int = 1,
    scale: float = 1.0,
    seed: int = 0,
) -> Audit:
    """An audit of its own making: the first `wrong` rows misclassified, the next `missed`."""
    generator = torch.Generator().manual_seed(seed)
    low, high = bounds
    points = low + (high - low) * torch.rand(n, *shape, generator=generator)
    label = torch.arange(n) % k
    correct = torch.arange(n) >= wrong
    columns = {
        "index": torch.arange(n) * 10,
        "label": label,
        "prediction": torch.where(correct, label, (label + 1) % k),
        "correct": correct,
        "margin": torch.where(correct, 1.0, -1.0) * (1 + torch.arange(n)),
    }
    witnesses = {}
    for norm in norms:
        change = 0.2 * scale * (torch.rand(n, *shape, generator=generator) - 0.5)
        witness = points + (high - low) * change
        lost = (torch.arange(n) >= wrong) & (torch.arange(n) < wrong + missed)
        rows = (-1,) + (1,) * len(shape)
        witness = torch.where(correct.view(rows), witness, points)
        witnesses[norm] = torch.where(lost.view(rows), torch.nan, witness)
        distance = torch.linalg.vector_norm((witness - points).flatten(1), ord=norm, dim=1)
        end = norm_name(norm)
        columns[f"distance_{end}"] = torch.where(lost, torch.inf, distance)
        columns[f"nearest_class_{end}"] = torch.where(lost, -1, (label + 1) % k)
        columns[f"gradients_{end}"] = torch.full((n,), 7)
        columns[f"converged_{end}"] = ~lost
    names = classes or tuple(f"c{i}" for i in range(k))
    return Audit(points, columns, witnesses, norms, names, name, bounds)


@pytest.fixture
def make_audit() -> Callable[..., Audit]:
    return build
