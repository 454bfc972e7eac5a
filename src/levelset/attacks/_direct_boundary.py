"""Straight for the decision boundary: project on each rival, then walk along the boundary."""

import math

import torch
from torch import Tensor, nn

from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, dual, norm_of
from levelset._typing import Labels, Points, Progress
from levelset.attacks._attack import Attack
from levelset.attacks._polish import polish
from levelset.attacks._problem import Bounds, Problem
from levelset.errors import ParameterError

__all__ = ["direct_boundary"]

# Of the rivals, only those that the linearised model puts nearest are tried one by one.
_RIVALS = 3
_NEWTON_STEPS = 4
# A step on the sphere starts at this share of its radius and ends at that one (cosine between).
_FIRST_STEP, _LAST_STEP = 1.0, 0.05
_FIRST_RATE, _LAST_RATE = 0.1, 0.02
_OVERSHOOT = 1.02


def direct_boundary(
    model: nn.Module,
    points: Points,
    labels: Labels | None = None,
    *,
    norm: float = 2.0,
    bounds: Bounds | None = None,
    steps: int = 50,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find the nearest point of another class by working on the decision boundary itself.

    Three parts. *Project*: the model is linearised at the input; on the boundaries with the
    rivals that this puts nearest, `f_label - f_rival = 0`, Newton steps of least norm are taken,
    inside the box. *Walk*: from there the point moves on a sphere about the input, each step
    along the normalised gradient of the margin; the sphere shrinks whenever the point is on the
    other side and grows whenever it is not, so that the point slides along the boundary towards
    the input, in ever smaller steps. *Polish*: the segment from the input to the best point is
    intersected with the boundary, to the resolution of the dtype.

    For an affine model whose nearest boundary lies inside the box the answer is exact after the
    first part. Otherwise the distance is an upper bound: its witness is the returned point.

    Cost: one derivative of all `k` logits, about `12 + steps` gradients and 10 forward passes an
    input.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        norm: 2 or infinity.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or
            0 to 1.
        steps: Of the walk.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` after each step of the walk.

    Returns:
        The nearest points found of another class.

    Example:
        >>> import torch
        >>> from levelset.attacks import direct_boundary
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> _ = model.bias.data.zero_()
        >>> direct_boundary(model, torch.tensor([[0.8, 0.2]])).distance
        tensor([0.4243])

    References:
        - Atzmon et al. 2019, reply: attacks aimed at the decision boundary ("ddb").
        - S. Moosavi-Dezfooli et al., "DeepFool", CVPR 2016: the projections on each rival.
        - J. Rony et al., "Decoupling Direction and Norm", CVPR 2019: a sphere that shrinks and
          grows. There along the cross-entropy and for L2; here along the margin, in any of the
          norms, with shrinking steps.
    """
    norm = check_norm("direct_boundary", norm)
    if steps < 0:
        message = f"direct_boundary: `steps` must be 0 or more, got {steps}."
        raise ParameterError(message)
    with frozen(model):
        problem = Problem(
            "direct_boundary",
            model,
            points,
            labels,
            norm=norm,
            bounds=bounds,
            batch_size=batch_size,
        )
        rows = problem.open()
        if len(rows):
            here = _project(problem, rows)
            _walk(problem, rows, here, steps, progress)
            polish(problem, rows)
        return problem.result()


def _project(problem: Problem, rows: Tensor) -> Tensor:
    """Take Newton steps of least norm towards the nearest rivals, one rival at a time.

    Returns the best witness of each row, or where there is none, where the steps led.
    """
    for rivals in _nearest_rivals(problem, rows):
        here = problem.points[rows].clone()
        left = torch.arange(len(rows), device=rows.device)
        for _ in range(_NEWTON_STEPS):
            value, gradient = problem.difference_and_gradient(rows[left], here[left], rivals[left])
            here[left] = problem.clip(
                here[left] - _OVERSHOOT * _shortest(gradient, value, problem.norm)
            )
            crossed = problem.margin(rows[left], here[left]) < 0
            problem.offer(rows[left], here[left], crossed)
            left = left[~crossed]
            if len(left) == 0:
                break
    found = problem.distance[rows].isfinite().view(-1, *[1] * (here.dim() - 1))
    return torch.where(found, problem.best[rows], here)


def _nearest_rivals(problem: Problem, rows: Tensor) -> list[Tensor]:
    """Return, nearest first, the rivals of each row by the linearised distance."""
    logits, jacobian = problem.logits_and_jacobian(rows)
    own = problem.labels[rows]
    index = torch.arange(len(rows), device=rows.device)
    gap = logits[index, own].unsqueeze(1) - logits
    slope = (jacobian[index, own].unsqueeze(1) - jacobian).flatten(0, 1)
    slope = norm_of(slope, dual(problem.norm)).view_as(gap)
    far = torch.where(slope > 0, gap / torch.where(slope > 0, slope, 1.0), torch.inf)
    far[index, own] = torch.inf
    order = far.argsort(1)
    return list(order[:, : min(_RIVALS, logits.shape[1] - 1)].T)


def _shortest(gradient: Tensor, value: Tensor, norm: float) -> Tensor:
    """Return the step of least norm that takes a linear function from `value` to 0."""
    shape = (-1, *[1] * (gradient.dim() - 1))
    if math.isinf(norm):
        size = gradient.flatten(1).abs().sum(1)
        direction = gradient.sign()
    else:
        size = gradient.flatten(1).square().sum(1)
        direction = gradient
    factor = torch.where(size > 0, value / torch.where(size > 0, size, 1.0), 0.0)
    return factor.view(shape) * direction


def _walk(
    problem: Problem, rows: Tensor, here: Tensor, steps: int, progress: Progress | None
) -> None:
    """Slide along the boundary towards the input, on a sphere that shrinks and grows."""
    start = problem.points[rows]
    shape = (-1, *[1] * (start.dim() - 1))
    radius = norm_of(here - start, problem.norm)
    for step in range(steps):
        value, gradient = problem.margin_and_gradient(rows, here)
        lengths = norm_of(here - start, problem.norm)
        reached = value < 0
        problem.offer(rows, here, reached)
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        rate = _LAST_RATE + (_FIRST_RATE - _LAST_RATE) * cosine
        share = _LAST_STEP + (_FIRST_STEP - _LAST_STEP) * cosine
        shrunk = torch.minimum(lengths, radius) * (1.0 - rate)
        radius = torch.where(reached, shrunk, radius * (1.0 + rate))
        move = _unit(gradient, problem.norm) * (share * radius).view(shape)
        here = problem.clip(start + _onto_ball(here - start - move, radius, problem.norm))
        if progress is not None:
            progress(step + 1, steps)


def _unit(gradient: Tensor, norm: float) -> Tensor:
    """Return the direction of steepest ascent of norm 1; zero where there is none."""
    if math.isinf(norm):
        return gradient.sign()
    length = norm_of(gradient, norm).view(-1, *[1] * (gradient.dim() - 1))
    return gradient / torch.where(length > 0, length, 1.0)


def _onto_ball(delta: Tensor, radius: Tensor, norm: float) -> Tensor:
    """Return perturbations brought to the given norm: scaled for L2, cut for L-infinity."""
    size = radius.view(-1, *[1] * (delta.dim() - 1))
    if math.isinf(norm):
        return torch.minimum(torch.maximum(delta, -size), size)
    length = norm_of(delta, norm).view_as(size)
    return delta * (size / torch.where(length > 0, length, 1.0))
