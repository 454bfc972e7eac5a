"""The numbers a detector judges by."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from levelset._logits import as_logits
from levelset._tools.modes import frozen
from levelset._typing import Model
from levelset.boundary._distance import distance
from levelset.boundary._sampling._persistence import persistence
from levelset.boundary._second_order._class_curvatures import measured
from levelset.boundary._second_order._smoothing import Scale
from levelset.errors import ParameterError

__all__ = [
    "Features",
    "ScoreName",
    "chosen_scores",
    "class_scores",
    "count_of",
    "features",
    "standardised",
]

ScoreName: TypeAlias = Literal["curvature", "total_curvature", "distance", "persistence"]


class Features(NamedTuple):
    """Of `n` inputs: `numbers` `(n, f)`, float64; `curvatures` `(n, k, s)` by class and scale."""

    numbers: Tensor
    curvatures: Tensor


def features(
    model: Model,
    points: Tensor,
    scores: tuple[ScoreName, ...],
    scales: tuple[Scale, ...],
    seed: int,
    batch_size: int | None,
) -> Features:
    """Measure what the scores ask for, with random numbers of a seed, the same for each input."""
    first = torch.zeros(len(points), dtype=torch.long)

    def curvatures_at(scale: Scale) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return measured(model, points, scale, batch_size, generator, first)

    with frozen(model):
        model = as_logits("detect", model, points.detach())
        curvatures = torch.stack([curvatures_at(scale) for scale in scales], dim=2)
        columns: list[Tensor] = []
        for name in scores:
            if name in _OF_CURVATURES:
                columns += [c for part in _OF_CURVATURES[name](curvatures) for c in part.unbind(1)]
            else:
                columns.append(_OTHERS[name](model, points, seed, batch_size))
    return Features(torch.stack([c.double() for c in columns], dim=1), curvatures)


def count_of(scores: tuple[str, ...], scales: int) -> int:
    """Return how many numbers scores have at so many scales; KeyError for an unknown score."""
    wide = {"curvature": 3 * scales, "total_curvature": scales, **dict.fromkeys(_OTHERS, 1)}
    return sum(wide[name] for name in scores)


def chosen_scores(scores: ScoreName | Sequence[ScoreName]) -> tuple[ScoreName, ...]:
    """Return the names of the scores, each once."""
    named: Sequence[ScoreName] = (scores,) if isinstance(scores, str) else scores
    if not named or any(name not in SCORES for name in named):
        message = f"detect.fit: `scores` must be among {', '.join(SCORES)}, got {scores!r}."
        raise ParameterError(message)
    return tuple(dict.fromkeys(named))


def class_scores(features: Features, weights: Tensor) -> Tensor:
    """Return the class scores `(n, k)`, minus infinity for the class the model answers."""
    weighed = standardised(features.curvatures) @ weights.to(features.curvatures)
    return torch.where(weighed.isnan(), -torch.inf, weighed)


def standardised(curvatures: Tensor) -> Tensor:
    """Return `(n, k, s)` less the mean over the classes and divided by their deviation."""
    centred = curvatures - curvatures.nanmean(1, keepdim=True)
    spread = centred.square().nanmean(1, keepdim=True).sqrt()
    return centred / torch.where(spread > 0, spread, 1.0)


def _distance(model: Model, points: Tensor, seed: int, batch_size: int | None) -> Tensor:
    unbounded = (-torch.inf, torch.inf)
    result = distance(model, points, bounds=unbounded, effort="quick", batch_size=batch_size)
    return _logarithm(result.distance)


def _persistence(model: Model, points: Tensor, seed: int, batch_size: int | None) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    result = persistence(model, points, tolerance=0.1, batch_size=batch_size, generator=generator)
    return _logarithm(result.sigma)


def _logarithm(values: Tensor) -> Tensor:
    """Return logarithms of values, of which 0 and infinity become small and large numbers."""
    return values.double().clamp(1e-6, 1e6).log()


def _summaries(curvatures: Tensor) -> list[Tensor]:
    """Return sum, largest and smallest over the classes, `(n, s)` each."""
    absent = curvatures.isnan()
    return [
        curvatures.nansum(1),
        torch.where(absent, -torch.inf, curvatures).amax(1).nan_to_num(0.0, 0.0, 0.0),
        torch.where(absent, torch.inf, curvatures).amin(1).nan_to_num(0.0, 0.0, 0.0),
    ]


_OF_CURVATURES: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "curvature": _summaries,
    "total_curvature": lambda curvatures: [curvatures.nansum(1)],
}
_OTHERS: dict[str, Callable[[nn.Module, Tensor, int, int | None], Tensor]] = {
    "distance": _distance,
    "persistence": _persistence,
}
SCORES: tuple[str, ...] = (*_OF_CURVATURES, *_OTHERS)
