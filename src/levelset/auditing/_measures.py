"""The measurements an audit can make, by name: each turns a part of the inputs into columns."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from levelset._tools.norms import norm_name
from levelset.attacks._problem import Bounds
from levelset.auditing._curvature import curvature_columns
from levelset.boundary import ATTACKS, Effort, distance, persistence

__all__ = ["MEASURES", "Measured", "Policy", "answers"]


@dataclass(frozen=True, eq=False)
class Policy:
    """How to measure: the same for every part."""

    norms: tuple[float, ...]
    bounds: Bounds
    effort: Effort
    batch_size: int | None
    seed: int

    def generator(self, part: int) -> torch.Generator:
        """Return the generator of one part, so that a part does not depend on those before."""
        mixed = hashlib.sha256(f"{self.seed}:{part}".encode()).digest()[:8]
        return torch.Generator().manual_seed(int.from_bytes(mixed, "little") >> 1)


@dataclass(frozen=True, eq=False)
class Measured:
    """Columns `(n,)` by name, and witnesses `(n, *d)` by norm."""

    columns: dict[str, Tensor]
    witnesses: dict[float, Tensor]


def _distance(
    model: nn.Module, points: Tensor, labels: Tensor, policy: Policy, generator: torch.Generator
) -> Measured:
    columns: dict[str, Tensor] = {}
    witnesses: dict[float, Tensor] = {}
    for norm in policy.norms:
        found = distance(
            model,
            points,
            labels,
            norm=norm,
            bounds=policy.bounds,
            effort=policy.effort,
            batch_size=policy.batch_size,
            generator=generator,
        )
        name = norm_name(norm)
        columns[f"distance_{name}"] = found.distance
        columns[f"nearest_class_{name}"] = found.classes
        columns[f"iterations_{name}"] = found.iterations
        columns[f"converged_{name}"] = found.converged
        known = [ATTACKS.index(attack) for attack in (*found.attacks, ATTACKS[0])]
        numbers = torch.tensor(known, device=points.device)[found.attack]
        columns[f"attack_{name}"] = torch.where(found.attack >= 0, numbers, -1)
        witnesses[norm] = found.points
    return Measured(columns, witnesses)


def _persistence(
    model: nn.Module, points: Tensor, labels: Tensor, policy: Policy, generator: torch.Generator
) -> Measured:
    """Measure how much noise each input's own prediction survives, right or wrong."""
    del labels
    found = persistence(model, points, batch_size=policy.batch_size, generator=generator)
    columns = {
        "sigma_star": found.sigma,
        "sigma_low": found.low,
        "sigma_high": found.high,
        "certified_radius": found.certified_radius,
        "noise_rival": found.rival,
    }
    return Measured(columns, {})


def _curvature(
    model: nn.Module, points: Tensor, labels: Tensor, policy: Policy, generator: torch.Generator
) -> Measured:
    """Measure how the boundary with the runner-up bends at each input, right or wrong."""
    del labels
    low, high = (torch.as_tensor(end) for end in policy.bounds)
    span = float((high - low).max())
    width = span if math.isfinite(span) else 1.0
    return Measured(curvature_columns(model, points, width, policy.batch_size, generator), {})


def answers(logits: Tensor, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
    """Return the columns that every audit has: what the model answers, and by what margin."""
    prediction = logits.argmax(1)
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    rival = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
    return {
        "index": index,
        "label": labels,
        "prediction": prediction,
        "correct": prediction == labels,
        "margin": own - rival,
    }


MEASURES: dict[str, Callable[[nn.Module, Tensor, Tensor, Policy, torch.Generator], Measured]] = {
    "distance": _distance,
    "persistence": _persistence,
    "curvature": _curvature,
}
