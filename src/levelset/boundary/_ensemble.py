"""Several attacks on the same inputs, each on the rows that it can still improve."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from levelset._tools.checks import check_callable, check_instance
from levelset._tools.evaluation import Evaluator
from levelset._tools.norms import norm_of
from levelset._typing import Model
from levelset.attacks import Attack, alma, direct_boundary, fmn, random_direction
from levelset.boundary._shrinking import shrinking_pgd, shrinking_square
from levelset.errors import NoGradientError

__all__ = ["ATTACKS", "Effort", "Ensemble", "Member", "members"]

Effort: TypeAlias = Literal["quick", "standard", "thorough"]

ATTACKS = ("direct_boundary", "alma", "fmn", "random_direction", "pgd", "square")
"""Names of all attacks that an effort may make."""

# Gradients an input, and rivals scouted, of the walk along the boundary that each effort adds.
_WALK: dict[Effort, dict[str, int]] = {
    "quick": {"steps": 26, "rivals": 0},
    "standard": {"steps": 69, "rivals": 3},
    "thorough": {"steps": 400, "rivals": 5},
}
_WALK_INF: dict[Effort, dict[str, int]] = {
    "quick": {"steps": 46, "rivals": 0},
    "standard": {"steps": 53, "rivals": 2},
    "thorough": {"steps": 400, "rivals": 5},
}
_SECOND_STEPS = 100
_DRAWS = 4


@dataclass(frozen=True)
class Member:
    """One attack of an ensemble.

    Attributes:
        name: What results call it.
        attack: Called as `attack(model, points, labels, **options)`.
        options: Its own options, beside those that all share.
        last_resort: Whether it takes only the inputs for which nothing was found before.
        random: Whether it follows random directions.
        resumes: Whether it takes only the inputs whose witness goes back to a random direction, and
            starts from where that one crossed.
        starts: Whether it starts from the witnesses of the members before, and takes all inputs.
        judged: Whether its points are known to be across; those of others are evaluated again.
    """

    name: str
    attack: Callable[..., Attack]
    options: dict[str, Any]
    last_resort: bool = False
    random: bool = False
    resumes: bool = False
    starts: bool = False
    judged: bool = True


def members(
    effort: Effort, norm: float, points: Tensor, extra: Sequence[Callable[..., Attack]]
) -> list[Member]:
    """Return the attacks of an effort, in the order they are made: those of the one below first.

    So no input is further away at a higher effort. The gradient-free one comes last where gradients
    lead nowhere, and for all inputs at the highest effort, so that masked gradients cannot pass for
    distance. Where it finds the nearest point, the boundary is walked along from there: an input
    without a gradient may lie near a boundary that has one. For L-infinity the highest effort ends
    with attacks of fixed radius, within radii that shrink.
    """
    walks = _WALK_INF if math.isinf(norm) else _WALK
    efforts: list[Effort] = list(walks)
    blind = {"draws": _DRAWS, "reach": _reach(points), "generator": _own_stream()}
    attacks: list[Member] = []
    steps = 0
    for one in efforts[: efforts.index(effort) + 1]:
        walk = {"norm": norm, **walks[one]}
        steps += walks[one]["steps"]
        most = one == "thorough"
        attacks.append(Member("direct_boundary", direct_boundary, walk))
        if most:
            second = {"norm": norm, "steps": _SECOND_STEPS}
            name = "fmn" if math.isinf(norm) else "alma"
            attacks.append(Member(name, fmn if math.isinf(norm) else alma, second))
        attacks.append(Member("random_direction", random_direction, blind, not most, random=True))
        resumed = walk | {"steps": steps}  # has no walk before it to add to
        attacks.append(Member("direct_boundary", direct_boundary, resumed, resumes=True))
        if most and math.isinf(norm):
            attacks.append(Member("pgd", shrinking_pgd, {"norm": norm}, starts=True))
            attacks.append(Member("square", shrinking_square, {"norm": norm}, starts=True))
    for i, attack in enumerate(extra):
        name = f"extra_attacks[{i}]"
        check_callable("distance", name, attack, ("model", "points", "labels"))
        attacks.append(Member(_name(attack), attack, {"norm": norm}, judged=False))
    return attacks


class Ensemble:
    """The nearest witness of each input over all attacks made so far, and what they cost."""

    def __init__(self, model: Model, points: Tensor, labels: Tensor, norm: float) -> None:
        self.model, self.points, self.labels, self.norm = model, points, labels, norm
        n = len(points)
        self.lengths = points.new_full((n,), torch.inf)
        self.witnesses = points.clone()
        # Of those that go back to random directions, where these crossed: a longer walk gets
        # nowhere from the end of a shorter one.
        self._random = torch.zeros(n, dtype=torch.bool, device=points.device)
        self._crossings = points.clone()
        self.winner = torch.full((n,), -1, dtype=torch.int64, device=points.device)
        self.gradients = torch.zeros(n, dtype=torch.int64, device=points.device)
        self.evaluations = torch.zeros(n, dtype=torch.int64, device=points.device)

    def run(self, index: int, member: Member, **shared: Any) -> None:
        """Make one attack on the rows that it can still improve; keep what is nearer."""
        rows = self._rows(member)
        if len(rows) == 0 and (len(self.points) or member.resumes):
            return
        options = {**shared, **member.options}
        if member.resumes or member.starts:
            options["starts"] = (self._crossings if member.resumes else self.witnesses)[rows]
        try:
            result = member.attack(self.model, self.points[rows], self.labels[rows], **options)
        except NoGradientError:
            return  # the gradient-free member answers for the model
        check_instance("distance", f"{member.name}(...)", result, Attack)
        lengths = norm_of(result.points - self.points[rows], self.norm)
        nearer = result.success & (lengths < self.lengths[rows])
        if not member.judged:
            nearer &= self._across(rows, result.points)
        improved = rows[nearer]
        self.lengths[improved] = lengths[nearer]
        self.witnesses[improved] = result.points[nearer]
        self.winner[improved] = index
        self._random[improved] = member.random or member.resumes
        if member.random:
            self._crossings[improved] = result.points[nearer]
        self.gradients[rows] += result.gradients
        self.evaluations[rows] += result.evaluations

    def _rows(self, member: Member) -> Tensor:
        """Return the rows that a member takes."""
        if member.resumes:
            return (self._random & (self.lengths > 0)).nonzero().flatten()
        improvable = self.lengths.isinf() if member.last_resort else self.lengths > 0
        return improvable.nonzero().flatten()

    def _across(self, rows: Tensor, points: Tensor) -> Tensor:
        """Return whether points that an attack calls successful are of another class, `(m,)`."""
        self.evaluations[rows] += 1
        logits = Evaluator("distance", self.model).values(points)
        return (logits.argmax(1) != self.labels[rows]) & logits.isfinite().all(1)


def _reach(points: Tensor) -> float:
    """Return a length beyond which no direction is followed, box or none."""
    width = float(points.abs().max()) if points.numel() else 1.0
    return 10.0 * (1.0 + width) * math.sqrt(max(points[:1].numel(), 1))


def _own_stream() -> torch.Generator:
    """Return a generator of fixed seed: a measurement neither moves nor reads the caller's."""
    return torch.Generator().manual_seed(0)


def _name(attack: Callable[..., Attack]) -> str:
    inner = getattr(attack, "func", attack)  # a functools.partial names what it wraps
    return getattr(inner, "__name__", type(inner).__name__)
