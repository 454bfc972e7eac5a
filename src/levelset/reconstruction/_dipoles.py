"""Couplings of dipoles on a surface: how well signs of normals fit one another."""

import numpy as np
import torch

from levelset._typing import Floats, Singles

__all__ = ["SOFTENING", "couplings", "fit_into"]

ROWS = 64  # at once, so that they stay in the cache
SOFTENING = 0.5  # of the spacing: nearer than this, dipoles do not feel each other more


def couplings(places: Floats, normals: Floats, spacing: Floats) -> Singles:
    """Return the couplings of all pairs, `(n, n)`, symmetric, with zeros on the diagonal.

    Cost: `n` squared; 0.2 s and 100 MB for 5,000 dipoles.

    Args:
        places: Where the dipoles are, `(n, 3)`.
        normals: Their unit normals, `(n, 3)`.
        spacing: The side of the square that each stands for, `(n,)`.
    """
    x = torch.from_numpy(places - places.mean(0)).float()
    n = torch.from_numpy(normals).float()
    h = torch.from_numpy(spacing).float()
    area, soft, own = h * h, (SOFTENING * h) ** 2 / 2.0, (n * x).sum(1)
    result = torch.empty(len(x), len(x))
    for start in range(0, len(x), ROWS):
        # the pairs not yet seen; the others are their mirror images
        rows, rest = slice(start, start + ROWS), slice(start, None)
        square = torch.cdist(
            x[rows], x[rest], compute_mode="donot_use_mm_for_euclid_dist"
        ).square_()
        square += soft[rows, None] + soft[rest]
        along = (n[rows] @ x[rest].T - own[rows, None]) * (own[rest] - x[rows] @ n[rest].T)
        along = (n[rows] @ n[rest].T).sub_(along.mul_(3.0).div_(square))
        block = along.mul_(square.pow_(-1.5)).mul_(area[rows, None] * area[rest])
        result[rows, rest], result[rest, rows] = block, block.T
    result.fill_diagonal_(0.0)
    return result.numpy()


def fit_into(
    places: Floats, normals: Floats, others: Floats, their_normals: Floats, spacing: Floats
) -> tuple[Floats, Floats]:
    """Return how well dipoles fit into their neighbours: sum of couplings, and of their sizes.

    Args:
        places: Where the dipoles are, `(n, 3)`; their areas count as 1.
        normals: Their normals, `(n, 3)`.
        others: Where the neighbours are, `(n, k, 3)`.
        their_normals: Their unit normals, `(n, k, 3)`.
        spacing: The side of the square that each neighbour stands for, `(n, k)`.
    """
    apart = others - places[:, None]
    square = (apart**2).sum(2) + (SOFTENING * spacing) ** 2
    along = np.einsum("nj,nkj->nk", normals, apart) * (their_normals * apart).sum(2)
    value = np.einsum("nj,nkj->nk", normals, their_normals) - 3.0 * along / square
    value *= spacing**2 * square**-1.5
    return value.sum(1), np.abs(value).sum(1)
