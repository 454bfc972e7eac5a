"""Fitting a detector: logistic weights, the ROC curve, its area and a threshold."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from levelset.errors import DataError

__all__ = ["Roc", "choices", "logistic", "most_accurate", "roc"]

# Weight of the squared weights, so that examples which are told apart wholly leave them finite.
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Roc:
    """A receiver operating characteristic.

    Attributes:
        false_alarms: Share of natural inputs above each threshold, `(t,)`, ascending from 0.
        hits: Share of perturbed inputs above it, `(t,)`.
        thresholds: The thresholds, `(t,)`, descending from infinity.
        area: Under the curve: the chance that a perturbed input scores above a natural one.
        low: Lower end of the 95 % bootstrap interval of the area.
        high: Upper end.
    """

    false_alarms: Tensor
    hits: Tensor
    thresholds: Tensor
    area: float
    low: float
    high: float

    @classmethod
    def of(
        cls,
        natural: Tensor,
        perturbed: Tensor,
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
        """
        for name, part in (("natural", natural), ("perturbed", perturbed)):
            if not len(part) or bool(part.isnan().any()):
                message = f"Roc.of: `{name}` must hold scores without NaN, got {len(part)} scores."
                raise DataError(message)
        return roc(natural, perturbed, draws, generator)


def logistic(natural: Tensor, perturbed: Tensor) -> Tensor:
    """Return the weights `(f,)` that tell standardised features `(n, f)` of two kinds apart.

    Both kinds count the same. A single feature gets the weight 1 or -1.
    """
    if natural.shape[1] == 1:
        return torch.where(perturbed.mean(0) < natural.mean(0), -1.0, 1.0).to(natural.dtype)
    ones = [part.new_ones(len(part), 1) for part in (natural, perturbed)]
    kinds = [torch.cat([p, one], 1) for p, one in zip((natural, perturbed), ones, strict=True)]

    def loss(weights: Tensor) -> Tensor:
        missed = functional.softplus(kinds[0] @ weights).mean()
        missed = missed + functional.softplus(-(kinds[1] @ weights)).mean()
        return missed + _RIDGE * weights.square().sum()

    return _minimise(loss, kinds[0].new_zeros(natural.shape[1] + 1))[:-1]


def choices(features: Tensor, chosen: Tensor) -> Tensor:
    """Return the weights `(s,)` of a conditional logit: which of k classes `(n, k, s)` it was.

    NaN marks classes that were no choice.
    """
    barred = features.isnan().any(2)
    given = features.nan_to_num(0.0).double()

    def loss(weights: Tensor) -> Tensor:
        utilities = (given @ weights).masked_fill(barred, -1e9)
        return functional.cross_entropy(utilities, chosen) + _RIDGE * weights.square().sum()

    return _minimise(loss, given.new_zeros(given.shape[2]))


def roc(natural: Tensor, perturbed: Tensor, draws: int, generator: torch.Generator | None) -> Roc:
    """Return the curve of scores `(n,)` and `(m,)`, its area and a bootstrap interval."""
    natural, perturbed = natural.double().cpu(), perturbed.double().cpu()
    levels = torch.unique(torch.cat([natural, perturbed])).flip(0)
    thresholds = torch.cat([levels.new_full((1,), torch.inf), levels])
    # At each threshold those at or above it count, so the last flags all.
    alarms = (natural >= thresholds.unsqueeze(1)).double().mean(1)
    hits = (perturbed >= thresholds.unsqueeze(1)).double().mean(1)
    place = None if generator is None else generator.device

    def resampled(part: Tensor) -> Tensor:
        shape = (draws, len(part))
        return part[torch.randint(len(part), shape, generator=generator, device=place).cpu()]

    picked = [resampled(natural), resampled(perturbed)]
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = _areas(*picked).quantile(ends).tolist()
    area = float(_areas(natural.unsqueeze(0), perturbed.unsqueeze(0)))
    return Roc(alarms, hits, thresholds, area, low, high)


def most_accurate(curve: Roc) -> float:
    """Return the threshold above which most answers are right, both kinds counting the same."""
    best = int((curve.hits - curve.false_alarms).argmax())
    levels = curve.thresholds
    if best + 1 >= len(levels):
        return -torch.inf
    if best == 0:
        return torch.inf
    return float((levels[best] + levels[best + 1]) / 2)


def _areas(natural: Tensor, perturbed: Tensor) -> Tensor:
    """Return the areas `(b,)` for samples `(b, n)` and `(b, m)`; ties count a half."""
    ordered = natural.sort(1).values
    below = torch.searchsorted(ordered, perturbed.contiguous())
    upto = torch.searchsorted(ordered, perturbed.contiguous(), right=True)
    return (below + upto).double().mean(1) / (2.0 * natural.shape[1])


def _minimise(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return where a smooth convex function of a few numbers is least."""
    weights = start.double().requires_grad_()
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            value = loss(weights)
            (weights.grad,) = torch.autograd.grad(value, weights)
        return value

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()
