"""Where along a segment the sub-networks of dropout change class, and whether that is Gaussian."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor, nn

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import check_at_least_one, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen, modules_of
from levelset._tools.random import draw_seed, mixed_seed
from levelset._tools.results import Result
from levelset._typing import Floats, Model, Progress, Summary
from levelset.boundary._regions._cloud import check_ends
from levelset.errors import DataError, ParameterError

__all__ = ["Normality", "dropout_crossings", "normality"]

# Halvings that locate a crossing, and sub-networks whose masks are in memory at once.
_HALVINGS, _TOGETHER = 24, 64
# Samples beyond which the law of the distance is that of this many, rescaled.
_SIMULATED = 2000
_MASKED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@checked
def dropout_crossings(
    model: Model,
    start: Tensor,
    end: Tensor,
    *,
    draws: int,
    steps: int = 101,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Tensor:
    r"""Return where along a segment each dropout sample of a network changes class.

    A draw is one sub-network: one mask in each dropout layer, the same all along the segment. Its
    class is asked at `steps` points, and each change is located by halving. Two changes between
    neighbouring points are missed.

    Cost: `steps` forward passes a draw, and 24 a crossing.

    Args:
        model: A classifier with `torch.nn.Dropout` layers (also 1d, 2d, 3d), `(n, *d)` to `(n, k)`;
            all else in evaluation mode.
        start: Where the segment begins, `(*d)`.
        end: Where it ends, `(*d)`.
        draws: Sub-networks.
        steps: Points at which each is asked, both ends among them.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of the masks; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in draws.

    Returns:
        Fractions of the way, `(draws, c)`, ascending, filled up with NaN; c the most crossings of a
        draw.

    Raises:
        ParameterError: If the model has no dropout layer, or one of another kind.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 18, where the histogram is
          said to be a Gaussian; [`normality`][levelset.boundary.normality] tells.
    """
    check_ends("dropout_crossings", start, end)
    check_at_least_one("dropout_crossings", "draws", draws)
    check_whole("dropout_crossings", "steps", steps, at_least=2)
    seed = draw_seed(generator)
    ends = torch.stack([start, end]).detach()
    with frozen(model):
        logits = as_logits("dropout_crossings", model, ends)
        masks = _Masks(model, seed)
        rows, fractions = [], []
        with masks.applied():
            segment = _Segment(
                Evaluator("dropout_crossings", masks.field(logits), batch_size), ends
            )
            for first in range(0, draws, _TOGETHER):
                last = min(first + _TOGETHER, draws)
                masks.forget()
                numbers = torch.arange(first, last, device=ends.device)
                row, fraction = segment.crossings(numbers, steps)
                rows.append(row)
                fractions.append(fraction)
                if progress is not None:
                    progress(last, draws)
    return _table(torch.cat(rows), torch.cat(fractions), draws).to(start.dtype)


class _Masks:
    """One mask a dropout layer and draw, applied to rows by the number of their draw."""

    def __init__(self, model: Any, seed: int) -> None:
        self.seed = seed
        self.numbers: Tensor | None = None
        found: dict[int, tuple[str, nn.Module]] = {}
        for root in modules_of(model):
            for name, module in root.named_modules():
                if isinstance(module, nn.modules.dropout._DropoutNd):
                    found.setdefault(id(module), (name, module))
        self.layers = [module for _, module in found.values()]
        other = [name for name, module in found.values() if not isinstance(module, _MASKED)]
        if not self.layers or other:
            got = f"{', '.join(other)} of another kind" if other else "none"
            message = (
                "dropout_crossings: `model` must have torch.nn.Dropout layers, 1d, 2d or 3d, that "
                f"are modules of it, got {got}."
            )
            raise ParameterError(message)
        self.forget()

    def forget(self) -> None:
        """Drop the masks made so far."""
        self.made: dict[tuple[int, int], Tensor] = {}

    def field(self, logits: Any) -> Any:
        """Return the model as a field that takes the number of a draw with each point."""

        def masked(points: Tensor, numbers: Tensor) -> Tensor:
            self.numbers = numbers
            try:
                out: Tensor = logits(points)
            finally:
                self.numbers = None
            return out

        return masked

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the layers mask their input meanwhile."""
        handles = [
            layer.register_forward_hook(self._hook(place))
            for place, layer in enumerate(self.layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, place: int) -> Any:
        def hook(layer: Any, inputs: Any, output: Tensor) -> Tensor:
            if self.numbers is None or not len(output):
                return output
            whole = isinstance(layer, nn.Dropout)
            channels = output.shape[1:] if whole else (output.shape[1], *[1] * (output.dim() - 2))
            unique, row = torch.unique(self.numbers, return_inverse=True)
            masks = [self._mask(place, n, channels, float(layer.p)) for n in unique.tolist()]
            return output * torch.stack(masks).to(output)[row]

        return hook

    def _mask(self, place: int, number: int, shape: Any, p: float) -> Tensor:
        if (place, number) not in self.made:
            stream = mixed_seed(self.seed, number * len(self.layers) + place) >> 1
            generator = torch.Generator().manual_seed(stream)
            stays = torch.rand(tuple(shape), generator=generator, dtype=torch.float64) >= p
            self.made[place, number] = stays.double() / (1.0 - p) if p < 1.0 else stays.double()
        return self.made[place, number]


class _Segment:
    """Asks sub-networks for their class along one segment."""

    def __init__(self, evaluator: Evaluator, ends: Tensor) -> None:
        self.evaluator, self.ends = evaluator, ends

    def classes(self, numbers: Tensor, fraction: Tensor) -> Tensor:
        """Return the class of sub-network `numbers` at each fraction, `(m,)`."""
        weight = fraction.to(self.ends.dtype).view(-1, *[1] * (self.ends.dim() - 1))
        parts = []
        for some in row_batches(len(numbers), max(2**23 // max(self.ends[0].numel(), 1), 1)):
            points = torch.lerp(self.ends[:1], self.ends[1:], weight[some])
            parts.append(self.evaluator.outputs(points, numbers[some]).argmax(1))
        return torch.cat(parts) if parts else numbers[:0]

    def crossings(self, numbers: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return the draw and the fraction of every change of class."""
        grid = torch.linspace(0.0, 1.0, steps, dtype=torch.float64, device=numbers.device)
        asked = numbers.repeat_interleave(steps)
        classes = self.classes(asked, grid.repeat(len(numbers))).view(len(numbers), steps)
        row, place = (classes[:, 1:] != classes[:, :-1]).nonzero().T
        low, high, before = grid[place], grid[place + 1], classes[row, place]
        for _ in range(_HALVINGS if len(row) else 0):
            middle = 0.5 * (low + high)
            stays = self.classes(numbers[row], middle) == before
            low, high = torch.where(stays, middle, low), torch.where(stays, high, middle)
        return numbers[row], 0.5 * (low + high)


def _table(rows: Tensor, fractions: Tensor, draws: int) -> Tensor:
    """Return the fractions of each draw in a row, filled up with NaN."""
    count = torch.bincount(rows, minlength=draws)
    table = fractions.new_full((draws, int(count.max()) if len(rows) else 0), math.nan)
    first = count.cumsum(0) - count
    table[rows, torch.arange(len(rows), device=rows.device) - first[rows]] = fractions
    return table


@dataclass(frozen=True, eq=False, repr=False)
class Normality(Result):
    """How far values are from a Gaussian of their mean and standard deviation.

    Attributes:
        distance: Largest distance of the two distribution functions (Kolmogorov), 0 to 1.
        p_value: Share of Gaussian samples of this size, with mean and deviation fitted as well,
            that are at least as far from theirs (Lilliefors).
        mean: Of the values.
        deviation: Standard deviation.
        skewness: Third standardised moment; 0 of a Gaussian.
        kurtosis: Fourth, less 3; 0 of a Gaussian.
        count: How many values.
    """

    _headline: ClassVar = ("count", "distance", "p_value", "skewness", "kurtosis")

    distance: float
    p_value: float
    mean: float
    deviation: float
    skewness: float
    kurtosis: float
    count: int

    def summary(self) -> Summary:
        """Return all numbers."""
        return dict(vars(self))


@checked
def normality(
    values: Tensor, *, draws: int = 1000, generator: torch.Generator | None = None
) -> Normality:
    """Measure how far values are from a Gaussian, as those of a histogram that looks like one.

    Args:
        values: Any shape; NaN are left out. Three different ones at least.
        draws: Gaussian samples for the p-value; of 2,000 values at most, rescaled for more.
        generator: Gives their seed; `None` for torch's global generator.

    Returns:
        Distance, p-value and moments.

    Raises:
        DataError: If there are fewer than three values, or all are the same.

    References:
        - H. W. Lilliefors, "On the Kolmogorov-Smirnov test for normality with mean and variance
          unknown", J. Am. Stat. Assoc. 62 (1967), 399-402.
    """
    check_at_least_one("normality", "draws", draws)
    finite = values.detach().double().cpu().flatten().numpy()
    finite = finite[np.isfinite(finite)]
    if len(finite) < 3 or not finite.std() > 0:
        message = (
            "normality: `values` must hold at least 3 finite numbers that differ, got "
            f"{len(finite)}{' equal ones' if len(finite) else ''}."
        )
        raise DataError(message)
    distance = float(_kolmogorov(finite[None])[0])
    size = min(len(finite), _SIMULATED)
    random = np.random.Generator(np.random.Philox(draw_seed(generator)))
    simulated = _kolmogorov(random.standard_normal((draws, size))) * math.sqrt(size / len(finite))
    z = (finite - finite.mean()) / finite.std()
    return Normality(
        distance=distance,
        p_value=float((1 + (simulated >= distance).sum()) / (1 + draws)),
        mean=float(finite.mean()),
        deviation=float(finite.std(ddof=1)),
        skewness=float((z**3).mean()),
        kurtosis=float((z**4).mean() - 3.0),
        count=len(finite),
    )


def _kolmogorov(samples: Floats) -> Floats:
    """Return the distance of each row's distribution from its fitted Gaussian, `(m,)`."""
    ordered = np.sort(samples, axis=1)
    middle = ordered.mean(axis=1, keepdims=True)
    z = ndtr((ordered - middle) / ordered.std(axis=1, ddof=1, keepdims=True))
    count = samples.shape[1]
    steps = np.arange(count + 1) / count
    return np.maximum((steps[1:] - z).max(axis=1), (z - steps[:-1]).max(axis=1))
