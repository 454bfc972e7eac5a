"""Carlini and Wagner's L2 attack: distance plus a weighted margin, in a variable without a box."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from levelset._typing import Bounds, Labels, Model, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._objective import Objective
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["carlini_wagner"]

# Adam's, by its authors.
_FIRST_MEMORY, _SECOND_MEMORY, _TINY = 0.9, 0.999, 1e-8
# Inputs are taken this much nearer to the middle of the box, where tanh still has a slope: with
# the 1e-6 of the authors' code, Adam takes hundreds of steps to leave a side.
_INSIDE = 1e-3
_GROWTH = 10.0
# A row leaves a search when a tenth of its steps brought the loss down by less than this share.
_PATIENCE, _ENOUGH = 10, 1e-4


@attack()
def carlini_wagner(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    bounds: Bounds | None = None,
    steps: int = 1000,
    searches: int = 9,
    first_weight: float = 1e-3,
    step_size: float = 1e-2,
    confidence: float = 0.0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find a near point of another class by Adam, with a binary search for the weight (L2).

    $$\min_w \; \lVert x(w) - x_0 \rVert_2^2 + c \max\bigl(F(x(w)), -\kappa\bigr), \qquad
      x(w) = \tfrac12 (\tanh w + 1),$$

    with F the margin. The change of variable keeps x inside the box. The weight c of each row
    grows tenfold until a point across is found, and is then halved in on. Inputs
    start a thousandth nearer to the middle of the box, for on its sides tanh has no slope.

    The nearest point is brought back onto the boundary at the end if `confidence` is 0, which the
    paper does not do.

    Cost: up to `searches` times `steps` gradients; rows whose loss has settled leave a search.

    Args:
        bounds: Smallest and largest value of an input, finite; `None` for the classifier's own,
            or 0 to 1.
        steps: Most steps a search.
        searches: Number of weights tried.
        first_weight: The first c.
        step_size: Adam's, in the variable w.
        confidence: Least lead of the other class that counts as a success, $\kappa$, in the units
            of the logits.
        progress: Called as `progress(done, total)` after each search.

    Raises:
        ParameterError: If an option is out of range, the bounds are infinite, points lie outside
            them, or a target equals its label.
        FieldError: If the model is flat at every input.

    References:
        - N. Carlini, D. Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P
          2017: section VI.
    """
    if not confidence >= 0.0:
        message = f"carlini_wagner: `confidence` must be 0 or more, got {confidence}."
        raise ParameterError(message)
    problem = Problem("carlini_wagner", model, points, labels, targets, 2.0, bounds, batch_size)
    if not bool((problem.low.isfinite() & problem.high.isfinite()).all()):
        message = (
            "carlini_wagner: `bounds` must be finite, for the box is the range of a tanh. "
            "Give the bounds of the data, or use `ddn`."
        )
        raise ParameterError(message)
    adam = partial(_minimise, problem, steps=steps, step_size=step_size, confidence=confidence)
    search = partial(_search_weights, problem, adam, searches, first_weight, progress)
    return least_norm(problem, search, polished=confidence == 0.0)


def _search_weights(
    problem: Problem,
    minimise: Callable[..., Tensor],
    searches: int,
    first_weight: float,
    progress: Progress | None,
    rows: Tensor,
) -> None:
    """Try weights, larger where the last search found nothing, smaller where it did."""
    weight = torch.full_like(problem.distance[rows], first_weight)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for search in range(searches):
        crossed = minimise(rows, weight, check=search == 0)
        high = torch.where(crossed, weight, high)
        low = torch.where(crossed, low, weight)
        weight = torch.where(high.isfinite(), (low + high) / 2, low * _GROWTH)
        if progress is not None:
            progress(search + 1, searches)


def _minimise(
    problem: Problem,
    rows: Tensor,
    weight: Tensor,
    *,
    steps: int,
    step_size: float,
    confidence: float,
    check: bool,
) -> Tensor:
    """Run Adam from the inputs with the given weights; return which rows came across."""
    objective = Objective(problem, "margin", least=confidence)
    middle, half = (problem.high + problem.low) / 2, (problem.high - problem.low) / 2
    inputs = problem.points[rows]
    w = (((inputs - middle) / half) * (1.0 - _INSIDE)).atanh()
    first, second = torch.zeros_like(w), torch.zeros_like(w)
    crossed = torch.zeros_like(weight, dtype=torch.bool)
    reference = torch.full_like(weight, torch.inf)
    left = torch.arange(len(rows), device=rows.device)
    pause = max(steps // _PATIENCE, 1)
    for step in range(1, steps + 1):
        now, tanh = rows[left], w[left].tanh()
        points = problem.clip(middle + half * tanh)
        lead, rise, across = objective.at(now, points, check=check and step == 1)
        crossed[left] |= across
        short = lead < confidence
        loss = (points - inputs[left]).square().flatten(1).sum(1)
        loss = loss + weight[left] * torch.where(short, -lead, -confidence)
        slope = 2 * (points - inputs[left]) - column(weight[left] * short, points) * rise
        slope = slope * half * (1 - tanh.square())
        first[left] = torch.lerp(slope, first[left], _FIRST_MEMORY)
        second[left] = torch.lerp(slope.square(), second[left], _SECOND_MEMORY)
        mean = first[left] / (1 - _FIRST_MEMORY**step)
        size = (second[left] / (1 - _SECOND_MEMORY**step)).sqrt()
        w[left] -= step_size * mean / (size + _TINY)
        if step % pause == 0:
            stay = loss < reference[left] * (1 - _ENOUGH * reference[left].sign())
            stay |= reference[left].isinf()
            reference[left] = loss
            left = left[stay]
            if len(left) == 0:
                break
    return crossed
