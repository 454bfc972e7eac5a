"""The first level of noise, to a step, at which the share that keeps its class is below gamma."""

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, bdtrc, ndtri

from levelset._typing import Booleans, Floats, Integers
from levelset.boundary._sampling._estimate import Policy
from levelset.boundary._sampling._probit import STEEP, Draws
from levelset.boundary._sampling._votes import Task, Voter, Votes

__all__ = ["SigmaSearch", "cast", "locate", "sharpen"]


# A level is drawn again if a share of gamma would give so few copies with at most this probability,
_DOUBT = 0.02
# or if the share is below at this many levels in a row.
_IN_A_ROW = 2
# Then 2, 4, 8, 16 times as many are drawn until the binomial test decides, below or above, at these
# levels; if it never does, the share is below if it is so by one standard error.
_AGAIN = (2, 4, 8, 16)
_BELOW, _ABOVE = 0.002, 0.01
_LEAST_DIRECTIONS = 8
_DOWN, _UP = 4.0, 2.0**0.5
# A step is halved while the probit of the share falls by more than this within it, down to a width
# in log sigma that no noise needs: in 10,000 dimensions a ball's share falls within 0.03.
_STEEP_FALL, _NARROWEST = 2.2, 1e-4
# Levels closer than this in log sigma are the same.
_SAME = 1e-6


@dataclass
class SigmaSearch:
    """A search of sigma for each of several points.

    Attributes:
        rows: Which points, `(n,)`.
        draws: All draws so far, `(n, t)`.
        log_sigma: Present estimate, `(n,)`.
        crossed: Whether the share falls below gamma somewhere, `(n,)`.
        stable: Whether it is above anywhere, `(n,)`.
        few: How many levels in a row looked below, up to the one that is beyond doubt, `(n,)`.
        unit: Width of the transition in log sigma, `(n,)`: 1, or less where it is sharp.
    """

    rows: Integers
    draws: Draws
    log_sigma: Floats
    crossed: Booleans
    stable: Booleans
    few: Integers
    unit: Floats

    @classmethod
    def of(cls, rows: Integers, *, sides: int) -> "SigmaSearch":
        """Return the state before any draw."""
        n = len(rows)
        return cls(
            rows, Draws.empty(n, sides), log_sigma=np.zeros(n), crossed=np.zeros(n, bool),
            stable=np.zeros(n, bool), few=np.zeros(n, dtype=np.int64), unit=np.ones(n),
        )  # fmt: skip

    def room(self, places: Integers, most: int) -> Integers:
        """Return how many more directions these points may draw, of `most` evaluations."""
        left = most - 1 - self.draws.total[places].sum(1)  # one was the point's own
        return np.maximum(left // self.draws.sides, 0).astype(np.int64)


def cast(
    voter: Voter, search: SigmaSearch, places: Integers, log_sigma: Floats, directions: Integers
) -> Votes:
    """Draw for the points at `places` in the search, and enter what was found."""
    drawn = np.flatnonzero(directions > 0)
    places, log_sigma, directions = places[drawn], log_sigma[drawn], directions[drawn]
    tasks = [
        Task(int(row), float(sigma), int(count))
        for row, sigma, count in zip(
            search.rows[places], np.exp(log_sigma), directions, strict=True
        )
    ]
    votes = voter.vote(tasks)
    search.draws.append(places, log_sigma, votes.counts.cpu().numpy().astype(float))
    return votes


def locate(voter: Voter, rows: Integers, policy: Policy) -> SigmaSearch:
    """Go up in noise from far below until the share is below `policy.gamma` beyond doubt.

    The way is upwards because persistence is the *first* noise that unsettles the class; a dip of
    the share that is narrower than a step may be stepped over. A point whose class is unsettled
    from the start is first followed down.

    Args:
        voter: Classifies.
        rows: Which points, `(n,)`.
        policy: What is asked; bounds the noise and the evaluations.
    """
    search = SigmaSearch.of(rows, sides=2 if voter.paired else 1)
    sigma = policy.start.copy()
    _descend(voter, search, sigma, policy)
    going = np.flatnonzero(search.stable)
    while len(going):
        sigma[going] = np.minimum(_UP * sigma[going], policy.max_sigma[going])
        kept, total = _look(voter, search, going, sigma, policy)
        few = kept < policy.gamma * total
        search.few[going] = np.where(few, search.few[going] + 1, 0)
        last = sigma[going] >= policy.max_sigma[going]
        doubtful = (bdtr(kept, total, policy.gamma) < _DOUBT) | (search.few[going] >= _IN_A_ROW)
        repeated = doubtful | (few & last)
        first = (kept[repeated], total[repeated])
        below, above = _confirm(voter, search, going[repeated], sigma, policy, first)
        search.crossed[going[repeated]] = below
        search.few[going[repeated][above]] = 0
        going = going[~search.crossed[going] & ~last & (search.room(going, policy.most) > 0)]
    search.log_sigma = np.log(sigma)
    search.log_sigma[search.crossed] -= (search.few[search.crossed] - 0.5) * np.log(_UP)
    return search


def _descend(voter: Voter, search: SigmaSearch, sigma: Floats, policy: Policy) -> None:
    going = np.arange(len(sigma))
    while len(going):
        kept, total = _look(voter, search, going, sigma, policy)
        few = kept < policy.gamma * total
        below, _ = _confirm(voter, search, going[few], sigma, policy, (kept[few], total[few]))
        search.stable[going] = True
        going = going[few][below]
        search.stable[going] = False
        room = search.room(going, policy.most) > 0
        going = going[room & (sigma[going] > policy.least[going])]
        sigma[going] /= _DOWN


def _look(
    voter: Voter,
    search: SigmaSearch,
    going: Integers,
    sigma: Floats,
    policy: Policy,
    times: int = 1,
) -> tuple[Floats, Integers]:
    """Return how many copies kept the class at one more level, or the same, and of how many."""
    sides = search.draws.sides
    least = max(_LEAST_DIRECTIONS * 2 // sides, int(np.ceil(4.0 / (policy.gamma * sides))))
    directions = np.minimum(times * least, search.room(going, policy.most))
    cast(voter, search, going, np.log(sigma[going]), directions)
    return search.draws.kept[going, -1], search.draws.total[going, -1].astype(np.int64)


def _confirm(
    voter: Voter,
    search: SigmaSearch,
    places: Integers,
    sigma: Floats,
    policy: Policy,
    first: tuple[Floats, Integers],
) -> tuple[Booleans, Booleans]:
    """Return whether the share of points that kept few copies is below beyond doubt, or above.

    Look by look, each with as many draws as all before it: those close to the share take most, and
    theirs lie where they are wanted.

    Args:
        voter: Classifies.
        search: Where the draws are entered.
        places: Which points of the search.
        sigma: The noise of each point of the search, `(n,)`.
        policy: What is asked.
        first: How many copies kept their class there so far, and of how many, `(m,)` each.
    """
    gamma = policy.gamma
    kept, total = first[0].copy(), first[1].copy()
    below, above = np.zeros(len(places), bool), np.zeros(len(places), bool)
    going = np.arange(len(places))
    for times in _AGAIN:
        if not len(going):
            return below, above
        more, count = _look(voter, search, places[going], sigma, policy, times)
        kept[going] += more
        total[going] += count
        below[going] = bdtr(kept[going], total[going], gamma) < _BELOW
        above[going] = bdtrc(kept[going] - 1, total[going], gamma) < _ABOVE
        going = going[~below[going] & ~above[going]]
    error = np.sqrt(gamma * (1.0 - gamma) * total[going])
    below[going] = kept[going] < gamma * total[going] - error
    return below, above


def sharpen(voter: Voter, search: SigmaSearch, policy: Policy) -> None:
    r"""Halve the step within which the share falls, while it falls too steeply to model.

    Where the length of the noise decides, as in a ball, the share falls within about
    $1 / \sqrt{2 d}$ of log sigma, far less than a step in high dimension. Draws on either side
    then say nothing about where it falls. Each half takes few draws, for its share is near 0 or 1.

    Args:
        voter: Classifies.
        search: As `locate` returns it; estimate and unit are set where the share falls steeply.
        policy: What is asked.
    """
    low, high = _steps(voter, search, policy)
    going = np.flatnonzero(search.crossed)
    while len(going):
        wide = high[going] - low[going]
        steep = _fall(search, going, low, high) > _STEEP_FALL
        going = going[steep & (wide > _NARROWEST) & (search.room(going, policy.most) > 0)]
        middle = 0.5 * (low + high)
        kept, total = _look(voter, search, going, np.exp(middle), policy)
        above = kept >= policy.gamma * total
        low[going[above]] = middle[going[above]]
        high[going[~above]] = middle[going[~above]]
        search.unit[going] = np.minimum(STEEP * (high - low)[going] / _STEEP_FALL, 1.0)
    search.log_sigma[search.crossed] = 0.5 * (low + high)[search.crossed]


def _steps(voter: Voter, search: SigmaSearch, policy: Policy) -> tuple[Floats, Floats]:
    """Return the ends, in log sigma, of the step within which the share of each point falls.

    That is the step up to the first level that looked below. But if it falls steeply later, that
    level may have looked below by chance, so it is looked at again.
    """
    step = np.log(_UP)
    low, high = search.log_sigma - 0.5 * step, search.log_sigma + 0.5 * step
    last = low + search.few * step
    going = np.flatnonzero(search.crossed & (search.few > 1))
    going = going[_fall(search, going, last - step, last) > _STEEP_FALL]
    first = _counts(search, going, last - step)
    _, above = _confirm(voter, search, going, np.exp(last - step), policy, first)
    low[going[above]], high[going[above]] = (last - step)[going[above]], last[going[above]]
    return low, high


def _fall(search: SigmaSearch, going: Integers, low: Floats, high: Floats) -> Floats:
    """Return by how much the probit of the share falls from one level to another, about."""
    probits = []
    for level in (low, high):
        kept, total = _counts(search, going, level)
        probits.append(ndtri((kept + 0.5) / (total + 1.0)))
    return probits[0] - probits[1]


def _counts(search: SigmaSearch, going: Integers, level: Floats) -> tuple[Floats, Integers]:
    """Return how many copies kept their class at a level, and of how many."""
    here = np.abs(search.draws.log_sigma[going] - level[going, None]) < _SAME
    kept, total = search.draws.kept[going], search.draws.total[going]
    return (here * kept).sum(1), (here * total).sum(1).astype(np.int64)
