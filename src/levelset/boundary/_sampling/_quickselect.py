"""Persistence as a quantile of exit radii along fixed directions, found like an order statistic."""

import numpy as np
import torch
from scipy.special import bdtrik, ndtri

from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sampling._estimate import Estimate, Policy
from levelset.boundary._sampling._locate import locate
from levelset.boundary._sampling._votes import Voter

__all__ = ["quickselect"]


_FIRST_DIRECTIONS = 512
# Evaluations that a direction takes in all, about.
_PRICE = 4.0
# Numbers in the directions that are remembered at once.
_MEMORY = 2**25
_STEP = 1.3
_MOST_STEPS = 300
_CHECKED = 64
_BEFORE, _AFTER = (0.33, 0.67), (1.25, 1.6, 2.0)


def quickselect(voter: Voter, rows: Integers, policy: Policy) -> Estimate:
    r"""Find the persistence of the points `rows` from the exit radii of fixed directions.

    If every ray from x leaves the class once, at $R(z) z$, the share at noise $\sigma$ is that of
    the directions with $R(z) > \sigma$, and persistence is a quantile of R. To find it, a
    direction need be tried at a radius only if it is not yet known to be in or out there. The
    interval is that of order statistics and assumes nothing about R.

    Args:
        voter: Classifies; one by one, not in pairs.
        rows: Which points, `(n,)`.
        policy: What is asked.
    """
    search = locate(voter, rows, policy)
    n, at, stable = len(rows), np.exp(search.log_sigma), search.stable
    estimate = Estimate(
        sigma=np.where(stable, np.inf, 0.0),
        error=np.where(search.room(np.arange(n), policy.most) > 0, np.nan, np.inf),
        low=at * stable, high=np.where(stable, np.inf, at), found=search.crossed.copy(),
        rival=np.full(n, -1, dtype=np.int64),
    )  # fmt: skip
    together = max(_MEMORY // (4 * _FIRST_DIRECTIONS * max(voter.noise.size, 1)), 1)
    crossed = np.flatnonzero(search.crossed)
    for first in range(0, len(crossed), together):
        policy.tell(n - len(crossed) + first)
        part = crossed[first : first + together]
        rays = [
            _Rays(voter, int(rows[h]), policy.least[h], policy.max_sigma[h], policy.most)
            for h in part
        ]
        _solve(voter, rays, at[part], policy, estimate, part)
    return estimate


class _Rays:
    """Directions of one point, each with the radii up to which it is in, and at which it is out."""

    def __init__(self, voter: Voter, row: int, least: float, longest: float, most: int) -> None:
        self.row, self.voter = row, voter
        self.least, self.longest, self.most = least, longest, most
        self.cut = False  # whether evaluations ran out
        self.directions = torch.empty(0)
        self.inside, self.outside = np.zeros(0), np.zeros(0)

    def room(self) -> int:
        """Return how many evaluations are left."""
        return self.most - int(self.voter.evaluations[self.row])

    def grow(self, count: int) -> None:
        """Draw more directions, until there are `count`."""
        new = count - len(self.inside)
        if new > 0:
            drawn = self.voter.noise.take(self.row, new)
            blocks = [self.directions, drawn] if len(self.directions) else [drawn]
            self.directions = torch.cat(blocks)
            self.inside = np.append(self.inside, np.zeros(new))
            self.outside = np.append(self.outside, np.full(new, np.inf))

    def unknown(self, radius: float) -> Integers:
        """Return the directions of which it is not known whether they are in or out."""
        return np.flatnonzero((self.inside < radius) & (self.outside > radius))

    def out(self, radius: float) -> int:
        """Return how many directions are out at a radius at which all are known."""
        return int((self.outside <= radius).sum())


def _solve(
    voter: Voter,
    rays: list[_Rays],
    guess: Floats,
    policy: Policy,
    estimate: Estimate,
    rows: Integers,
) -> None:
    """Find the quantile of every point, with as many directions as its tolerance asks for."""
    quantile = float(ndtri(0.5 + 0.5 * policy.confidence))
    most = np.array([max(int(r.room() / _PRICE), 2) for r in rays])
    counts = np.minimum(_FIRST_DIRECTIONS, most)
    going, fine = np.arange(len(rays)), 0.1 * policy.tolerance
    while len(going):
        for place in going:
            rays[place].grow(int(counts[place]))
        some, m, places = [rays[place] for place in going], counts[going], rows[going]
        few, middle, many = _ranks(m, policy)
        sigma = _between(*_select(voter, some, middle, guess[going], fine))
        known = (sigma > 0) & np.isfinite(sigma)
        guess[going] = np.where(known, sigma, guess[going])
        lower = _select(voter, some, few, guess[going], fine)
        upper = _select(voter, some, many, guess[going], fine)
        low, high = _closed(*lower, fine)[0], _closed(*upper, fine)[1]
        with np.errstate(divide="ignore"):
            error = np.log(high / low) / (2.0 * quantile)
        estimate.sigma[places], estimate.error[places] = sigma, error
        # The outer radii, for where the transition is sharp all exits lie within `fine`.
        estimate.low[places], estimate.high[places] = lower[0], upper[1]
        estimate.found[places] = known & np.isfinite(error)
        wanted = np.ceil(m * np.clip((error / policy.tolerance) ** 2 * 1.05, 1.0, 4.0))
        counts[going] = np.minimum(wanted, most[going]).astype(np.int64)
        going = going[known & (error > policy.tolerance) & (counts[going] > m)]
    cut = np.array([r.cut for r in rays], bool)
    estimate.error[rows] = np.where(
        estimate.found[rows], estimate.error[rows], np.where(cut, np.inf, np.nan)
    )
    lost = rows[~estimate.found[rows]]
    estimate.sigma[lost[estimate.sigma[lost] > 0]] = np.inf
    estimate.high[lost[estimate.sigma[lost] > 0]] = np.inf
    estimate.reentry[rows] = [
        _reentry(voter, r, s) for r, s in zip(rays, estimate.sigma[rows], strict=True)
    ]


def _ranks(m: Integers, policy: Policy) -> tuple[Floats, Floats, Floats]:
    """Return how many of m directions are out at the quantile, and at the ends of its interval."""
    tail, out = 0.5 - 0.5 * policy.confidence, 1.0 - policy.gamma
    few = np.floor(bdtrik(tail, m, out)).clip(0)
    many = np.minimum(np.ceil(bdtrik(1.0 - tail, m, out)) + 1, m - 1)
    return few, np.floor(out * m), many


def _select(
    voter: Voter, rays: list[_Rays], rank: Floats, guess: Floats, fine: float
) -> tuple[Floats, Floats]:
    """Return two radii between which exit number `rank` lies, to the relative width `fine`.

    They are further apart where evaluations run out. The first is 0 where that exit lies below the
    smallest noise, the second is infinite where it lies beyond the largest.
    """
    low, high = np.zeros(len(rays)), np.full(len(rays), np.inf)
    below, above = np.zeros(len(rays)), np.array([len(r.inside) for r in rays], dtype=float)
    least, longest = np.array([[r.least, r.longest] for r in rays]).reshape(-1, 2).T
    radius = np.clip(guess, least, longest)
    going = np.arange(len(rays))
    for _ in range(_MOST_STEPS):
        if not len(going):
            break
        tried = _try(voter, [rays[place] for place in going], radius[going])
        going = going[tried]
        for place in going:
            out = rays[place].out(float(radius[place]))
            if out <= rank[place]:
                low[place], below[place] = radius[place], out
            else:
                high[place], above[place] = radius[place], out
        going = going[(low[going] < longest[going]) & (high[going] > least[going])]
        going = going[high[going] > (1.0 + fine) * low[going]]
        share = (rank + 0.5 - below)[going] / (above - below)[going]
        radius[going] = np.clip(
            _next_radius(low[going], high[going], share), least[going], longest[going]
        )
    return low, high


def _between(low: Floats, high: Floats) -> Floats:
    """Return the middle of two radii; 0 or infinity where one of them is."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(high), high, np.sqrt(low * high))


def _closed(low: Floats, high: Floats, fine: float) -> tuple[Floats, Floats]:
    """Return the middle twice where two radii are within the tolerance, else the two."""
    middle, narrow = _between(low, high), high <= (1.0 + fine) * low
    return np.where(narrow, middle, low), np.where(narrow, middle, high)


def _next_radius(low: Floats, high: Floats, share: Floats) -> Floats:
    """Return where to try next: outwards while an end is open, else where the rank is likely."""
    with np.errstate(divide="ignore", invalid="ignore"):
        between = low * (high / low) ** np.clip(share, 0.15, 0.85)
    return np.where(np.isinf(high), _STEP * low, np.where(low == 0, high / _STEP, between))


def _try(voter: Voter, rays: list[_Rays], radius: Floats) -> Booleans:
    """Try each point's unknown directions at its radius, all points in the same batches.

    Return for which points: for those whose evaluations suffice.
    """
    unknown = [r.unknown(float(s)) for r, s in zip(rays, radius, strict=True)]
    able = np.array([len(u) <= r.room() for u, r in zip(unknown, rays, strict=True)], bool)
    for r, a in zip(rays, able, strict=True):
        r.cut |= not a
    unknown = [u if a else u[:0] for u, a in zip(unknown, able, strict=True)]
    radii = [np.full(len(u), s) for u, s in zip(unknown, radius, strict=True)]
    kept = _kept(voter, rays, unknown, radii)
    for r, which, s, stays in zip(rays, unknown, radius, kept, strict=True):
        r.inside[which[stays]] = s
        r.outside[which[~stays]] = s
    return able


def _kept(
    voter: Voter, rays: list[_Rays], which: list[Integers], radii: list[Floats]
) -> list[Booleans]:
    """Return which directions keep the class at which radii."""
    requests = [
        (r.row, r.directions[torch.from_numpy(w).to(r.directions.device)], torch.from_numpy(s))
        for r, w, s in zip(rays, which, radii, strict=True)
    ]
    return [kept.cpu().numpy() for kept in voter.keep(requests)]


def _reentry(voter: Voter, rays: _Rays, sigma: float) -> float:
    """Return the share of some rays that leave the class early, or come back to it."""
    checks = len(_BEFORE) + len(_AFTER)
    some = np.arange(min(_CHECKED, len(rays.inside), rays.room() // checks))
    if not np.isfinite(sigma) or not len(some):
        return float("nan")
    inside, outside = rays.inside[some], rays.outside[some]
    early = np.concatenate([fraction * inside for fraction in _BEFORE])
    late = np.concatenate([np.minimum(outside, 2.0 * sigma) * factor for factor in _AFTER])
    (kept,) = _kept(voter, [rays], [np.tile(some, checks)], [np.append(early, late)])
    stays = kept.reshape(-1, len(some))
    left = (~stays[: len(_BEFORE)] & (inside > 0)).any(0)
    back = (stays[len(_BEFORE) :] & np.isfinite(outside)).any(0)
    return float((left | back).mean())
