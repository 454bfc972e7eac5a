"""From the same draws: the certified radius of the smoothed classifier, and the rival class."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from levelset.boundary._sampling._votes import Voter, Votes

__all__ = ["certified_radius", "rivals"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


def certified_radius(
    voter: Voter, rows: Rows, sigma: Array, votes: Votes, confidence: float
) -> Array:
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
    kept = (votes.plus == own[votes.task]).long()
    hits = torch.bincount(votes.task, weights=kept.double(), minlength=len(rows)).cpu().numpy()
    total = torch.bincount(votes.task, minlength=len(rows)).cpu().numpy()
    tail = betaincinv(np.maximum(hits, 1.0), total - hits + 1.0, 1.0 - confidence)
    share = np.where(hits > 0, tail, 0.0)
    return np.where(share > 0.5, sigma * ndtri(np.maximum(share, 0.5)), 0.0)


def rivals(voter: Voter, rows: Rows, votes: Votes) -> tuple[Rows, Rows]:
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
