"""The receiver operating characteristic of a detector: its area, and a threshold on it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_whole
from levelset._tools.random import draw_seed
from levelset._tools.results import Result
from levelset.errors import DataError

__all__ = ["Roc", "most_accurate", "roc"]


@dataclass(frozen=True, eq=False, repr=False)
class Roc(Result):
    """A receiver operating characteristic.

    Attributes:
        false_alarms: Share of natural inputs above each threshold, `(t,)`, ascending from 0.
        hits: Share of perturbed inputs above it, `(t,)`.
        thresholds: The thresholds, `(t,)`, descending from infinity.
        area: Under the curve: the chance that a perturbed input scores above a natural one.
        low: Lower end of the 95 % bootstrap interval of the area.
        high: Upper end.
    """

    _headline: ClassVar = ("thresholds", "area", "low", "high")

    false_alarms: Tensor
    hits: Tensor
    thresholds: Tensor
    area: float
    low: float
    high: float

    @classmethod
    @checked
    def of(
        cls,
        natural: Float[Tensor, " n"],
        perturbed: Float[Tensor, " m"],
        *,
        draws: int = 1000,
        generator: torch.Generator | None = None,
    ) -> "Roc":
        """Return the curve of scores, larger for perturbed inputs.

        Args:
            natural: Scores of natural inputs, `(n,)`.
            perturbed: Scores of perturbed inputs, `(m,)`.
            draws: Bootstrap samples behind the interval of the area.
            generator: Of the bootstrap.

        Raises:
            DataError: If there are none of a kind, or NaN among them.
            ParameterError: If `draws` is below 1.
        """
        check_whole("Roc.of", "draws", draws)
        for name, part in (("natural", natural), ("perturbed", perturbed)):
            if not len(part) or bool(part.isnan().any()):
                message = f"Roc.of: `{name}` must hold scores without NaN, got {len(part)} scores."
                raise DataError(message)
        return roc(natural, perturbed, draws, generator)


def roc(natural: Tensor, perturbed: Tensor, draws: int, generator: torch.Generator | None) -> Roc:
    """Return the curve of scores `(n,)` and `(m,)`, its area and a bootstrap interval."""
    natural, perturbed = (part.detach().double().cpu() for part in (natural, perturbed))
    levels = torch.unique(torch.cat([natural, perturbed])).flip(0)
    thresholds = torch.cat([levels.new_full((1,), torch.inf), levels])
    ordered, others = natural.sort().values, perturbed.sort().values
    # At each threshold those at or above it count, so the last flags all.
    alarms = 1.0 - torch.searchsorted(ordered, thresholds).double() / len(ordered)
    hits = 1.0 - torch.searchsorted(others, thresholds).double() / len(others)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    areas = _bootstrap(ordered, others, draws, generator)
    low, high = areas[1:].quantile(ends).tolist()
    return Roc(alarms, hits, thresholds, float(areas[0]), low, high)


def most_accurate(curve: Roc) -> float:
    """Return the threshold above which most answers are right, both kinds counting the same."""
    best = int((curve.hits - curve.false_alarms).argmax())
    levels = curve.thresholds
    if best + 1 >= len(levels):
        return -torch.inf
    if best == 0:
        return torch.inf
    return float((levels[best] + levels[best + 1]) / 2)


def _bootstrap(
    natural: Tensor, perturbed: Tensor, draws: int, generator: torch.Generator | None
) -> Tensor:
    """Return the area for scores that ascend, and those of samples of them, `(1 + draws,)`.

    Ties count a half. The buffers are used again: fresh ones would cost more than the sums.
    """
    n, m = len(natural), len(perturbed)
    # Twice the wins of a perturbed score are the counts of natural ones below it and up to it.
    below = torch.searchsorted(natural, perturbed)
    upto = torch.searchsorted(natural, perturbed, right=True)
    own, others = torch.arange(n), torch.arange(m)
    ones, times = torch.ones_like(natural), natural.new_zeros(n + 1)
    sums, wins, places = times.clone(), perturbed.clone(), below.clone()
    source = torch.Generator().manual_seed(draw_seed(generator))
    areas = natural.new_zeros(1 + draws)
    for number in range(1 + draws):
        if number:
            torch.randint(n, (n,), generator=source, out=own)
            torch.randint(m, (m,), generator=source, out=others)
        times.zero_()[1:].scatter_add_(0, own, ones)
        torch.cumsum(times, 0, out=sums)
        for end in (below, upto):
            torch.index_select(end, 0, others, out=places)
            areas[number] += torch.index_select(sums, 0, places, out=wins).sum()
    return areas / (2.0 * n * m)
