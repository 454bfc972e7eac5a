"""Persistence by a probit model of the share; each draw is placed where it is most informative."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from levelset._tools.proportions import exact_interval
from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sampling._estimate import LAST_LOOK, Estimate, Policy
from levelset.boundary._sampling._locate import SigmaSearch, cast, locate, sharpen
from levelset.boundary._sampling._probit import fit_quantile, outer_ends
from levelset.boundary._sampling._votes import Voter, Votes

__all__ = ["certified_radius", "probit", "rivals"]


_ROUNDS = 60
# The share of the draws of a round that goes to either side, to estimate the slope, and how far:
# this many units of the probit, within limits of log sigma. More where the transition is
# sharp: there draws are few, and the slope shows whether the place is right.
_ARM_SHARE, _SHARP_ARM_SHARE = 0.06, 0.3
_ARM_PROBITS, _ARM_LEAST, _ARM_MOST = 0.5, 0.08, 0.4
# The most where only a narrow window is fitted: draws outside say nothing there.
_NARROW_ARM_MOST = 0.15
_FIRST_DIRECTIONS = 16
_LEAST_DIRECTIONS = 8
# Factor on the draws that the present error calls for; and at least this share of those made, as
# a check after every few draws would stop where chance makes the error look small.
_SAFETY, _LEAST_GROWTH = 1.03, 0.15
# Likewise for the round that is to be the last, whose draws also make the certificate.
_LEAST_CERTIFIED = 0.3
# Most evaluations a round while the estimate still moves by more than this in log sigma.
_UNSETTLED, _UNSETTLED_MOST = 0.3, 128
# And the most by which it may move, and be in error, in units of the probit: a sharp transition
# meets any tolerance after a few draws, too few for the theory of the error to hold.
_UNSETTLED_PROBITS, _MOST_PROBITS = 0.35, 0.2
# There is no crossing if the error exceeds the first and no draw shows the share to be below, or
# if it exceeds the second. A point whose error is still that large after 4,096 evaluations is
# given up.
_NO_ERROR, _ABSURD_ERROR, _HOPELESS = 1.0, 10.0, 4096
# More where only a narrow window is fitted, for it takes rounds to fill it.
_NARROW_HOPELESS = 32_768
# How far from the estimate, in units of the probit, draws are made to close an interval, in turn.
# And how many directions above it, where beside a plane the share stays near a half.
_CLOSING_PROBITS, _CLOSING_ABOVE = (1.0, 1.5), 64
# No estimate moves further than this in log sigma in one round.
_LONGEST_MOVE = 0.7


def probit(voter: Voter, rows: Integers, policy: Policy) -> Estimate:
    """Estimate the persistence of the points `rows`, all of them advancing together.

    Each round doubles the draws at most, puts four fifths of them at the present estimate and the
    rest at either side, and fits the share to all. A point stops at the requested
    relative standard error. A point whose draws show no fall of the share below gamma has no
    persistence.

    Args:
        voter: Classifies; in pairs.
        rows: Which points, `(n,)`.
        policy: What is asked.
    """
    search = locate(voter, rows, policy)
    sharpen(voter, search, policy)
    rounds = _Rounds(voter, search, policy)
    for _ in range(_ROUNDS):
        if not len(rounds.going):
            break
        policy.tell(len(rows) - len(rounds.going))
        rounds.advance()
    rounds.close()
    rounds.certify_rest()
    return rounds.estimate()


@dataclass
class _Plan:
    """Directions of the next round for the points still going, `(m,)` each."""

    centre: Integers
    arm: Integers
    last: Booleans


class _Rounds:
    """The state of the points of one search, between rounds."""

    def __init__(self, voter: Voter, search: SigmaSearch, policy: Policy) -> None:
        self.voter, self.search, self.policy = voter, search, policy
        n = len(search.rows)
        # The rest is for the certificate.
        self.most = int(policy.most / (1.0 + _LEAST_CERTIFIED))
        self.going: Integers = np.flatnonzero(search.crossed)
        self.going = self.going[search.room(self.going, self.most) > 0]
        self.quantile = float(ndtri(1.0 - 0.5 * LAST_LOOK * (1.0 - policy.confidence)))
        self.error = np.full(n, np.inf)
        self.low, self.high = np.full(n, -np.inf), np.full(n, np.inf)
        self.spread = _ARM_MOST * search.unit
        self.target, self.unsettled = np.full(n, policy.tolerance), np.full(n, _UNSETTLED)
        self.certified, self.radius, self.smoothing = np.zeros(n, bool), np.zeros(n), np.zeros(n)
        self.rival, self.rival_votes = np.full(n, -1), np.zeros(n)
        self.moved, self.slope, self.narrow = np.zeros(n), np.ones(n), np.zeros(n, bool)
        self.number = 0

    def advance(self) -> None:
        """Draw for the points still going, fit again, and let those go that are done."""
        going, plan = self.going, self._plan()
        centre = self.search.log_sigma[going].copy()
        votes = cast(self.voter, self.search, going, centre, plan.centre)
        self._certify(going, centre, votes, plan.last)
        for side in (-1.0, 1.0):
            if plan.arm.any():
                cast(self.voter, self.search, going, centre + side * self.spread[going], plan.arm)
        self._fit()
        self.number += 1
        spent = self.search.draws.total[going].sum(1)
        settled = (self.moved[going] <= self.unsettled[going]) & (self.number > 1)
        done = (self.error[going] <= self.target[going]) & settled
        hopeless = np.where(self.narrow[going], _NARROW_HOPELESS, _HOPELESS)
        done |= (spent >= hopeless) & (self.error[going] > _NO_ERROR)
        self.going = going[~done & (self.search.room(going, self.most) > 0)]

    def _plan(self) -> _Plan:
        going = self.going
        room = self.search.room(going, self.most)
        if self.number == 0:
            first = np.full(len(going), _FIRST_DIRECTIONS)
            centre = np.clip(first, 1, room)
            return _Plan(
                centre, np.minimum(first, (room - centre) // 2), np.zeros(len(going), bool)
            )
        have = self.search.draws.total[going].sum(1)
        need = have * np.minimum(self.error[going] / self.target[going], 10.0) ** 2
        wanted = np.minimum(_SAFETY * need, self.most) - have
        unsettled = self.moved[going] > self.unsettled[going]
        last = (wanted <= have) & ~unsettled
        growth = np.where(self.certified[going], _LEAST_GROWTH, _LEAST_CERTIFIED)
        least = np.maximum(2.0 * _LEAST_DIRECTIONS, growth * have)
        growth = np.clip(wanted, least, np.where(unsettled, _UNSETTLED_MOST, have))
        directions = np.minimum(growth / self.search.draws.sides, room)
        narrow = self.narrow[going] | (self.search.unit[going] < 1.0)
        share = np.where(narrow, _SHARP_ARM_SHARE, _ARM_SHARE)
        arm = np.floor(share * directions).astype(np.int64)
        arm[arm < 4] = 0
        return _Plan(np.ceil(directions).astype(np.int64) - 2 * arm, arm, last)

    def close(self) -> None:
        """Close intervals that have an open end, by draws where the share is far from gamma.

        Near a gamma of 1 nearly all copies below the estimate keep their class, and it takes many
        draws to tell such a share from gamma.
        """
        # So many that all keep their class are too many for gamma, though both of a pair agree.
        below = int(np.ceil(np.log(self._outer_tail()) / np.log(self.policy.gamma)))
        for probits in _CLOSING_PROBITS:
            ends = self._ends()
            crossed = self.search.crossed & (self.error < _NO_ERROR)
            for side, end, enough in ((-1.0, ends[0], below), (1.0, ends[1], _CLOSING_ABOVE)):
                rows = np.flatnonzero(crossed & np.isinf(end))
                rows = rows[self.search.room(rows, self.most) > 0]
                if not len(rows):
                    continue
                count = np.minimum(enough, self.search.room(rows, self.most))
                far = self.search.log_sigma[rows] + side * probits / self.slope[rows]
                far = np.minimum(far, np.log(self.policy.max_sigma[rows]))
                cast(self.voter, self.search, rows, far, count)

    def certify_rest(self) -> None:
        """Draw once more for points that stopped sooner than planned, at what they arrived at."""
        places = np.flatnonzero(self.search.stable & ~self.certified)
        places = places[self.search.room(places, self.policy.most) > 0]
        if len(places):
            spent = self.search.draws.total[places].sum(1)
            count = np.ceil(_LEAST_CERTIFIED * spent / self.search.draws.sides).astype(np.int64)
            count = np.minimum(count, self.search.room(places, self.policy.most))
            sigma = self.search.log_sigma[places].copy()
            votes = cast(self.voter, self.search, places, sigma, count)
            self._certify(places, sigma, votes, np.ones(len(places), bool))

    def _fit(self) -> None:
        going, search = self.going, self.search
        fit = fit_quantile(
            search.draws[going], search.log_sigma[going], self.policy.gamma, self.quantile,
            search.unit[going],
        )  # fmt: skip
        search.unit[going] = fit.unit
        longest = _LONGEST_MOVE * fit.unit
        move = np.clip(fit.log_sigma - search.log_sigma[going], -longest, longest)
        self.moved[going] = np.abs(move)
        search.log_sigma[going] = np.minimum(
            search.log_sigma[going] + move, np.log(self.policy.max_sigma[going])
        )
        self.error[going] = fit.error
        self.low[going], self.high[going] = fit.low, fit.high
        slope = np.maximum(-fit.slope, 1e-3)
        self.slope[going] = slope
        self.unsettled[going] = np.minimum(_UNSETTLED * fit.unit, _UNSETTLED_PROBITS / slope)
        self.target[going] = np.minimum(self.policy.tolerance, _MOST_PROBITS / slope)
        self.narrow[going] = fit.bent
        most = np.where(fit.bent, _NARROW_ARM_MOST, _ARM_MOST)
        spread = np.clip(_ARM_PROBITS / slope / fit.unit, _ARM_LEAST, most)
        self.spread[going] = fit.unit * spread

    def _certify(self, going: Integers, centre: Floats, votes: Votes, last: Booleans) -> None:
        """Use the round that was planned to be the last: its noise is fixed before its draws."""
        wanted = last & ~self.certified[going]
        rows = self.search.rows[going]
        radius = certified_radius(self.voter, rows, np.exp(centre), votes, self.policy.confidence)
        self.radius[going[wanted]] = radius[wanted]
        self.smoothing[going[wanted]] = np.exp(centre[wanted])
        self.certified[going] |= last
        rival, count = rivals(self.voter, rows, votes)
        more = count >= self.rival_votes[going]
        self.rival[going[more]], self.rival_votes[going[more]] = rival[more], count[more]

    def _outer_tail(self) -> float:
        """Return how rarely an end that the outer draws set may be wrong."""
        return 0.5 * (1.0 - LAST_LOOK) * (1.0 - self.policy.confidence)

    def _ends(self) -> tuple[Floats, Floats]:
        """Return ends of the intervals: the model's, or where it sets none, the outer draws'."""
        search = self.search
        low, high = outer_ends(
            search.draws, search.log_sigma, self.policy.gamma, self._outer_tail(), search.unit
        )
        low = np.where(np.isfinite(self.low), self.low, low)
        return low, np.where(np.isfinite(self.high), self.high, high)

    def _widened(self, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Return ends that do not rest on the model alone where the transition is sharp.

        There the tolerance leaves room for ends that are true of any share that falls: those that
        the draws set level by level, as far as the tolerance goes.
        """
        search, policy = self.search, self.policy
        tail = 0.25 * (1.0 - policy.confidence)
        sure = outer_ends(search.draws, search.log_sigma, policy.gamma, tail, search.unit, 1e-9)
        room, at = self.quantile * policy.tolerance, search.log_sigma
        sharp = search.unit < 1.0
        low = np.where(sharp, np.minimum(low, np.maximum(sure[0], at - room)), low)
        high = np.where(sharp, np.maximum(high, np.minimum(sure[1], at + room)), high)
        return low, high

    def estimate(self) -> Estimate:
        """Return what is known at the end."""
        search, policy = self.search, self.policy
        at, limit = np.exp(search.log_sigma), policy.max_sigma
        ends = self._widened(*self._ends())
        low, high = np.exp(ends[0]), np.exp(ends[1])
        vague = (self.error > _NO_ERROR) & np.isinf(high) | (self.error > _ABSURD_ERROR)
        found = search.crossed & ~vague & (at < limit * (1.0 - 1e-9))
        doubtful = search.crossed & ~found
        stable = search.stable
        sigma = np.where(found, at, np.where(stable, np.inf, 0.0))
        low = np.where(found, low, np.where(doubtful, np.minimum(low, limit), at * stable))
        high = np.where(found, high, np.where(stable, np.inf, at))
        short = ~found & (search.room(np.arange(len(at)), self.most) == 0)
        error = np.where(found, self.error, np.where(short, np.inf, np.nan))
        return Estimate(sigma, error, low, high, found, self.rival, self.radius, self.smoothing)


def certified_radius(
    voter: Voter, rows: Integers, sigma: Floats, votes: Votes, confidence: float
) -> Floats:
    r"""Return the L2 radius within which the smoothed classifier keeps the class, `(n,)`.

    The smoothed classifier answers the class that most of $N(x, \sigma^2 I)$ gets. If at least
    $p > 1/2$ of it gets class y, it answers y everywhere within $\sigma \Phi^{-1}(p)$. Here y is
    the class of the point itself, fixed before any draw, and p a lower bound of the share
    (one-sided Clopper-Pearson): the radius is 0 where p is not above a half.

    Only one copy of each pair counts, for those are independent.

    Args:
        voter: Who voted; knows the class of each point.
        rows: The points, one a task, `(n,)`.
        sigma: Their noise, `(n,)`, chosen before these draws.
        votes: The draws.
        confidence: Probability that the radius holds.

    References:
        - J. Cohen, E. Rosenfeld, J. Z. Kolter, "Certified Adversarial Robustness via Randomized
          Smoothing", ICML 2019: theorem 1 and the function CERTIFY.
    """
    own = voter.classes[torch.from_numpy(rows).to(voter.classes.device)]
    same = (votes.plus == own[votes.task]).long()
    hits = torch.bincount(votes.task, weights=same.double(), minlength=len(rows)).cpu().numpy()
    total = torch.bincount(votes.task, minlength=len(rows)).cpu().numpy()
    share, _ = exact_interval(hits, total, 1.0 - confidence)
    return np.where(share > 0.5, sigma * ndtri(np.maximum(share, 0.5)), 0.0)


def rivals(voter: Voter, rows: Integers, votes: Votes) -> tuple[Integers, Integers]:
    """Return the class that most copies of each point go over to, `(n,)`, and how many copies.

    Args:
        voter: Who voted.
        rows: The points, one a task, `(n,)`.
        votes: The draws.
    """
    own = voter.classes[torch.from_numpy(rows).to(voter.classes.device)]
    labels = torch.cat([votes.plus, votes.minus])
    task = torch.cat([votes.task, votes.task])
    other = labels != own[task]
    names, label = torch.unique(labels[other], return_inverse=True)
    rival, most = np.full(len(rows), -1), np.zeros(len(rows), dtype=np.int64)
    if len(names):
        cells = torch.bincount(task[other] * len(names) + label, minlength=len(rows) * len(names))
        counts, place = cells.view(len(rows), len(names)).max(1)
        most = counts.cpu().numpy()
        rival = np.where(most > 0, names[place].cpu().numpy(), -1)
    return rival, most
