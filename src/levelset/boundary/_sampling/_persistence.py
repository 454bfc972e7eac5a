r"""Persistence: the noise at which a point's class loses its hold on the neighbourhood."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from levelset._tools.batches import row_batches
from levelset._tools.checks import (
    check_batch_size,
    check_finite,
    check_points,
    check_positive,
)
from levelset._tools.modes import frozen
from levelset._tools.results import Rows
from levelset._typing import Counts, Field, Mask, PerPoint, Points, Progress
from levelset.boundary._sampling._adaptive import probit
from levelset.boundary._sampling._bracketing import bracketing
from levelset.boundary._sampling._estimate import Estimate, Policy
from levelset.boundary._sampling._locate import starting_sigma
from levelset.boundary._sampling._noise import Noise, NoiseName, check_noise
from levelset.boundary._sampling._quickselect import quickselect
from levelset.boundary._sampling._votes import Voter
from levelset.errors import ParameterError

__all__ = ["Method", "Persistence", "check_share", "persistence"]

Method: TypeAlias = Literal["probit", "quickselect", "bracketing"]

# Points that advance together: enough to fill batches, few enough to remember their draws.
_TOGETHER = 512
_MOST = 200_000


@dataclass(frozen=True, eq=False, repr=False)
class Persistence(Rows):
    r"""The $\gamma$-persistence of each point, and the certified radius beside it.

    `sigma` is an *estimate*, with an interval, of where the model's own class loses its hold. The
    `certified_radius` is a *lower bound*, for another classifier: the smoothed one. Neither says
    anything about the other.

    Attributes:
        sigma: The persistence, `(n,)`, in the units of the points: the noise at which the share
            that keeps its class first falls to gamma. Infinity where it never does up to
            `max_sigma`, 0 where it is below gamma however little the noise.
        low: Lower end of the interval, `(n,)`; `max_sigma` where `sigma` is infinite.
        high: Upper end of the interval, `(n,)`.
        error: Relative standard error of `sigma`, `(n,)`; NaN where not `found`.
        evaluations: Forward passes spent on each point, `(n,)`.
        found: Whether the share crosses gamma, `(n,)`.
        classes: The class of each point, `(n,)`.
        rival: The class that most noisy copies near `sigma` go over to, `(n,)`; -1 if none did.
        certified_radius: Within this L2 distance the classifier smoothed by noise of about `sigma`
            keeps the class, `(n,)`, each with probability `confidence` over the draws; 0 where
            nothing can be said, as always for gamma up to a half. Only `probit` makes it.
        reentry: Share of the checked rays that leave the class and come back, or leave it early,
            `(n,)`, which `quickselect` takes for none; NaN for the other methods.
        gamma: The share.
        confidence: Of the interval, and of the certified radius.
    """

    sigma: PerPoint
    low: PerPoint
    high: PerPoint
    error: PerPoint
    evaluations: Counts
    found: Mask
    classes: Counts
    rival: Counts
    certified_radius: PerPoint
    reentry: PerPoint
    gamma: float
    confidence: float

    def summary(self) -> dict[str, int | float]:
        """Return counts and quantiles over the points where it was found, ready for JSON."""
        summary: dict[str, int | float] = {
            "points": len(self),
            "found": int(self.found.sum()),
            "evaluations": int(self.evaluations.sum()),
        }
        sigma = self.sigma[self.found].double()
        if len(sigma):
            summary["sigma_mean"] = float(sigma.mean())
            summary["sigma_median"] = float(sigma.median())
            summary["sigma_min"] = float(sigma.min())
            summary["error_median"] = float(self.error[self.found].double().median())
            certified = self.certified_radius[self.found].double()
            summary["certified_radius_median"] = float(certified.median())
        return summary


def persistence(
    model: Field,
    points: Points,
    *,
    gamma: float = 0.7,
    method: Method = "probit",
    tolerance: float = 0.02,
    max_sigma: float = 1e4,
    draws: int | None = None,
    confidence: float = 0.95,
    noise: NoiseName = "gaussian",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Persistence:
    r"""Find the noise that each point's class survives: its $\gamma$-persistence.

    $$\sigma^*_\gamma(x) = \sup\{s : P[C(x') = C(x)] \ge \gamma, \ x' \sim N(x, \sigma^2 I),
      \text{ for all } \sigma < s\}.$$

    Only answers of the classifier are used: no gradient, no logits. Nothing is clipped to bounds.

    The methods:

    - `"probit"` goes up in noise until the share is below gamma, then models it as a probit of
      log sigma, bent if need be, and places the next draws where they tell most. Every draw counts.
      Directions come in opposite pairs, and as orthonormal bases where points have 128 to 1,024
      coordinates; the error accounts for the pairs, and ignores what bases gain.
    - `"quickselect"` finds the exit radius of one fixed set of directions only as far as the
      quantile needs. It assumes no form of the share, but that rays leave the class once:
      `reentry` says how often they did not.
    - `"bracketing"` is the paper's algorithm 1, as the reference: it doubles and halves the ends
      of a bracket, and bisects until `draws` fresh copies keep their class in a share within
      `tolerance` of gamma. That is a matter of luck for few draws.

    The model is held in evaluation mode meanwhile, and left exactly as it was found. What a point
    gets depends on the generator and on the point, not on the batch nor on the other points.

    Cost: forward passes only. On an MNIST network about 300 to 3,000 a point for a relative
    standard error of 2 %, four times as many for 1 %.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, to labels `(n,)`, or to the values `(n,)` of a
            field, whose sides are the classes.
        points: The points, `(n, *d)`.
        gamma: The share that shall keep its class, between 0 and 1.
        method: `"probit"`, `"quickselect"` or `"bracketing"`.
        tolerance: Relative standard error of sigma at which a point is done; for `"bracketing"`
            the paper's precision, a difference of shares.
        max_sigma: The largest noise to try, in the units of the points.
        draws: Most evaluations a point, `None` for 200,000; for `"bracketing"` the evaluations at
            each noise, `None` for 1,000.
        confidence: Of the interval, and of the certified radius.
        noise: `"gaussian"`, or `"ball"`: uniform in the ball of the same variance, whose radius is
            sigma times the square root of the number of coordinates plus 2.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of all draws, which are made on its device: one on the processor
            gives the same everywhere, one on the points' device is faster for large points. `None`
            for torch's global generator.
        progress: Called as `progress(done, total)` in points.

    Returns:
        Estimates with intervals and certified radii, in the order, dtype and device of `points`.

    Raises:
        ParameterError: If an option is out of range, or if `draws` is given and too few for the
            tolerance at every point; the message says how many it takes.
        DataError: If points are not finite.
        FieldError: If the model returns something else than logits or labels, NaN, or another
            class when asked again.

    Example:
        >>> import torch
        >>> from levelset.boundary import persistence
        >>> from levelset.shapes import Orthant
        >>> plane = Orthant(k=1, d=2)
        >>> point = torch.tensor([[1.0, 5.0]])
        >>> found = persistence(plane, point, generator=torch.Generator().manual_seed(0))
        >>> exact = plane.persistence(distance=1.0, gamma=0.7)
        >>> bool(found.low < exact < found.high), round(exact, 4)
        (True, 1.9069)

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: definition
          4.2, algorithm 1.
    """
    _check(points, gamma, method, tolerance, max_sigma, draws, confidence)
    check_noise("persistence", noise)
    check_batch_size("persistence", batch_size)
    policy = Policy(gamma, tolerance, confidence, max_sigma, _MOST if draws is None else draws)
    paired = method == "probit"
    with frozen(model):
        streams = Noise(points, generator, kind=noise, orthogonal=paired)
        voter = Voter("persistence", model, points, streams, paired=paired, batch_size=batch_size)
        start = starting_sigma(points, max_sigma)
        parts = []
        for rows in row_batches(len(points), _TOGETHER):
            held = np.arange(rows.start, rows.stop)
            parts.append(_METHODS[method](voter, held, start[rows], policy, draws))
            if progress is not None:
                progress(rows.stop, len(points))
    found = _result(points, parts, voter, policy)
    if draws is not None and method != "bracketing":
        _raise_if_too_few(found, draws, tolerance)
    return found


_METHODS: dict[str, Callable[[Voter, Any, Any, Policy, int | None], Estimate]] = {
    "probit": lambda voter, rows, start, policy, draws: probit(voter, rows, start, policy),
    "quickselect": lambda voter, rows, start, policy, draws: quickselect(
        voter, rows, start, policy
    ),
    "bracketing": lambda voter, rows, start, policy, draws: bracketing(
        voter, rows, policy, 1000 if draws is None else draws
    ),
}


def _result(points: Tensor, parts: list[Estimate], voter: Voter, policy: Policy) -> Persistence:
    def joined(name: str, dtype: torch.dtype) -> Tensor:
        arrays = [np.asarray(getattr(part, name)) for part in parts] or [np.zeros(0)]
        return torch.from_numpy(np.concatenate(arrays)).to(points.device, dtype)

    return Persistence(
        sigma=joined("sigma", points.dtype),
        low=joined("low", points.dtype),
        high=joined("high", points.dtype),
        error=joined("error", points.dtype),
        evaluations=voter.evaluations,
        found=joined("found", torch.bool),
        classes=voter.classes,
        rival=joined("rival", torch.int64),
        certified_radius=joined("certified", points.dtype),
        reentry=joined("reentry", points.dtype),
        gamma=policy.gamma,
        confidence=policy.confidence,
    )


def _raise_if_too_few(found: Persistence, draws: int, tolerance: float) -> None:
    error = found.error[found.found].double()
    if not len(error) or bool((error <= tolerance).any()):
        return
    need = found.evaluations[found.found].double() * (error / tolerance) ** 2
    least = float(need.min())
    needed = f"about {math.ceil(float(f'{least:.2g}')):,}" if math.isfinite(least) else "many more"
    message = (
        f"persistence: `draws` must be at least {needed} for a relative standard error of "
        f"{tolerance:g} at the easiest of these points, got {draws}. Raise `draws` or `tolerance`."
    )
    raise ParameterError(message)


def check_share(function: str, name: str, value: float) -> None:
    """Refuse a share that is not strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        message = f"{function}: `{name}` must lie between 0 and 1, both excluded, got {value}."
        raise ParameterError(message)


def _check(
    points: Tensor,
    gamma: float,
    method: str,
    tolerance: float,
    max_sigma: float,
    draws: int | None,
    confidence: float,
) -> None:
    check_points("persistence", points)
    check_finite("persistence", points)
    check_share("persistence", "gamma", gamma)
    check_share("persistence", "confidence", confidence)
    check_share("persistence", "tolerance", tolerance)
    check_positive("persistence", "max_sigma", max_sigma)
    if method not in _METHODS:
        message = f"persistence: `method` must be one of {', '.join(_METHODS)}, got {method!r}."
        raise ParameterError(message)
    if draws is not None and draws < 1:
        message = f"persistence: `draws` must be at least 1, or None, got {draws}."
        raise ParameterError(message)
