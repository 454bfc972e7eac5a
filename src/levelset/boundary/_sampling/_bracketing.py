"""The paper's algorithm 1, as printed, for many points side by side: the reference."""

import numpy as np
from scipy.special import ndtri

from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sampling._estimate import LAST_LOOK, Estimate, Policy
from levelset.boundary._sampling._locate import SigmaSearch, cast
from levelset.boundary._sampling._probit import fit_quantile, outer_ends
from levelset.boundary._sampling._votes import Voter

__all__ = ["bracketing"]


_MAX_STEPS = 30
_FIRST_MIN, _FIRST_MAX = 0.5, 1.5
# Below this noise, for every unit of the first, a point counts as never stable.
_LEAST = 2.0**-40


def bracketing(voter: Voter, rows: Integers, policy: Policy) -> Estimate:
    """Find the persistence of the points `rows` by doubling, halving and bisecting.

    `policy.tolerance` is the paper's `precision`. The ends of the bracket and the comparisons are
    the paper's; what it leaves open is bounded: the upper end by `policy.max_sigma`. Sigma is
    the last noise tried, as in the paper; interval and error come from a fit to all the draws.

    Args:
        voter: Classifies; one by one, not in pairs.
        rows: Which points, `(n,)`.
        policy: What is asked; `policy.most` is the paper's `numSamples`.
    """
    search = SigmaSearch.of(rows, sides=1)
    low, high = np.minimum(_FIRST_MIN, policy.max_sigma), np.minimum(_FIRST_MAX, policy.max_sigma)
    bracket = _SigmaBracket(voter, search, policy)
    search.stable, search.crossed = bracket.find(low, high)
    sigma, solved = bracket.bisect(low, high, np.flatnonzero(search.stable & search.crossed))
    return _estimate(search, policy, sigma, low, solved)


class _SigmaBracket:
    """The two functions of the algorithm, over many points."""

    def __init__(self, voter: Voter, search: SigmaSearch, policy: Policy) -> None:
        self.voter, self.search, self.policy = voter, search, policy

    def find(self, low: Floats, high: Floats) -> tuple[Booleans, Booleans]:
        """RANGEFINDER: halve and double, in place, until gamma lies between the shares."""
        gamma, everyone = self.policy.gamma, np.arange(len(low))
        first, second = self.share(everyone, low), self.share(everyone, high)
        floor = _LEAST * low
        while True:
            down = np.flatnonzero((first < gamma) & (low > floor))
            up = np.flatnonzero((second > gamma) & (high < self.policy.max_sigma))
            if not len(down) and not len(up):
                return first >= gamma, second <= gamma
            low[down] *= 0.5
            first[down] = self.share(down, low)
            high[up] = np.minimum(2.0 * high[up], self.policy.max_sigma[up])
            second[up] = self.share(up, high)

    def bisect(self, low: Floats, high: Floats, going: Integers) -> tuple[Floats, Booleans]:
        """BRACKETING: halve the bracket, in place, until a share is within the precision."""
        sigma, solved = np.full(len(low), np.nan), np.zeros(len(low), bool)
        for _ in range(_MAX_STEPS - 1):
            self.policy.tell(len(low) - len(going))
            if not len(going):
                break
            sigma[going] = 0.5 * (low[going] + high[going])
            share = self.share(going, sigma)
            near = np.abs(share - self.policy.gamma) < self.policy.tolerance
            above = share > self.policy.gamma
            low[going[~near & above]] = sigma[going[~near & above]]
            high[going[~near & ~above]] = sigma[going[~near & ~above]]
            solved[going[near]] = True
            going = going[~near]
        return sigma, solved

    def share(self, going: Integers, sigma: Floats) -> Floats:
        """COMPUTE_PERSISTENCE: the share of fresh draws that keep the class."""
        if not len(going):
            return np.zeros(0)
        draws = np.full(len(going), self.policy.most)
        cast(self.voter, self.search, going, np.log(sigma[going]), draws)
        return self.search.draws.kept[going, -1] / self.policy.most


def _estimate(
    search: SigmaSearch, policy: Policy, sigma: Floats, low: Floats, solved: Booleans
) -> Estimate:
    both = search.stable & search.crossed
    n = len(sigma)
    error, ends = np.full(n, np.nan), np.stack([np.zeros(n), np.full(n, np.inf)])
    ends[0, ~search.crossed] = policy.max_sigma[~search.crossed]
    ends[1, ~search.stable] = low[~search.stable]
    if both.any():
        rows = np.flatnonzero(both)
        quantile = float(ndtri(1.0 - 0.5 * LAST_LOOK * (1.0 - policy.confidence)))
        fit = fit_quantile(search.draws[rows], np.log(sigma[rows]), policy.gamma, quantile)
        tail = 0.5 * (1.0 - LAST_LOOK) * (1.0 - policy.confidence)
        at = np.log(sigma[rows])
        outer = outer_ends(search.draws[rows], at, policy.gamma, tail, fit.unit)
        ends[:, rows] = np.exp(
            [
                np.where(np.isfinite(e), e, o)
                for e, o in zip((fit.low, fit.high), outer, strict=True)
            ]
        )
        error[rows] = np.where(solved[rows], fit.error, np.nan)
    sigma = np.where(both, sigma, np.where(search.stable, np.inf, 0.0))
    rival = np.full(n, -1, dtype=np.int64)
    return Estimate(sigma, error, ends[0], ends[1], solved, rival)
