r"""How the share that keeps its class falls with the noise, fitted to every draw, and its quantile.

The share at noise $\sigma$ is modelled as $\Phi(\beta_0 + \beta_1 u + \beta_2 u^2)$, with
$u = (\log \sigma - \log \hat\sigma) / w$, in a window about the present estimate: a probit in the
logarithm of the noise, quadratic as far as the draws require. The unit w is 1, or less where
the share falls so steeply that all windows and weak knowledge must be on the scale of the fall.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, chdtrc, ndtr, ndtri

from levelset._typing import Booleans, Floats, Integers

__all__ = ["STEEP", "Draws", "ProbitFit", "fit_quantile", "outer_ends"]


_STEPS, _FARTHEST = 12, 6.0
# Windows in log sigma, tried in turn until the model fits the draws inside.
_WINDOWS = (0.75, 0.4, 0.2)
# A model that good draws contradict by chance this rarely is taken for wrong; sooner where the
# transition is sharp, for there narrower windows still hold the draws that tell the slope.
_MISFIT, _SHARP_MISFIT = 1e-3, 1e-2
_GRID = 161
# By how many of its standard errors the slope is taken for flatter than it looks. Drawing until
# the error is small enough stops when the slope happens to look steep; chosen on orthants.
_CAUTION = 0.6
# Weak knowledge of the slope and the bend, as means and standard deviations, the bend's for every
# unit of the slope: it keeps fits to few draws sane and weighs as much as about ten draws. Beside
# one flat boundary the bend is half the slope, within a large ball a third of it.
_SLOPE, _SLOPE_SPREAD, _BEND, _BEND_SPREAD = -1.5, 3.0, 0.4, 0.5
# The unit is such that the slope in it is at most about this, as beside flat boundaries. It changes
# if it is off by more than the factor, in a few passes, and to no more than twice what it was.
STEEP = 3.0
_RESCALED, _RESCALINGS = 1.5, 6
# Weight of what is known of pairs before any draw: that both agree where their length decides.
_PRIOR_PAIRS = 20.0 * 0.2
# Draws count towards the ends of an interval beyond the window from here on, in log sigma.
_APART = 0.15


@dataclass
class Draws:
    """Draws made so far, a row a point and a column a batch of them at one size of the noise.

    Attributes:
        log_sigma: `(n, t)`.
        none: Directions of which no copy kept the class, `(n, t)`.
        one: Of which one did.
        both: Of which both did; those that kept it, where copies do not come in pairs.
        sides: Copies a direction, 1 or 2.
    """

    log_sigma: Floats
    none: Floats
    one: Floats
    both: Floats
    sides: int

    @classmethod
    def empty(cls, rows: int, sides: int) -> "Draws":
        """Return the state before any draw."""
        none, one, both, log_sigma = np.zeros((4, rows, 0))
        return cls(log_sigma, none, one, both, sides)

    def append(self, rows: Integers, log_sigma: Floats, counts: Floats) -> None:
        """Add a batch `(m,)` with counts of none, one and both `(m, 3)` for the points `rows`."""
        column = np.zeros((4, len(self.log_sigma), 1))
        column[0, rows, 0] = log_sigma
        column[1:, rows, 0] = counts.T
        names = ("log_sigma", "none", "one", "both")
        for name, new in zip(names, column, strict=True):
            setattr(self, name, np.concatenate([getattr(self, name), new], axis=1))

    @property
    def total(self) -> Floats:
        """Return how many copies were classified, `(n, t)`."""
        return self.sides * (self.none + self.one + self.both)

    @property
    def kept(self) -> Floats:
        """Return how many of them kept the class, `(n, t)`."""
        return self.one + 2.0 * self.both if self.sides == 2 else self.one

    def __getitem__(self, rows: Integers) -> "Draws":
        """Return the draws of some points."""
        return Draws(
            self.log_sigma[rows], self.none[rows], self.one[rows], self.both[rows], self.sides
        )


@dataclass(frozen=True)
class ProbitFit:
    """The quantile and what is known about it, `(n,)` each.

    Attributes:
        log_sigma: Where the modelled share is gamma.
        error: Its standard error: of sigma, relative.
        low: Lower end of the interval; minus infinity where the draws set none.
        high: Upper end; infinity where the draws set none.
        slope: How fast the probit of the share falls there.
        bent: Whether only a window narrower than the widest is fitted.
        unit: Width of the transition in log sigma: 1, or less where it is sharp.
    """

    log_sigma: Floats
    error: Floats
    low: Floats
    high: Floats
    slope: Floats
    bent: Booleans
    unit: Floats


def fit_quantile(
    draws: Draws, start: Floats, gamma: float, quantile: float, unit: Floats | None = None
) -> ProbitFit:
    """Fit the share near `start`, `(n,)`, and find where it is `gamma`.

    Args:
        draws: All draws of these points.
        start: Present estimates of log sigma; windows are about these.
        gamma: The share.
        quantile: How many standard errors the interval goes either way.
        unit: What the width of the transition is taken for at first, `(n,)`; `None` for 1.
    """
    unit = np.ones(len(start)) if unit is None else unit.copy()
    fit, most = _fit_windows(draws, start, gamma, quantile, unit), np.minimum(2.0 * unit, 1.0)
    for _ in range(_RESCALINGS):
        wanted = np.minimum(STEEP / np.maximum(-fit.slope, 1e-12), most)
        off = np.flatnonzero(np.abs(np.log(wanted / unit)) > np.log(_RESCALED))
        if not len(off):
            break
        unit[off] = wanted[off]
        again = _fit_windows(draws[off], start[off], gamma, quantile, unit[off])
        for name, values in vars(again).items():
            getattr(fit, name)[off] = values
    return fit


def _fit_windows(
    draws: Draws, start: Floats, gamma: float, quantile: float, unit: Floats
) -> ProbitFit:
    """Fit in the widest window, and in narrower ones where the model is wrong."""
    fit = _fit(draws, start, gamma, quantile, np.full(len(start), _WINDOWS[0]), unit)
    for window in _WINDOWS[1:]:
        bad = np.flatnonzero(fit[1])
        if not len(bad):
            break
        again = _fit(draws[bad], start[bad], gamma, quantile, np.full(len(bad), window), unit[bad])
        for old, new in zip(fit, again, strict=True):
            old[bad] = new
        fit[-1][bad] = True
    log_sigma, _, error, low, high, slope, bent = fit
    return ProbitFit(log_sigma, error, low, high, slope, bent, unit.copy())


def _fit(
    draws: Draws, start: Floats, gamma: float, quantile: float, window: Floats, unit: Floats
) -> tuple[NDArray[Any], ...]:
    u = (draws.log_sigma - start[:, None]) / unit[:, None]
    inside = (np.abs(u) <= window[:, None]) & (draws.total > 0)
    total, kept = np.where(inside, draws.total, 0.0), np.where(inside, draws.kept, 0.0)
    powers = np.stack([np.ones_like(u), u, u * u], axis=2) * inside[:, :, None]
    beta, information = _maximise(powers, total, kept, ndtri(gamma))
    share = ndtr(np.einsum("ntp,np->nt", powers, beta))
    spread = _dispersion(draws, inside, share, unit)
    covariance = np.linalg.inv(information) * spread[:, None, None]
    root, error, low, high, slope = _invert(beta, covariance, gamma, quantile, window)
    rarely = np.where(unit < 1.0, _SHARP_MISFIT, _MISFIT)
    return (
        start + unit * root, _chance(total, kept, share, spread) < rarely, unit * error,
        start + unit * low, start + unit * high, slope / unit, np.zeros(len(u), bool),
    )  # fmt: skip


def _maximise(powers: Floats, total: Floats, kept: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the coefficients `(n, 3)` of greatest likelihood, and their information."""
    mean = np.tile([level, _SLOPE, 0.0], (len(powers), 1))
    beta = mean.copy()
    for _ in range(_STEPS):
        prior = np.zeros_like(mean)
        prior[:, 0] = 1e-3
        prior[:, 1] = _SLOPE_SPREAD**-2.0
        steep = np.maximum(np.abs(beta[:, 1]), 0.3)
        prior[:, 2], mean[:, 2] = (_BEND_SPREAD * steep) ** -2.0, _BEND * steep
        eta = np.clip(np.einsum("ntp,np->nt", powers, beta), -_FARTHEST, _FARTHEST)
        share = ndtr(eta)
        pull = np.exp(-0.5 * eta * eta) / np.sqrt(2.0 * np.pi) / (share * ndtr(-eta))
        weight = total * pull * pull * share * ndtr(-eta)
        information = np.einsum("nt,ntp,ntq->npq", weight, powers, powers)
        information += np.einsum("np,pq->npq", prior, np.eye(3))
        score = np.einsum("nt,ntp->np", (kept - total * share) * pull, powers)
        score -= prior * (beta - mean)
        step = np.linalg.solve(information, score[:, :, None])[:, :, 0]
        longest = np.abs(np.einsum("ntp,np->nt", powers, step)).max(1, initial=0.0)
        beta += step * np.minimum(1.0, 1.5 / np.maximum(longest, 1e-300))[:, None]
    return beta, information


def _dispersion(draws: Draws, inside: Booleans, share: Floats, unit: Floats) -> Floats:
    """Return the variance of a count relative to the binomial one: 1 + correlation in pairs."""
    if draws.sides == 1:
        return np.ones(len(share))
    pairs = np.where(inside, draws.none + draws.one + draws.both, 0.0)
    product = (
        np.where(inside, draws.both, 0.0) * (1.0 - share) ** 2
        - np.where(inside, draws.one, 0.0) * share * (1.0 - share)
        + np.where(inside, draws.none, 0.0) * share**2
    )
    binomial = (pairs * share * (1.0 - share)).sum(1)
    # Shrunk towards independence, or towards agreement where the transition is sharp, and never
    # trusted below a quarter.
    correlation = (product.sum(1) + _PRIOR_PAIRS * (1.0 - unit)) / (binomial + _PRIOR_PAIRS)
    doubt = _CAUTION / np.sqrt(np.maximum(pairs.sum(1), 1.0))
    return np.clip(1.0 + correlation + doubt, 0.25, 2.0)


def _chance(total: Floats, kept: Floats, share: Floats, spread: Floats) -> Floats:
    """Return how rarely draws contradict a right model by so much: Pearson's chi-squared test."""
    expected = total * share * (1.0 - share)
    known = expected > 1.0
    terms = np.where(known, (kept - total * share) ** 2 / np.maximum(expected, 1.0), 0.0)
    freedom = np.maximum(known.sum(1) - 3.0, 1.0)
    return chdtrc(freedom, terms.sum(1) / spread)


def _invert(
    beta: Floats, covariance: Floats, gamma: float, quantile: float, window: Floats
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return where the modelled share is `gamma`: root, error, low, high, slope.

    The interval holds every u at which the model's own band includes `gamma` (Fieller's method,
    carried over to a bent line): it knows that the slope is uncertain too.
    """
    u = np.linspace(-1.0, 1.0, _GRID)[None, :] * window[:, None]
    powers = np.stack([np.ones_like(u), u, u * u], axis=2)
    above = np.einsum("ngp,np->ng", powers, beta) - ndtri(gamma)
    band = np.sqrt(np.einsum("ngp,npq,ngq->ng", powers, covariance, powers))
    root = _crossing(u, above, window)
    at = np.stack([np.ones_like(root), root, root * root], axis=1)
    steep = np.stack([np.zeros_like(root), np.ones_like(root), 2.0 * root], axis=1)
    slope = np.einsum("np,np->n", steep, beta)
    unsure = np.sqrt(np.einsum("np,npq,nq->n", steep, covariance, steep))
    caution = 1.0 / np.clip(1.0 - _CAUTION * unsure / np.maximum(-slope, 1e-12), 0.25, 1.0)
    band *= caution[:, None]
    error = np.sqrt(np.einsum("np,npq,nq->n", at, covariance, at)) * caution
    error /= np.maximum(-slope, 1e-12)
    low = _edge(u[:, ::-1], (quantile * band - above)[:, ::-1], root, -1)
    high = _edge(u, above + quantile * band, root, 1)
    return root, error, low, high, slope


def _crossing(u: Floats, above: Floats, window: Floats) -> Floats:
    """Return the downward crossing of zero nearest to 0, or the end that it lies beyond."""
    falls = (above[:, :-1] > 0) & (above[:, 1:] <= 0)
    middle = 0.5 * (u[:, :-1] + u[:, 1:])
    place = np.where(falls, np.abs(middle), np.inf).argmin(1)
    rows = np.arange(len(u))
    left, right = above[rows, place], above[rows, place + 1]
    gap = np.where(left == right, 1.0, left - right)
    at = u[rows, place] + (u[rows, place + 1] - u[rows, place]) * left / gap
    ends = np.where(above.mean(1) > 0, window, -window)
    return np.where(falls.any(1), at, ends)


def _edge(u: Floats, inside: Floats, root: Floats, sign: int) -> Floats:
    """Return where, going outward from the root, the band leaves the level; infinity if nowhere."""
    outward = sign * (u - root[:, None]) > 0
    out = outward & (inside <= 0)
    place = np.where(out.any(1), out.argmax(1), 1)
    rows = np.arange(len(u))
    before = np.maximum(place - 1, 0)
    left, right = inside[rows, before], inside[rows, place]
    gap = np.where(left == right, 1.0, left - right)
    at = u[rows, before] + (u[rows, place] - u[rows, before]) * np.clip(left / gap, 0.0, 1.0)
    at = np.where(sign * (at - root) > 0, at, u[rows, place])
    return np.where(out.any(1), at, sign * np.inf)


def outer_ends(
    draws: Draws, log_sigma: Floats, gamma: float, tail: float, unit: Floats, apart: float = _APART
) -> tuple[Floats, Floats]:
    """Return ends of the interval that the draws far from the estimate set, `(n,)` each.

    Where the share falls all the way, one at a level is below `gamma` only if it is at all levels
    above too. So all draws from that level up to near the estimate, taken together, contradict it
    if more kept the class than a share `gamma` gives but rarely; and likewise the other way.

    Args:
        draws: All draws of these points.
        log_sigma: The estimates, `(n,)`.
        gamma: The share.
        tail: How rarely, for either end.
        unit: Width of the transition in log sigma, `(n,)`.
        apart: Only draws at least so many units away count.
    """
    u = (draws.log_sigma - log_sigma[:, None]) / unit[:, None]
    share = draws.kept / np.maximum(draws.total, 1.0)
    far = np.abs(u) >= apart
    spread = np.maximum(_dispersion(draws, far, share, unit), 1.0)[:, None]
    total, kept = draws.total / spread, draws.kept / spread
    low = _outer_end(-u * far, kept, total, gamma, tail)
    high = _outer_end(u * far, total - kept, total, 1.0 - gamma, tail)
    return log_sigma - unit * low, log_sigma + unit * high


def _outer_end(u: Floats, hits: Floats, total: Floats, share: float, tail: float) -> Floats:
    """Return the nearest level from which on the hits are too many for the share, or infinity."""
    if not u.shape[1]:
        return np.full(len(u), np.inf)
    counts = (u > 0) & (total > 0)
    order = np.where(counts, u, np.inf).argsort(1)
    level, some = np.take_along_axis(u, order, 1), np.take_along_axis(counts, order, 1)
    hit = np.cumsum(np.take_along_axis(hits, order, 1) * some, 1)
    of = np.cumsum(np.take_along_axis(total, order, 1) * some, 1)
    chance = np.where(hit > 0, betainc(np.maximum(hit, 1e-9), of - hit + 1.0, share), 1.0)
    passed = some & (chance < tail)
    nearest = np.take_along_axis(level, passed.argmax(1)[:, None], 1)[:, 0]
    return np.where(passed.any(1), nearest, np.inf)
