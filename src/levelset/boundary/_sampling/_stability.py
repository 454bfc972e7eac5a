"""How much of the noise around a point keeps its class: a share, an interval, a decision."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import (
    check_at_least_one,
    check_batch_size,
    check_finite,
    check_points,
    check_positive,
)
from levelset._tools.modes import frozen
from levelset._tools.proportions import exact_interval
from levelset._tools.results import Rows
from levelset._typing import Counts, Field, Mask, PerPoint, Points, Progress, Summary
from levelset.boundary._sampling._noise import Noise, NoiseName, check_noise
from levelset.boundary._sampling._persistence import check_share
from levelset.boundary._sampling._votes import Task, Voter
from levelset.errors import ParameterError

__all__ = ["Stability", "stability"]

_FIRST_LOOK = 64
# Noisy copies whose classes are held at once.
_VOTES = 2_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Rows):
    r"""The share of the noise that keeps the class of each point.

    Attributes:
        share: Share of the copies that kept the class, `(n,)`.
        low: Lower end of its interval, `(n,)`.
        high: Upper end, `(n,)`.
        stable: Whether the point counts as $(\gamma, \sigma)$-stable: the decision where there is
            one, else whether `share` is at least gamma; `(n,)`.
        decided: Whether gamma lies outside the interval, so that `stable` holds at the stated
            confidence, `(n,)`; false without gamma.
        evaluations: Forward passes spent on each point, `(n,)`.
        classes: The class of each point, `(n,)`.
        sigma: The noise.
        gamma: The requested share, or none.
        confidence: Smallest probability that an interval covers the share, however many looks
            were taken.
    """

    _headline: ClassVar = ("points", "stable", "decided", "share_mean")

    share: PerPoint
    low: PerPoint
    high: PerPoint
    stable: Mask
    decided: Mask
    evaluations: Counts
    classes: Counts
    sigma: float
    gamma: float | None
    confidence: float

    def summary(self) -> Summary:
        """Return counts and the mean share, ready for JSON."""
        numbers: Summary = {
            "points": len(self),
            "stable": int(self.stable.sum()),
            "decided": int(self.decided.sum()),
            "evaluations": int(self.evaluations.sum()),
        }
        if len(self):
            numbers["share_mean"] = float(self.share.double().mean())
        return numbers


@checked
def stability(
    model: Field,
    points: Points,
    *,
    sigma: float,
    gamma: float | None = 0.7,
    draws: int = 1000,
    confidence: float = 0.95,
    noise: NoiseName = "gaussian",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Stability:
    r"""Find the share of $N(x, \sigma^2 I)$ that has the class of x, and whether it is gamma.

    Draws double from 64 up; after each, a point stops whose interval leaves gamma out: the
    decision is made. The intervals are exact (Clopper-Pearson), each for its part of the error
    that `confidence` allows, so that looking several times costs nothing in confidence. With
    `gamma=None` there is nothing to decide: all draws are made, and looked at once.

    The model is held in evaluation mode meanwhile, and left exactly as it was found. What a point
    gets depends on the generator and on the point, not on the batch nor on the other points.

    Cost: at most `draws` forward passes a point, and about 64 where the case is clear.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, to labels `(n,)`, or to the values `(n,)` of a
            field, whose sides are the classes.
        points: The points, `(n, *d)`.
        sigma: Standard deviation of each coordinate of the noise, in the units of the points.
        gamma: The share to compare with, between 0 and 1; `None` for no comparison.
        draws: Most draws a point.
        confidence: Of the intervals, and so of the decisions.
        noise: `"gaussian"`, or `"ball"`: uniform in the ball of the same variance, whose radius is
            sigma times the square root of the number of coordinates plus 2.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of all draws; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in points.

    Returns:
        Shares, intervals and decisions, in the order and device of `points`.

    Raises:
        ParameterError: If an option is out of range, or `draws` too few to decide anything at
            that gamma and confidence; the message says how many it takes.
        DataError: If points are not finite.
        FieldError: If the model returns something else than logits or labels, NaN, or another
            class when asked again.

    Example:
        >>> import torch
        >>> from levelset.boundary import stability
        >>> from levelset.shapes import Orthant
        >>> point = torch.tensor([[1.0, 5.0]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = stability(Orthant(1, 2), point, sigma=1.0, gamma=None, generator=generator)
        >>> bool(found.low < Orthant(1, 2).stability(distance=1.0, sigma=1.0) < found.high)
        True

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: definition
          4.1 and section 10.
    """
    _check(points, sigma, gamma, draws, confidence)
    check_noise("stability", noise)
    check_batch_size("stability", batch_size)
    looks = _looks(draws, gamma)
    tail = 0.5 * (1.0 - confidence) / len(looks)
    kept, total = np.zeros(len(points)), np.zeros(len(points))
    low, high = np.zeros(len(points)), np.ones(len(points))
    with frozen(model):
        streams = Noise(points, generator, kind=noise)
        voter = Voter("stability", model, points, streams, paired=False, batch_size=batch_size)
        for rows in row_batches(len(points), max(_VOTES // draws, 1)):
            going = np.arange(rows.start, rows.stop)
            for before, look in zip([0, *looks], looks, strict=False):
                tasks = [Task(int(row), sigma, look - before) for row in going]
                if not tasks:
                    break
                kept[going] += voter.vote(tasks).counts[:, 1].cpu().numpy()
                total[going] = look
                low[going], high[going] = exact_interval(kept[going], look, tail)
                if gamma is not None:
                    going = going[(low[going] <= gamma) & (high[going] > gamma)]
                if progress is not None:
                    progress(rows.stop - len(going), len(points))
            streams.release(range(rows.start, rows.stop))
    return _result(
        points, voter, kept / np.maximum(total, 1.0), low, high, sigma, gamma, confidence
    )


def _looks(draws: int, gamma: float | None) -> list[int]:
    """Return after how many draws to look."""
    if gamma is None:
        return [draws]
    looks, count = [], _FIRST_LOOK
    while count < draws:
        looks.append(count)
        count *= 2
    return [*looks, draws]


def _result(  # what a result holds
    points: Tensor,
    voter: Voter,
    share: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    sigma: float,
    gamma: float | None,
    confidence: float,
) -> Stability:
    level = 0.0 if gamma is None else gamma
    above, below = low > level, high <= level
    decided = (above | below) & (gamma is not None)
    stable = np.where(decided, above, share >= level)

    def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.asarray(array)).to(points.device, dtype)

    return Stability(
        share=tensor(share, points.dtype),
        low=tensor(low, points.dtype),
        high=tensor(high, points.dtype),
        stable=tensor(stable, torch.bool),
        decided=tensor(decided, torch.bool),
        evaluations=voter.evaluations,
        classes=voter.classes,
        sigma=sigma,
        gamma=gamma,
        confidence=confidence,
    )


def _check(
    points: Tensor, sigma: float, gamma: float | None, draws: int, confidence: float
) -> None:
    check_points("stability", points)
    check_finite("stability", points)
    check_positive("stability", "sigma", sigma)
    check_share("stability", "confidence", confidence)
    check_at_least_one("stability", "draws", draws)
    if gamma is None:
        return
    check_share("stability", "gamma", gamma)
    looks = len(_looks(draws, gamma))
    # All copies of one kind must be able to decide one way at least.
    tail = 0.5 * (1.0 - confidence) / looks
    needed = int(np.ceil(np.log(tail) / np.log(max(min(gamma, 1.0 - gamma), 1e-12))))
    if draws < needed:
        message = (
            f"stability: `draws` must be at least {needed} to decide anything at gamma = {gamma:g} "
            f"and confidence {confidence:g}, got {draws}. Raise it, or give `gamma=None`."
        )
        raise ParameterError(message)
