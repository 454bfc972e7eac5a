"""How convex class regions are: mixtures of inputs that keep their class."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_points,
    check_whole,
)
from levelset._tools.modes import frozen
from levelset._tools.proportions import clopper_pearson
from levelset._tools.results import Result
from levelset._typing import Counts, Model, Points, Summary
from levelset.boundary._regions._cloud import predicted
from levelset.boundary._regions._spectrum import check_share
from levelset.errors import DataError

__all__ = ["Convexity", "convexity"]


@dataclass(frozen=True, eq=False, repr=False)
class Convexity(Result):
    """How often a mixture of inputs of one class has that class.

    Attributes:
        share: Share of the mixtures that have the class of their inputs.
        low: Lower end of its interval.
        high: Upper end.
        inside: Mixtures inside, a class, `(k,)`.
        drawn: Mixtures drawn, a class, `(k,)`.
        k: Inputs in a mixture.
        confidence: Of the interval.
    """

    _headline: ClassVar = ("k", "draws", "share", "low", "high")

    share: float
    low: float
    high: float
    inside: Counts
    drawn: Counts
    k: int
    confidence: float

    def summary(self) -> Summary:
        """Return the share with its interval."""
        return {
            "k": self.k,
            "draws": int(self.drawn.sum()),
            "share": self.share,
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
        }


@checked
def convexity(
    model: Model,
    points: Points,
    *,
    k: int = 2,
    draws: int = 1000,
    confidence: float = 0.95,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Convexity:
    r"""Estimate how often a random convex combination of k inputs of one class stays in its region.

    Of each draw the first input is any of those whose class has k inputs or more, the others are
    different ones of its class, by the model; the weights are uniform on the simplex. A convex
    region has 1. It is a share among mixtures of these inputs, and no statement about every
    segment.

    Cost: `draws` forward passes, and one a point.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`.
        points: Inputs, `(n, *d)`, k of one class at least.
        k: Inputs in a mixture, 2 or more.
        draws: Mixtures.
        confidence: Of the interval of the share (Clopper and Pearson).
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws the mixtures; `None` for torch's global generator.

    Returns:
        The share and its interval, and counts by class.

    Raises:
        DataError: If no class has k inputs.
        ParameterError: If `k` is below 2, or `confidence` no share.

    References:
        - Alonso & Bonin, section 2.4, after A. Fawzi et al., "Empirical study of the topology and
          geometry of deep networks", CVPR 2018, where k = 2 gives about 0.8.
    """
    check_points("convexity", points)
    check_finite("convexity", points)
    check_whole("convexity", "k", k, at_least=2)
    check_at_least_one("convexity", "draws", draws)
    check_share("convexity", "confidence", confidence)
    points = points.detach()
    device = torch.device("cpu") if generator is None else generator.device
    with frozen(model):
        classes = predicted("convexity", model, points, batch_size).cpu()
        size = torch.bincount(classes)
        able = (size[classes] >= k).nonzero().flatten()
        if not len(able):
            message = (
                f"convexity: `points` must hold at least {k} inputs of one class by the model, got "
                f"{int(size.max()) if len(size) else 0} of the most common."
            )
            raise DataError(message)
        chance = torch.rand(draws, generator=generator, device=device).cpu()
        first = able[(chance * len(able)).long().clamp(max=len(able) - 1)]
        members = _members(classes, first, k, generator, device)
        noise = torch.rand(draws, k, generator=generator, device=device, dtype=torch.float64)
        weights = -noise.cpu().clamp(min=torch.finfo(torch.float64).tiny).log()
        weights = (weights / weights.sum(1, keepdim=True)).to(points)
        flat, stays = points.flatten(1), []
        for part in row_batches(draws, max(2**24 // max(k * flat.shape[1], 1), 1)):
            chosen = flat[members[part].to(flat.device)]
            mixed = (weights[part].unsqueeze(1) @ chosen).view(-1, *points.shape[1:])
            answers = predicted("convexity", model, mixed, batch_size).cpu()
            stays.append(answers == classes[first[part]])
    inside = torch.cat(stays)
    hits = inside.sum()
    low, high = clopper_pearson(hits, draws, confidence)
    mixtures = classes[first]
    return Convexity(
        share=float(hits) / draws,
        low=float(low),
        high=float(high),
        inside=torch.bincount(mixtures[inside], minlength=len(size)),
        drawn=torch.bincount(mixtures, minlength=len(size)),
        k=k,
        confidence=confidence,
    )


def _members(
    classes: Tensor, first: Tensor, k: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Return k different inputs of one class a draw, `(draws, k)`, the first as given."""
    order = classes.argsort(stable=True)
    size = torch.bincount(classes)
    begin = size.cumsum(0) - size
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    own = place[first] - begin[classes[first]]
    count = size[classes[first]]
    # Without replacement: a number counts those that are not taken yet.
    chosen = [own]
    for step in range(1, k):
        chance = torch.rand(len(first), generator=generator, device=device).cpu()
        number = (chance * (count - step)).long().minimum(count - step - 1)
        for taken in torch.stack(chosen, 1).sort(dim=1).values.unbind(1):
            number = number + (number >= taken)
        chosen.append(number)
    return order[begin[classes[first]].unsqueeze(1) + torch.stack(chosen, dim=1)]
