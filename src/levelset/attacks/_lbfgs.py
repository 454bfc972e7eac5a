"""Szegedy's attack: distance plus cross-entropy, minimised in the box by L-BFGS-B."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import Objective
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem, runners_up

__all__ = ["lbfgs"]

_GROWTH = 10.0
# Weights are not raised beyond this; a row that needs more has failed.
_MOST_WEIGHT = 1e10


@attack()
def lbfgs(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    bounds: Bounds | None = None,
    steps: int = 50,
    searches: int = 10,
    first_weight: float = 1e-2,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of a target class by box-constrained L-BFGS, with a search for the weight.

    $$\min_x \; \lVert x - x_0 \rVert_2^2 + c\, \ell(f(x), t), \qquad x \in \text{box},$$

    with $\ell$ the cross-entropy to the target t. The least c whose minimum is of class t is
    searched: c grows tenfold until one is found, and the interval is then halved on a logarithmic
    scale. Always targeted; without `targets` the target is the class of the second highest logit
    (Szegedy et al. draw one). The nearest point is brought back onto the boundary at the end.

    This runs through SciPy's L-BFGS-B, which works on one point at a time; rows are looped over
    and `batch_size` bears only on the evaluations of all of them at once.

    Cost: up to `searches` times `steps` gradients, or some 20 % more, and about 10 forward passes.

    Args:
        targets: The classes to reach, `(n,)`; `None` for those of the second highest logits.
        steps: Most iterations of L-BFGS-B a weight.
        searches: Number of weights tried.
        first_weight: The first c.
        progress: Called as `progress(done, total)` after each input.

    Returns:
        The nearest points found of the targets' classes.

    References:
        - C. Szegedy et al., "Intriguing properties of neural networks", ICLR 2014: section 4.1.
        - Bell 2023, section 1.4.2.
    """
    if targets is None:
        targets = runners_up("lbfgs", model, points, labels, batch_size)
    problem = Problem("lbfgs", model, points, labels, targets, 2.0, bounds, batch_size)

    def search(rows: Tensor) -> None:
        objective = Objective(problem, "cross_entropy")
        objective.at(rows, problem.points[rows], check=True)
        for done, row in enumerate(rows):
            _search_weight(objective, row.view(1), steps, searches, first_weight)
            if progress is not None:
                progress(done + 1, len(rows))

    return least_norm(problem, search)


def _search_weight(
    objective: Objective, row: Tensor, steps: int, searches: int, first_weight: float
) -> None:
    """Bracket, then halve, the least weight with which the minimum is across, for one row."""
    problem = objective.problem
    low, high, weight = 0.0, np.inf, first_weight
    sides = [
        side.expand(problem.points[row].shape).flatten().double().cpu().numpy()
        for side in (problem.low, problem.high)
    ]
    box = list(zip(*sides, strict=True))
    for _ in range(searches):
        if weight > _MOST_WEIGHT:
            return
        seen: list[bool] = []
        start = problem.points[row].flatten().double().cpu().numpy()
        minimize(
            _loss(objective, row, weight, seen), start, jac=True, method="L-BFGS-B", bounds=box,
            options={"maxiter": steps},
        )  # fmt: skip
        if any(seen):
            high = weight
        else:
            low = weight
        weight = weight * _GROWTH if np.isinf(high) else _between(low, high)


def _loss(
    objective: Objective, row: Tensor, weight: float, seen: list[bool]
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Return the loss and its gradient as SciPy calls them; `seen` notes which were across."""
    problem = objective.problem
    start = problem.points[row]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        points = problem.clip(torch.from_numpy(flat).to(start).view_as(start))
        value, gradient, across = objective.at(row, points)
        seen.append(bool(across))
        delta = points - start
        total = delta.square().sum() - weight * value.squeeze(0)
        slope = 2.0 * delta - weight * gradient
        return float(total), slope.flatten().double().cpu().numpy()

    return loss


def _between(low: float, high: float) -> float:
    return float(np.sqrt(low * high)) if low > 0 else high / _GROWTH
