"""The measurements an audit can make, by name: each turns a part of the inputs into columns."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from levelset._tools.norms import norm_name
from levelset._typing import Bounds, Model, Progress
from levelset.auditing._curvature import curvature_columns, curvature_products
from levelset.auditing._plan import Report
from levelset.boundary import ATTACKS, Effort, distance, persistence
from levelset.boundary._second_order._smoothing import Smoothing

__all__ = [
    "ADVERSARIAL",
    "BEYOND",
    "MEASURES",
    "Measure",
    "Measured",
    "Policy",
    "adversarial_persistence",
    "persistence_cost",
]

ADVERSARIAL, BEYOND = 100, 1.5
"""For how many inputs the persistence of an adversarial input is measured too, and how far that
lies, in lengths of the least perturbation: on the boundary itself the 0.7-persistence is 0."""


@dataclass(frozen=True, eq=False)
class Policy:
    """How to measure: the same for every part."""

    norms: tuple[float, ...]
    bounds: Bounds
    effort: Effort
    batch_size: int | None
    seed: int
    smoothing: Smoothing | None = None
    adversarial: int = 0

    def generator(self, measure: str, first: int) -> torch.Generator:
        """Return the generator of a measure for the part that begins with input `first`."""
        mixed = hashlib.sha256(f"{self.seed}:{measure}:{first}".encode()).digest()[:8]
        return torch.Generator().manual_seed(int.from_bytes(mixed, "little") >> 1)


@dataclass(frozen=True, eq=False)
class Measured:
    """Columns `(n,)`, or `(n, q)`, by name, and witnesses `(n, *d)` by norm."""

    columns: dict[str, Tensor]
    witnesses: dict[float, Tensor]


@dataclass(frozen=True)
class Measure:
    """A measurement that an audit can make.

    Attributes:
        run: Called as `run(model, points, labels, policy, first, report)`, `first` being the
            number of the first input and `report` taking the share that is done.
        evaluations: Forward passes expected for one input of a size, a gradient being three.
    """

    run: Callable[[nn.Module, Tensor, Tensor, Policy, int, Report], Measured]
    evaluations: Callable[[Policy, int], float]


def _distance(
    model: Model, points: Tensor, labels: Tensor, policy: Policy, first: int, report: Report
) -> Measured:
    columns: dict[str, Tensor] = {}
    witnesses: dict[float, Tensor] = {}
    for place, norm in enumerate(policy.norms):
        found = distance(
            model,
            points,
            labels,
            norm=norm,
            bounds=policy.bounds,
            effort=policy.effort,
            batch_size=policy.batch_size,
            generator=policy.generator("distance", first),
            progress=_part_of(report, place, len(policy.norms)),
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
    model: Model, points: Tensor, labels: Tensor, policy: Policy, first: int, report: Report
) -> Measured:
    """Measure how much noise each input's own prediction survives, right or wrong.

    The noise around an input follows from the seed and the input, whatever the part.
    """
    del labels, first
    found = persistence(
        model,
        points,
        batch_size=policy.batch_size,
        generator=policy.generator("persistence", 0),
        progress=_part_of(report),
    )
    columns = {
        "sigma_star": found.sigma,
        "sigma_low": found.low,
        "sigma_high": found.high,
        "certified_radius": found.certified_radius,
        "certified_sigma": found.certified_sigma,
        "noise_rival": found.rival,
    }
    return Measured(columns, {})


def _curvature(
    model: Model, points: Tensor, labels: Tensor, policy: Policy, first: int, report: Report
) -> Measured:
    """Measure how the boundary with the runner-up bends at each input, right or wrong."""
    del labels
    generator = policy.generator("curvature", first)
    columns = curvature_columns(
        model, points, policy.smoothing, policy.batch_size, generator, _part_of(report)
    )
    return Measured(columns, {})


def adversarial_persistence(
    model: Model, points: Tensor, measured: Measured, policy: Policy, report: Report
) -> Tensor:
    """Return the persistence of adversarial inputs, `(n,)`, for the first `policy.adversarial`.

    An adversarial input lies on the line from an input that is classified right through its
    witness, in L2 if that was measured, 1.5 times as far, clamped to the bounds. NaN where there is
    none, or where it is classified as its input is.
    """
    norm = 2.0 if 2.0 in measured.witnesses else next(iter(measured.witnesses))
    columns = measured.columns
    wanted = columns["correct"] & (columns["index"] < policy.adversarial)
    rows = (wanted & columns[f"distance_{norm_name(norm)}"].isfinite()).nonzero().flatten()
    sigma = points.new_full((len(points),), torch.nan)
    if len(rows):
        low, high = (torch.as_tensor(end).to(points) for end in policy.bounds)
        far = points[rows].lerp(measured.witnesses[norm][rows], BEYOND).clamp(low, high)
        found = persistence(
            model,
            far,
            batch_size=policy.batch_size,
            generator=policy.generator("adversarial", 0),
            progress=_part_of(report),
        )
        own = found.classes == columns["prediction"][rows]
        sigma[rows] = found.sigma.masked_fill(own, torch.nan)
    return sigma


def _part_of(report: Report, place: int = 0, places: int = 1) -> Progress:
    """Return the hook of one call out of several that make a measurement."""
    return lambda done, total: report((place + done / max(total, 1)) / places)


def _distance_cost(policy: Policy, size: int) -> float:
    """Return the evaluations expected for the distance of an input, in all norms."""
    del size
    gradients = {"quick": 36, "standard": 95, "thorough": 595}
    return 3.0 * gradients[policy.effort] * len(policy.norms)


def persistence_cost(policy: Policy, size: int) -> float:
    """Return the evaluations expected for the persistence of an input."""
    del policy, size
    return 2_500.0


def _curvature_cost(policy: Policy, size: int) -> float:
    return 6.0 * curvature_products(policy.smoothing, size)


MEASURES = {
    "distance": Measure(_distance, _distance_cost),
    "persistence": Measure(_persistence, persistence_cost),
    "curvature": Measure(_curvature, _curvature_cost),
}
