"""Where, to a factor of two, the share that keeps its class first falls below the one asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from torch import Tensor

from levelset.boundary._sampling._probit import Draws
from levelset.boundary._sampling._votes import Task, Voter, Votes

__all__ = ["Search", "cast", "locate", "starting_sigma"]

Rows = NDArray[np.int64]
Array = NDArray[np.float64]

# A share counts as below the asked one if draws from that one would show so few this rarely.
_DOUBT = 0.02
# ... or if it is below at that many levels in a row, as where it stays just below for long.
_IN_A_ROW = 2
_LEAST_DIRECTIONS = 8
_DOWN, _UP = 4.0, 2.0
_DESCENTS = 10
# Directions more that decide at the largest sigma allowed.
_LAST_DIRECTIONS = 64


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
    log_sigma: NDArray[np.float64]
    crossed: NDArray[np.bool_]
    stable: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Rows, *, sides: int) -> "Search":
        """Return the state before any draw."""
        n = len(rows)
        draws = Draws.empty(n, sides)
        return cls(rows, draws, np.zeros(n), np.zeros(n, bool), np.zeros(n, bool))


def starting_sigma(points: Tensor, max_sigma: float) -> NDArray[np.float64]:
    """Return a small noise to begin with, `(n,)`: a sixteenth of the points' root mean square."""
    size = points.detach().flatten(1).double().square().mean(1).sqrt().cpu().numpy()
    size = np.where(size > 0, size, 1.0)
    return np.minimum(size, max_sigma) / 16.0


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


def locate(voter: Voter, rows: Rows, start: Array, gamma: float, max_sigma: float) -> Search:
    """Go up in noise from far below until the share is below `gamma` beyond doubt.

    The way is upwards because persistence is the *first* noise that unsettles the class. A point
    whose class is unsettled from the start is first followed down.

    Args:
        voter: Classifies.
        rows: Which points, `(n,)`.
        start: The noise to begin with, `(n,)`.
        gamma: The share.
        max_sigma: The largest noise to try.
    """
    sides = 2 if voter.paired else 1
    least = _LEAST_DIRECTIONS * 2 // sides
    directions = max(least, int(np.ceil(4.0 / (gamma * sides))))
    search = Search.of(rows, sides=sides)
    sigma = start.copy()
    _descend(voter, search, sigma, gamma, directions)
    going = np.flatnonzero(search.stable)
    fewer = np.zeros(len(rows), dtype=np.int64)  # levels in a row with fewer than asked for
    while len(going):
        sigma[going] = np.minimum(_UP * sigma[going], max_sigma)
        beyond_doubt, few = _below(voter, search, going, sigma, gamma, directions)
        fewer[going] = np.where(few, fewer[going] + 1, 0)
        search.crossed[going] = beyond_doubt | (fewer[going] == _IN_A_ROW)
        going = going[~search.crossed[going] & (sigma[going] < max_sigma)]
    search.log_sigma = np.log(sigma) - (np.maximum(fewer, 1) - 0.5) * np.log(_UP)
    _decide_at_end(voter, search, gamma, max_sigma)
    return search


def _descend(voter: Voter, search: Search, sigma: Array, gamma: float, directions: int) -> None:
    going = np.arange(len(sigma))
    for _ in range(_DESCENTS):
        below, _ = _below(voter, search, going, sigma, gamma, directions)
        search.stable[going] = ~below
        going = going[below]
        if not len(going):
            return
        sigma[going] /= _DOWN


def _below(
    voter: Voter, search: Search, going: Rows, sigma: Array, gamma: float, directions: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether the share is below `gamma` beyond doubt, and whether it is in these draws."""
    cast(voter, search, going, np.log(sigma[going]), np.full(len(going), directions))
    kept, total = search.draws.kept[going, -1], search.draws.total[going, -1]
    return bdtr(kept, total.astype(int), gamma) < _DOUBT, kept < gamma * total


def _decide_at_end(voter: Voter, search: Search, gamma: float, max_sigma: float) -> None:
    """See with more draws whether a point that reached the end is below the share there."""
    end = np.flatnonzero(search.stable & ~search.crossed)
    if not len(end):
        return
    directions = np.full(len(end), _LAST_DIRECTIONS)
    cast(voter, search, end, np.full(len(end), np.log(max_sigma)), directions)
    at = search.draws.log_sigma[end] == np.log(max_sigma)
    share = (search.draws.kept[end] * at).sum(1) / (search.draws.total[end] * at).sum(1)
    search.crossed[end] = share < gamma
    search.log_sigma[end] = np.log(max_sigma)
