"""Whether evaluations suffice for the error asked for: before they are made, and after."""

import math
import warnings

from scipy.special import ndtri
from torch import Tensor

from levelset._tools.checks import check_at_least_one
from levelset.errors import ParameterError, PrecisionWarning

__all__ = ["check_draws", "check_spent"]

# How fast the probit of the share falls in log sigma: beside one flat boundary as its own value,
# and among boundaries on all sides by about so much more, no faster.
_STEEPER = 3.0
# What it takes to find the place at all.
_LEAST = 128
# Errors above are no ground to reckon with.
_ROUGH = 0.3


def check_draws(method: str, draws: int, gamma: float, tolerance: float) -> None:
    r"""Refuse evaluations that cannot suffice at any point.

    The relative standard error of a quantile from n draws is
    $\sqrt{\gamma (1 - \gamma) / n} / (\varphi(z) s)$, where z is the probit of gamma and s
    how fast that of the share falls in log sigma: z itself beside one flat boundary.

    Args:
        method: As `persistence` has it.
        draws: How many are allowed; for `bracketing` at each noise.
        gamma: The share.
        tolerance: Relative standard error; for `bracketing` a difference of shares.
    """
    check_at_least_one("persistence", "draws", draws)
    if method == "bracketing":
        around = (math.floor(gamma * draws), math.ceil(gamma * draws))
        nearest = min(abs(kept / draws - gamma) for kept in around)
        if nearest >= tolerance:
            message = (
                f"persistence: `draws` must allow a share within `tolerance` {tolerance:g} of "
                f"`gamma` {gamma:g}, got {draws}, of which the nearest share is {nearest:.2g} off. "
                f"Take {math.ceil(0.5 / tolerance) + 1:,} or more, or raise `tolerance`."
            )
            raise ParameterError(message)
        return
    level = max(float(ndtri(gamma)), 0.0)
    least = max(_needed(gamma, tolerance, level + _STEEPER), _LEAST)
    if draws < least:
        message = (
            f"persistence: `draws` must be at least {_words(least)} for a relative standard error "
            f"of {tolerance:g} at gamma = {gamma:g}, got {draws}.{_flat(gamma, tolerance)} "
            "Raise `draws` or `tolerance`."
        )
        raise ParameterError(message)


def check_spent(
    gamma: float, tolerance: float, draws: int | None, error: Tensor, evaluations: Tensor
) -> None:
    """Refuse `draws` that sufficed at no point; warn of points where the default did not.

    Args:
        gamma: The share.
        tolerance: The relative standard error asked for.
        draws: How many were allowed; `None` for the default.
        error: That of the points where there is one, `(n,)`; infinite where draws ran out.
        evaluations: What they took, `(n,)`.
    """
    worse = error > tolerance
    count = int(worse.sum())
    if draws is None and count:
        message = (
            f"persistence: {count} of {len(error)} points are left with a relative standard error "
            f"above `tolerance` {tolerance:g}, {float(error.max()):.2g} at most. Give more "
            "`draws` than the default, or raise `tolerance`."
        )
        warnings.warn(message, PrecisionWarning, stacklevel=4)
    elif draws is not None and len(error) and count == len(error):
        known = error <= _ROUGH  # larger ones say no more than that they are large
        need = (evaluations * (error / tolerance) ** 2)[known].double().tolist()
        flat = _needed(gamma, tolerance, float(ndtri(gamma))) if gamma > 0.5 else 0.0
        need += [flat] * (flat > draws)
        needed = f"about {_words(min(need))}" if need else "many more"
        message = (
            f"persistence: `draws` must be {needed} for a relative standard error of {tolerance:g} "
            f"at the easiest of these points, got {draws}.{_flat(gamma, tolerance)} "
            "Raise `draws` or `tolerance`."
        )
        raise ParameterError(message)


def _needed(gamma: float, tolerance: float, slope: float) -> float:
    """Return the independent draws that it takes, if all are made where the share is gamma."""
    density = math.exp(-0.5 * float(ndtri(gamma)) ** 2) / math.sqrt(2.0 * math.pi)
    return gamma * (1.0 - gamma) / (tolerance * slope * density) ** 2


def _flat(gamma: float, tolerance: float) -> str:
    """Return what it takes beside one flat boundary, in words; nothing where gamma is never met."""
    if gamma <= 0.5:
        return ""
    needed = _words(_needed(gamma, tolerance, float(ndtri(gamma))))
    return f" A point beside one flat boundary takes about {needed}."


def _words(count: float) -> str:
    """Return a count in two digits, rounded up."""
    unit = 10 ** max(math.floor(math.log10(count)) - 1, 0)
    return f"{math.ceil(count / unit) * unit:,}"
