"""Where, to a factor of two, the share that keeps its class first falls below the one asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from torch import Tensor

from levelset.boundary._probit import Draws
from levelset.boundary._votes import Task, Voter, Votes

__all__ = ["Search", "cast", "locate", "starting_sigma"]

Rows = NDArray[np.int64]

# A share counts as below the asked one if draws from that one would show so few this rarely.
_DOUBT = 0.02
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
        largest: Largest sigma tried, `(n,)`.
    """

    rows: Rows
    draws: Draws
    log_sigma: NDArray[np.float64]
    crossed: NDArray[np.bool_]
    stable: NDArray[np.bool_]
    largest: NDArray[np.float64]


def starting_sigma(points: Tensor, max_sigma: float) -> NDArray[np.float64]:
    """Return a small noise to begin with, `(n,)`: a sixteenth of the points' root mean square."""
    size = points.detach().flatten(1).double().square().mean(1).sqrt().cpu().numpy()
    size = np.where(size > 0, size, 1.0)
    return np.minimum(size, max_sigma) / 16.0


def cast(voter: Voter, search: Search, places: Rows, log_sigma: NDArray, directions: Rows) -> Votes:
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


def locate(voter: Voter, rows: Rows, start: NDArray, gamma: float, max_sigma: float) -> Search:
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
    n = len(rows)
    sides = 2 if voter.paired else 1
    least = _LEAST_DIRECTIONS * 2 // sides
    directions = max(least, int(np.ceil(4.0 / (gamma * sides))))
    search = Search(
        rows, Draws.empty(n, sides), np.log(start), np.zeros(n, bool), np.zeros(n, bool), start
    )
    sigma = start.copy()
    _descend(voter, search, sigma, gamma, directions)
    going = np.flatnonzero(search.stable)
    while len(going):
        sigma[going] = np.minimum(_UP * sigma[going], max_sigma)
        below = _below(voter, search, going, sigma, gamma, directions)
        search.largest[going] = sigma[going]
        search.crossed[going] = below
        going = going[~below & (sigma[going] < max_sigma)]
    search.log_sigma = np.log(sigma) - 0.5 * np.log(_UP)
    _decide_at_end(voter, search, gamma, max_sigma)
    return search


def _descend(
    voter: Voter, search: Search, sigma: NDArray, gamma: float, directions: int
) -> None:
    going = np.arange(len(sigma))
    for _ in range(_DESCENTS):
        below = _below(voter, search, going, sigma, gamma, directions)
        search.stable[going] = ~below
        going = going[below]
        if not len(going):
            return
        sigma[going] /= _DOWN


def _below(
    voter: Voter, search: Search, going: Rows, sigma: NDArray, gamma: float, directions: int
) -> NDArray[np.bool_]:
    cast(voter, search, going, np.log(sigma[going]), np.full(len(going), directions))
    kept, total = search.draws.kept[going, -1], search.draws.total[going, -1]
    return np.asarray(bdtr(kept, total.astype(int), gamma) < _DOUBT)


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
