"""Straight for the decision boundary: onto it by projection, then along it by averaged planes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress
from levelset.attacks._search._attack import Attack
from levelset.attacks._search._ball import column
from levelset.attacks._search._cutting_planes import refine, start_over
from levelset.attacks._search._declaration import attack
from levelset.attacks._search._polish import least_norm, polish
from levelset.attacks._search._problem import Problem
from levelset.attacks._search._walk import AveragedPlane, linearise, walk
from levelset.errors import ParameterError, ShapeError

__all__ = ["direct_boundary"]

# Share of the way to the projection that the first steps go: wide where the linearisation at the
# input still means something at its own projection, careful where it does not. More than 1 is
# over-relaxation, which explores; L-infinity needs none, its steps move every entry.
_WIDE, _WIDE_INF, _CAREFUL = 1.2, 0.8, 0.4
# Cosine between the gradients at the two that tells them apart: 0.2 to 0.6 on an MNIST network
# trained plainly, below 0.1 on two trained against attacks.
_ALIKE = 0.13
_OVERSHOOT = 0.02
# A row counts as affine up to its projection if the linearisation is right there to this share.
_AFFINE = 1e-3
# Most rivals that are projected on where the model is affine: those of the highest logits.
_MOST_RIVALS = 64
# Of the steps, the share that scouting may take, and most steps to scout one rival.
_SCOUTING, _MOST_SCOUTING = 0.45, 24
# First share of the way when a scouted walk is resumed, relative to that of the scouting, which
# has done most of the exploring; and most for the walk that is started anew.
_RESUMED, _STEADY = 0.6, 0.6
# Three different walks find more than one that is longer than this.
_LONG = 150
# Most projections on several planes that decide whether the boundary is made of few.
_PROBE = 6
# Further walks for inputs for which nothing was found.
_ATTEMPTS = 3


@attack(2.0, math.inf, 1.0)
def direct_boundary(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    targets: Labels | None = None,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    steps: int = 95,
    rivals: int = 3,
    starts: Points | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Attack:
    r"""Find the nearest point of another class by working on the decision boundary itself.

    *Walk*: at each step the margin is linearised at the present point, the plane is averaged with
    those before, the **input** is projected on the average inside the box, and the point moves a
    share of the way there. The share falls along a cosine, so that the walk explores first and
    settles at a point that is the projection of the input on the boundary as its neighbourhood
    averages it; single planes of a ReLU network mislead, and full steps onto them cycle.
    *Scout*: which class lies nearest is not known from the input. So short walks try the
    boundaries with the rivals of the highest logits, `f_label - f_rival = 0`, and the nearest is
    walked on from there; where there are many steps, two other walks follow. But where the
    boundary proves to be made of few planes (L2), projections on several planes at once start
    over in many places instead: on 1-nearest-neighbour fields they end at the exact answer for
    99 % of the inputs. *Polish*: the segment from the input to the best point is intersected with
    the boundary, to the resolution of the dtype.

    How boldly to start is decided for each input by one look ahead, whether the gradient at its
    projection resembles that at the input. Where the look shows an affine model, each rival is
    projected on (the 64 of the highest logits): for an affine model whose nearest boundary lies
    inside the box the answer is exact. Otherwise the distance is an upper bound; its witness is
    the returned point.

    Cost: `steps` gradients and about `steps` + 10 forward passes an input.

    Args:
        targets: The classes to reach, `(n,)`; `None` for any other than the label. A target
            leaves no rivals to scout.
        steps: Gradients an input, at least 4; up to four times as many for inputs that they find
            nothing for. 26 with no `rivals` for a quick answer, 95 with 3
            for a good one, 400 with 5 for nearly the best one.
        rivals: How many rivals to scout; 0 to walk once, towards whichever logit is highest.
        starts: Points of another class, `(n, *d)`, that something else came across, where the
            input itself has no gradient: the walk begins where the segment to them crosses the
            boundary, and looks for no rivals. `None` to begin at the inputs.

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
        - F. Croce, M. Hein, "Minimally distorted adversarial examples with a fast adaptive
          boundary attack", ICML 2020: the projection of the input inside the box, in each norm.
        - C. Lemarechal, "Nondifferentiable optimization", 1989: averages of linearisations
          ("aggregate planes"), from bundle methods.
        - J. E. Kelley, "The cutting-plane method for solving convex programs", J. SIAM 8 (1960):
          the planes kept where the boundary is made of few.
    """
    if steps < 4:
        message = f"direct_boundary: `steps` must be 4 or more, got {steps}."
        raise ParameterError(message)
    if rivals < 0:
        message = f"direct_boundary: `rivals` must be 0 or more, got {rivals}."
        raise ParameterError(message)
    if starts is not None and starts.shape != points.shape:
        message = (
            f"direct_boundary: `starts` must have the shape of `points` {tuple(points.shape)}, "
            f"got {tuple(starts.shape)}."
        )
        raise ShapeError(message)
    problem = Problem("direct_boundary", model, points, labels, targets, norm, bounds, batch_size)
    report = _counter(progress, steps)
    if starts is not None:
        _walk_back(problem, problem.open(), starts.detach().to(problem.points), steps, report)
        return problem.result()

    def search(rows: Tensor) -> None:
        stride, plane = _look_ahead(problem, rows)
        report()
        report()
        if rivals == 0 or targets is not None:
            inputs = problem.points[rows]
            walk(problem, rows, inputs, plane, stride, steps - 2, step_done=report)
        else:
            scouts = _by_logit(problem, rows)[:rivals]
            _scout_and_settle(problem, rows, stride, scouts, steps - 2, report)
        _try_again(problem, rows, steps - 2)

    return least_norm(problem, search)


def _walk_back(
    problem: Problem, rows: Tensor, starts: Tensor, steps: int, report: Callable[[], None]
) -> None:
    """Walk along the boundary from where it crosses the segments to the starts.

    A row whose start is not across is left alone.
    """
    problem.offer(rows, starts[rows], problem.margin(rows, starts[rows]))
    polish(problem, rows)
    rows = rows[problem.distance[rows].isfinite()]
    if len(rows) == 0:
        return
    points = problem.best[rows]
    plane = AveragedPlane(points, problem.norm)
    plane.add(points, *linearise(problem, rows, points, None))
    report()
    stride = torch.full_like(problem.distance[rows], _STEADY)
    walk(problem, rows, points, plane, stride, steps - 1, step_done=report)
    polish(problem, rows)


def _look_ahead(problem: Problem, rows: Tensor) -> tuple[Tensor, AveragedPlane]:
    """Return how boldly to start, `(m,)`, and the linearisation at the inputs.

    Two gradients: at the inputs, and at their projections on the boundary with the rival of the
    highest logit.
    """
    inputs = problem.points[rows]
    rivals = _by_logit(problem, rows)[0] if problem.targets is None else None
    plane = AveragedPlane(inputs, problem.norm)
    value, gradient = linearise(problem, rows, inputs, rivals)
    if not gradient.nan_to_num().any():
        problem.refuse_flat(rows, inputs)
    plane.add(inputs, value, gradient)
    there = plane.project(problem, inputs, _OVERSHOOT * plane.distance(inputs))
    actual, steep = linearise(problem, rows, there, rivals)
    predicted = value + (gradient * (there - inputs)).flatten(1).sum(1)
    affine = (actual - predicted).abs() <= _AFFINE * value.abs() + problem.rounding[rows]
    if problem.targets is None and affine.any():
        _try_all_rivals(problem, rows[affine])
    cosine = torch.cosine_similarity(gradient.flatten(1), steep.flatten(1), dim=1)
    stride = torch.full_like(value, _CAREFUL)
    stride[cosine > _ALIKE] = _wide(problem)
    return stride, plane


def _wide(problem: Problem) -> float:
    return _WIDE_INF if math.isinf(problem.norm) else _WIDE


def _by_logit(problem: Problem, rows: Tensor) -> list[Tensor]:
    """Return the rivals of each row, the one of the highest logit at the input first."""
    own = problem.labels[rows].unsqueeze(1)
    order = problem.logits[rows].scatter(1, own, -torch.inf).argsort(1, descending=True)
    return list(order[:, :-1].T)


def _try_all_rivals(problem: Problem, rows: Tensor) -> None:
    """Project on the boundary with each rival, for rows on which the model is affine.

    There the nearest rival need not be the one of the highest logit.
    """
    inputs = problem.points[rows]
    for rivals in _by_logit(problem, rows)[:_MOST_RIVALS]:
        plane = AveragedPlane(inputs, problem.norm)
        plane.add(inputs, *linearise(problem, rows, inputs, rivals))
        there = plane.project(problem, inputs, _OVERSHOOT * plane.distance(inputs))
        problem.offer(rows, there, problem.margin(rows, there))
    # Now, for the walks compare points before these are polished.
    polish(problem, rows)


def _scout_and_settle(
    problem: Problem,
    rows: Tensor,
    stride: Tensor,
    scouts: list[Tensor],
    steps: int,
    report: Callable[[], None],
) -> None:
    """Walk a little way to each rival, then resume the nearest of these walks.

    Where there are many steps, they are shared with other walks, which end in other minima.
    """
    short = min(max(int(_SCOUTING * steps / len(scouts)), 1), _MOST_SCOUTING)
    nearest, points, plane = _set_out(problem, rows, stride, scouts[0], short, report)
    rivals = scouts[0]
    for other in scouts[1:]:
        length, there, its_plane = _set_out(problem, rows, stride, other, short, report)
        nearer = length < nearest
        nearest, rivals = torch.minimum(nearest, length), torch.where(nearer, other, rivals)
        points = torch.where(column(nearer, points), there, points)
        plane.take(nearer, its_plane)
    left = max(steps - short * len(scouts), 0)
    share = left // 3 if left > _LONG else 0
    walk(
        problem, rows, points, plane, _RESUMED * stride, left - 2 * share, rivals=rivals,
        step_done=report,
    )  # fmt: skip
    if share:
        _look_elsewhere(problem, rows, stride, rivals, share, report)


def _look_elsewhere(
    problem: Problem,
    rows: Tensor,
    stride: Tensor,
    rivals: Tensor,
    share: int,
    report: Callable[[], None],
) -> None:
    """Spend twice `share` steps on other minima than the one found.

    Two walks: one from the input to the same rival, more steadily, and one to whichever logit is
    highest. But rows whose boundary turns out to be made of few planes, L2, start over in other
    places, each time until the nearest point on those planes is reached.
    """
    if problem.norm == 2.0 and problem.targets is None:
        met = problem.distance[rows].isfinite()
        flat = met.clone()
        points = problem.best[rows[met]]
        flat[met] = refine(problem, rows[met], points, problem.classes(rows[met], points), _PROBE)
        order = torch.stack(_by_logit(problem, rows[flat]))
        start_over(problem, rows[flat], order, 2 * share - _PROBE)
        rows, stride, rivals = rows[~flat], stride[~flat], rivals[~flat]
        share -= _PROBE // 2
    if len(rows):
        _set_out(problem, rows, stride.clamp(max=_STEADY), rivals, share, report)
        _set_out(problem, rows, stride, None, share, report)


def _set_out(
    problem: Problem,
    rows: Tensor,
    stride: Tensor,
    rivals: Tensor | None,
    steps: int,
    report: Callable[[], None],
) -> tuple[Tensor, Tensor, AveragedPlane]:
    """Walk from the inputs to the boundary with a rival, or with all.

    Returns the distances of the nearest points across, where the walk ended, and the averaged
    plane there.
    """
    inputs = problem.points[rows]
    plane = AveragedPlane(inputs, problem.norm)
    plane.add(inputs, *linearise(problem, rows, inputs, rivals))
    report()
    nearest, points = walk(
        problem, rows, inputs, plane, stride, steps - 1, rivals=rivals, step_done=report
    )
    return nearest, points, plane


def _try_again(problem: Problem, rows: Tensor, steps: int) -> None:
    """Walk boldly towards one rival after another, for the few rows that met no point across."""
    for attempt in range(_ATTEMPTS):
        left = rows[problem.distance[rows].isinf()]
        if len(left) == 0:
            return
        rivals = None
        if problem.targets is None:
            order = _by_logit(problem, left)
            rivals = order[attempt % len(order)]
        stride = torch.full_like(problem.distance[left], _wide(problem))
        _set_out(problem, left, stride, rivals, steps, lambda: None)


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    """Return a function that reports one more step of `total`."""
    done = 0

    def step_done() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(done, total), total)

    return step_done
