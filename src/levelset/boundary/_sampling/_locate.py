"""Where, to a step, the share that keeps its class first falls below the one asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc

from levelset.boundary._sampling._estimate import Policy
from levelset.boundary._sampling._probit import Draws
from levelset.boundary._sampling._votes import Task, Voter, Votes

__all__ = ["Search", "cast", "locate"]

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Array = NDArray[np.float64]

# A level is looked at again if draws of the share asked for would show so few this rarely.
_DOUBT = 0.02
# ... or if it is below at that many levels in a row, as where it stays just below for long.
_IN_A_ROW = 2
# Then so many times the draws are added, until they show the share to be below, or above, as
# rarely by chance as this; if they never do, it is below if it is so by one standard error.
_AGAIN = (2, 4, 8, 16)
_BELOW, _ABOVE = 0.002, 0.01
_LEAST_DIRECTIONS = 8
_DOWN, _UP = 4.0, 2.0**0.5


@dataclass
class Search:
    """A search of sigma for each of several points.

    Attributes:
        rows: Which points, `(n,)`.
        draws: All draws so far, `(n, t)`.
        log_sigma: Present estimate, `(n,)`.
        crossed: Whether the share falls below the one asked for somewhere, `(n,)`.
        stable: Whether it is above anywhere, `(n,)`.
    """

    rows: Rows
    draws: Draws
    log_sigma: Array
    crossed: Mask
    stable: Mask

    @classmethod
    def of(cls, rows: Rows, *, sides: int) -> "Search":
        """Return the state before any draw."""
        n = len(rows)
        draws = Draws.empty(n, sides)
        return cls(rows, draws, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool))

    def room(self, places: Rows, most: int) -> Rows:
        """Return how many more directions these points may draw, of `most` evaluations."""
        left = most - 1 - self.draws.total[places].sum(1)  # one was the point's own
        return np.maximum(left // self.draws.sides, 0).astype(np.int64)


def cast(voter: Voter, search: Search, places: Rows, log_sigma: Array, directions: Rows) -> Votes:
    """Draw for the points at `places` in the search, and enter what was found."""
    held = np.flatnonzero(directions > 0)
    places, log_sigma, directions = places[held], log_sigma[held], directions[held]
    tasks = [
        Task(int(row), float(sigma), int(count))
        for row, sigma, count in zip(
            search.rows[places], np.exp(log_sigma), directions, strict=True
        )
    ]
    votes = voter.vote(tasks)
    search.draws.append(places, log_sigma, votes.counts.cpu().numpy().astype(float))
    return votes


def locate(voter: Voter, rows: Rows, policy: Policy) -> Search:
    """Go up in noise from far below until the share is below `policy.gamma` beyond doubt.

    The way is upwards because persistence is the *first* noise that unsettles the class; a dip of
    the share that is narrower than a step may be stepped over. A point whose class is unsettled
    from the start is first followed down.

    Args:
        voter: Classifies.
        rows: Which points, `(n,)`.
        policy: What is asked; bounds the noise and the evaluations.
    """
    search = Search.of(rows, sides=2 if voter.paired else 1)
    sigma = policy.start.copy()
    _descend(voter, search, sigma, policy)
    going = np.flatnonzero(search.stable)
    fewer = np.zeros(len(rows), dtype=np.int64)  # levels in a row with fewer than asked for
    while len(going):
        sigma[going] = np.minimum(_UP * sigma[going], policy.max_sigma[going])
        kept, total = _look(voter, search, going, sigma, policy)
        few = kept < policy.gamma * total
        fewer[going] = np.where(few, fewer[going] + 1, 0)
        last = sigma[going] >= policy.max_sigma[going]
        doubtful = (bdtr(kept, total, policy.gamma) < _DOUBT) | (fewer[going] >= _IN_A_ROW)
        asked = doubtful | (few & last)
        below, above = _confirm(voter, search, going[asked], sigma, policy, kept[asked])
        search.crossed[going[asked]] = below
        fewer[going[asked][above]] = 0
        going = going[~search.crossed[going] & ~last & (search.room(going, policy.most) > 0)]
    search.log_sigma = np.log(sigma)
    search.log_sigma[search.crossed] -= (fewer[search.crossed] - 0.5) * np.log(_UP)
    return search


def _descend(voter: Voter, search: Search, sigma: Array, policy: Policy) -> None:
    going = np.arange(len(sigma))
    while len(going):
        kept, total = _look(voter, search, going, sigma, policy)
        few = kept < policy.gamma * total
        below, _ = _confirm(voter, search, going[few], sigma, policy, kept[few])
        search.stable[going] = True
        going = going[few][below]
        search.stable[going] = False
        room = search.room(going, policy.most) > 0
        going = going[room & (sigma[going] > policy.least[going])]
        sigma[going] /= _DOWN


def _look(
    voter: Voter, search: Search, going: Rows, sigma: Array, policy: Policy, times: int = 1
) -> tuple[Array, NDArray[np.int64]]:
    """Return how many copies kept the class at one more level, or the same, and of how many."""
    sides = search.draws.sides
    least = max(_LEAST_DIRECTIONS * 2 // sides, int(np.ceil(4.0 / (policy.gamma * sides))))
    directions = np.minimum(times * least, search.room(going, policy.most))
    cast(voter, search, going, np.log(sigma[going]), directions)
    return search.draws.kept[going, -1], search.draws.total[going, -1].astype(np.int64)


def _confirm(
    voter: Voter, search: Search, places: Rows, sigma: Array, policy: Policy, kept: Array
) -> tuple[Mask, Mask]:
    """Return whether the share of points that kept so few copies is below beyond doubt, or above.

    Look by look, each with as many draws as all before it: those close to the share take most, and
    theirs lie where they are wanted.
    """
    gamma = policy.gamma
    kept, total = kept.copy(), search.draws.total[places, -1].astype(np.int64)
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
