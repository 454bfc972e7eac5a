"""DeepFool: repeated projections on the nearest of the linearised boundaries."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset._tools.norms import dual, norm_of
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._polish import least_norm
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError

__all__ = ["deepfool"]

# All rivals are linearised at each step of this many, in between only the nearest. Inputs whose
# class has not changed after so many begin again, and have all linearised at all steps.
_ROUND, _BETWEEN, _PATIENCE = 4, 3, 12


@attack(2.0, math.inf)
def deepfool(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Step onto the nearest linearised boundary until the class changes.

    With $w_j = \nabla f_j - \nabla f_y$ at the present point, the step is the shortest that takes
    the linearised $f_j - f_y$ to 0, for the j for which it is shortest,

    $$j = \operatorname{argmin}_j \frac{|f_j - f_y|}{\lVert w_j \rVert_q}, \qquad
      r = \frac{|f_j - f_y|}{\lVert w_j \rVert_2^2} w_j \ (p = 2), \quad
      r = \frac{|f_j - f_y|}{\lVert w_j \rVert_1} \operatorname{sign} w_j \ (p = \infty).$$

    Each step is clipped to the box. The point tested lies beyond, $x + (1 + \eta) (x_i - x)$; with
    the overshoot on each step instead, half the images of an MNIST network approach the boundary
    without crossing it, because the box shortens every step. Rows that are across leave the batch.
    At the end the point is brought back onto the boundary, along the segment to its input, which
    the paper does not do.

    The result is not the nearest point: on adversarially trained networks it is several times
    further away. Use
    [`direct_boundary`][levelset.attacks.direct_boundary] for distances.

    All rivals are linearised at every fourth step, in between the three that were nearest then:
    half the gradients, and the same points on a plainly trained MNIST network. An input whose class
    has not changed after twelve steps begins again with all rivals at every step, as in the paper.

    Cost: two forward passes a step and about 10 more, and `candidates` gradients at the steps
    that linearise all, three at the others.

    Args:
        steps: Most steps.
        candidates: How many rivals to linearise, those of the highest logits at the input.
        overshoot: Share by which the point tested lies further from the input, $\eta$.

    Returns:
        The points where the class changed.

    References:
        - S. Moosavi-Dezfooli, A. Fawzi, P. Frossard, "DeepFool: a simple and accurate method to
          fool deep neural networks", CVPR 2016: algorithm 2 and section 2.3.
    """
    if not overshoot >= 0.0:
        message = f"deepfool: `overshoot` must be 0 or more, got {overshoot}."
        raise ParameterError(message)
    problem = Problem("deepfool", model, points, labels, None, norm, bounds, batch_size)
    search = partial(_step_across, problem, steps, candidates, overshoot, progress)
    return least_norm(problem, search)


class _Leads(nn.Module):
    """By how much the first of the chosen logits is above each of the others."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor, classes: Tensor) -> Tensor:
        """Return `(n, c)` for classes `(n, 1 + c)`."""
        logits = self.model(points).gather(1, classes)
        return logits[:, :1] - logits[:, 1:]


def _step_across(
    problem: Problem,
    steps: int,
    candidates: int,
    overshoot: float,
    progress: Progress | None,
    rows: Tensor,
) -> None:
    field = Evaluator(problem.function, _Leads(problem.model), problem.batch_size)
    own = problem.labels[rows].unsqueeze(1)
    rivals = problem.logits[rows].scatter(1, own, -torch.inf).argsort(1, descending=True)
    classes = torch.cat([own, rivals[:, : min(candidates, rivals.shape[1] - 1)]], 1)
    points, few = problem.points[rows], classes
    for step in range(steps):
        if step == _PATIENCE:
            points = problem.points[rows]
        if len(rows):
            problem.forwards[rows] += 1
            looked_at = few if step % _ROUND and step < _PATIENCE else classes
            problem.gradients[rows] += looked_at.shape[1] - 1
            leads, slopes = field.value_and_jacobian(points, looked_at)
            if step == 0 and not slopes.nan_to_num().any():
                problem.refuse_flat(rows, points)
            away = _how_far(leads, slopes, problem.norm)
            step_there = _shortest(leads, slopes, away, problem.norm).view_as(points)
            points = problem.clip(points - step_there)
            if step % _ROUND == 0:
                near = away.topk(min(_BETWEEN, away.shape[1]), largest=False).indices
                few = torch.cat([classes[:, :1], classes[:, 1:].gather(1, near)], 1)
            inputs = problem.points[rows]
            beyond = problem.clip(inputs + (1.0 + overshoot) * (points - inputs))
            margin = problem.margin(rows, beyond)
            problem.note_rounding(rows, beyond, slopes[:, 0])
            problem.offer(rows, beyond, margin)
            left = ~problem.across(rows, margin)
            rows, points, classes, few = rows[left], points[left], classes[left], few[left]
        if progress is not None:
            progress(step + 1, steps)


def _how_far(leads: Tensor, slopes: Tensor, norm: float) -> Tensor:
    """Return how far each linearised boundary is, `(m, c)`; infinity for those that are flat."""
    size = norm_of(slopes.flatten(0, 1), dual(norm)).view_as(leads)
    usable = (size > 0) & size.isfinite() & leads.isfinite()
    return torch.where(usable, leads.abs() / torch.where(usable, size, 1.0), torch.inf)


def _shortest(leads: Tensor, slopes: Tensor, away: Tensor, norm: float) -> Tensor:
    """Return the step `(m, e)` to subtract to reach the nearest of the linearised boundaries."""
    index = torch.arange(len(leads), device=leads.device)
    nearest = away.argmin(1)
    sound = away[index, nearest].isfinite()
    slope = torch.where(sound.unsqueeze(1), slopes[index, nearest], 0.0)
    lead = torch.where(sound, leads[index, nearest].abs(), 0.0)
    length = torch.where(sound, norm_of(slope, dual(norm)), 1.0)
    if math.isinf(norm):
        return column(lead / length, slope) * slope.sign()
    return column(lead / length.square(), slope) * slope
