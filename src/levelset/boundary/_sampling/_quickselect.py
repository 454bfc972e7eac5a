"""Persistence as a quantile of exit radii along fixed directions, found like an order statistic."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import bdtrik, ndtri

from levelset.boundary._sampling._estimate import Estimate, Policy
from levelset.boundary._sampling._locate import locate
from levelset.boundary._sampling._votes import Voter

__all__ = ["quickselect"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

_FIRST_DIRECTIONS = 512
# Evaluations that a direction takes in all, about.
_PRICE = 3.0
# Numbers in the directions that are remembered at once.
_MEMORY = 2**25
_STEP = 1.3
_CHECKED = 64
_BEFORE, _AFTER = (0.33, 0.67), (1.25, 1.6, 2.0)


def quickselect(voter: Voter, rows: Rows, start: Array, policy: Policy) -> Estimate:
    r"""Find the persistence of the points `rows` from the exit radii of fixed directions.

    If every ray from x leaves the class once, at $R(z) z$, the share at noise $\sigma$ is that of
    the directions with $R(z) > \sigma$, and persistence is a quantile of R. To find it, a
    direction need be tried at a radius only if it is not yet known to be in or out there. The
    interval is that of order statistics and assumes nothing about R.

    Args:
        voter: Classifies; one by one, not in pairs.
        rows: Which points, `(n,)`.
        start: Noise to begin with, `(n,)`.
        policy: What is asked.
    """
    search = locate(voter, rows, start, policy.gamma, policy.max_sigma)
    n = len(rows)
    found = Estimate(
        sigma=np.where(search.stable, np.inf, 0.0), error=np.full(n, np.nan),
        low=np.where(search.stable, policy.max_sigma, 0.0),
        high=np.where(search.stable, np.inf, np.exp(search.log_sigma)), found=search.crossed,
        certified=np.zeros(n), rival=np.full(n, -1, dtype=np.int64),
    )  # fmt: skip
    together = max(_MEMORY // (4 * _FIRST_DIRECTIONS * max(voter.noise.size, 1)), 1)
    crossed = np.flatnonzero(search.crossed)
    for first in range(0, len(crossed), together):
        held = crossed[first : first + together]
        rays = [_Rays(voter, int(row)) for row in rows[held]]
        guess = np.exp(search.log_sigma[held])
        _solve(voter, rays, guess, policy, found, held)
        for row in rows[held]:
            voter.noise.release(int(row))
    return found


class _Rays:
    """Directions of one point, each with the radii up to which it is in, and at which it is out."""

    def __init__(self, voter: Voter, row: int) -> None:
        self.row, self.voter = row, voter
        self.directions = torch.empty(0)
        self.inside, self.outside = np.zeros(0), np.zeros(0)

    def grow(self, count: int) -> None:
        """Draw more directions, until there are `count`."""
        new = count - len(self.inside)
        if new > 0:
            drawn = self.voter.noise.take(self.row, new)
            held = [self.directions, drawn] if len(self.directions) else [drawn]
            self.directions = torch.cat(held)
            self.inside = np.append(self.inside, np.zeros(new))
            self.outside = np.append(self.outside, np.full(new, np.inf))

    def unknown(self, radius: float) -> Rows:
        """Return the directions of which it is not known whether they are in or out."""
        return np.flatnonzero((self.inside < radius) & (self.outside > radius))

    def out(self, radius: float) -> int:
        """Return how many directions are out at a radius at which all are known."""
        return int((self.outside <= radius).sum())


def _solve(
    voter: Voter, rays: list[_Rays], guess: Array, policy: Policy, found: Estimate, held: Rows
) -> None:
    """Find the quantile of every point, with as many directions as its tolerance asks for."""
    quantile = float(ndtri(0.5 + 0.5 * policy.confidence))
    counts = np.full(len(rays), min(_FIRST_DIRECTIONS, max(int(policy.most / _PRICE), 2)))
    going = np.arange(len(rays))
    while len(going):
        for place in going:
            rays[place].grow(int(counts[place]))
        some = [rays[place] for place in going]
        m = counts[going]
        tail = 0.5 - 0.5 * policy.confidence
        # The numbers of directions out, between which the true quantile lies.
        few = np.floor(bdtrik(tail, m, 1.0 - policy.gamma)).clip(0)
        many = np.minimum(np.ceil(bdtrik(1.0 - tail, m, 1.0 - policy.gamma)) + 1, m - 1)
        fine = 0.1 * policy.tolerance
        middle = _select(voter, some, np.floor((1.0 - policy.gamma) * m), guess[going], fine)
        low = _select(voter, some, few, middle, fine)
        high = _select(voter, some, many, middle, fine)
        places = held[going]
        found.sigma[places], found.low[places], found.high[places] = middle, low, high
        error = np.log(high / low) / (2.0 * quantile)
        found.error[places] = error
        guess[going] = middle
        wanted = np.ceil(m * np.clip((error / policy.tolerance) ** 2 * 1.05, 1.0, 4.0))
        counts[going] = np.minimum(wanted, max(int(policy.most / _PRICE), 2)).astype(np.int64)
        going = going[(error > policy.tolerance) & (counts[going] > m)]
    found.reentry[held] = [
        _reentry(voter, r, s) for r, s in zip(rays, found.sigma[held], strict=True)
    ]


def _select(voter: Voter, rays: list[_Rays], rank: Array, guess: Array, fine: float) -> Array:
    """Return radii between the exits number `rank` and the next, to the relative width `fine`."""
    low, high = np.zeros(len(rays)), np.full(len(rays), np.inf)
    below, above = np.zeros(len(rays)), np.array([len(r.inside) for r in rays], dtype=float)
    radius = guess.copy()
    going = np.arange(len(rays))
    for _ in range(60):
        if not len(going):
            break
        _try(voter, [rays[place] for place in going], radius[going])
        for place in going:
            out = rays[place].out(float(radius[place]))
            if out <= rank[place]:
                low[place], below[place] = radius[place], out
            else:
                high[place], above[place] = radius[place], out
        radius[going] = _next_radius(
            low[going], high[going], (rank + 0.5 - below)[going] / (above - below)[going]
        )
        going = going[~(high[going] <= (1.0 + fine) * low[going])]
    return np.where(np.isfinite(high), np.sqrt(np.maximum(low, 1e-300) * high), low)


def _next_radius(low: Array, high: Array, share: Array) -> Array:
    """Return where to try next: outwards while an end is open, else where the rank is likely."""
    with np.errstate(divide="ignore", invalid="ignore"):
        between = low * (high / low) ** np.clip(share, 0.15, 0.85)
    return np.where(np.isinf(high), _STEP * low, np.where(low == 0, high / _STEP, between))


def _try(voter: Voter, rays: list[_Rays], radius: Array) -> None:
    """Try each point's unknown directions at its radius, all points in the same batches."""
    unknown = [r.unknown(float(s)) for r, s in zip(rays, radius, strict=True)]
    radii = [np.full(len(u), s) for u, s in zip(unknown, radius, strict=True)]
    kept = _kept(voter, rays, unknown, radii)
    for r, which, s, stays in zip(rays, unknown, radius, kept, strict=True):
        r.inside[which[stays]] = s
        r.outside[which[~stays]] = s


def _kept(
    voter: Voter, rays: list[_Rays], which: list[Rows], radii: list[Array]
) -> list[NDArray[np.bool_]]:
    """Return which directions keep the class at which radii."""
    asked = [
        (r.row, r.directions[torch.from_numpy(w).to(r.directions.device)], torch.from_numpy(s))
        for r, w, s in zip(rays, which, radii, strict=True)
    ]
    return [kept.cpu().numpy() for kept in voter.keep(asked)]


def _reentry(voter: Voter, rays: _Rays, sigma: float) -> float:
    """Return the share of some rays that leave the class early, or come back to it."""
    some = np.arange(min(_CHECKED, len(rays.inside)))
    inside, outside = rays.inside[some], rays.outside[some]
    early = np.concatenate([fraction * inside for fraction in _BEFORE])
    late = np.concatenate([np.minimum(outside, 2.0 * sigma) * factor for factor in _AFTER])
    (kept,) = _kept(
        voter, [rays], [np.tile(some, len(_BEFORE) + len(_AFTER))], [np.append(early, late)]
    )
    checks = kept.reshape(-1, len(some))
    left = (~checks[: len(_BEFORE)] & (inside > 0)).any(0)
    back = (checks[len(_BEFORE) :] & np.isfinite(outside)).any(0)
    return float((left | back).mean())
