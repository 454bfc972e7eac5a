"""The loss that keeps the boundary at a distance from the inputs, by samples of it."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from levelset._logits import margin_of
from levelset._projection import Newton, project
from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import draws_or_couples, evaluating, frozen
from levelset._tools.norms import norm_of
from levelset._typing import Bounds, Labels, Model, Points
from levelset.errors import ParameterError
from levelset.fields import Margin
from levelset.losses._climb import Climb, Starts
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._outputs import cross_entropies, logits_of
from levelset.losses._samples import Places, follow, margins, places_at

__all__ = ["robust_distance"]

Sampling = Literal["intersect", "project", "both"]


@checked
def robust_distance(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    radius_wrong: float | None = None,
    weight_right: float = 1.0,
    weight_wrong: float = 1.0,
    adversarial: float = 0.0,
    samples: Sampling = "intersect",
    steps: int = 7,
    step_size: float | None = None,
    starts: Starts | None = None,
    bounds: Bounds | None = None,
    max_iter: int = 20,
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    r"""Return by how much the boundary is nearer to the inputs than a radius.

    $$\frac1n \sum_j \lambda_j \max\bigl\{0,\; \epsilon_j - \mathrm{sign}\,F(x_j)\,
      \rho(x_j, p_j)\bigr\}, \qquad \rho(x, p) = |x_i - p_i|, \quad
      i = \mathrm{argmax}\,|D_xF(p)|,$$

    with F the margin of the label ([`Margin`][levelset.Margin]), so that sign F is +1 where the
    model is right, and $p_j$ a point of the boundary {F = 0} near $x_j$ that moves with the
    parameters ([`attach`][levelset.attach]). It is measured along the axis on which it moves
    fastest. The boundary is pushed away from inputs that are right until it is $\epsilon$ away,
    and drawn to those that are wrong, and over them.

    The point of the boundary is found in one of two ways. `intersect`: from a start in the ball of
    the radius, gradient steps climb towards the other side, and stop once they are across; then
    false position between the input and that point. An input that nothing crosses from has
    no point within reach, and no gradient. `project`: Newton's iteration from the input, which
    leaves the ball and the bounds where it likes; a point that misses the boundary rides on the
    level that it has. `both`: of the two the one with the smaller $\rho$. Inputs that are wrong and
    cannot be brought across are projected in any case.

    By itself it is for networks that classify already. From random weights it may collapse to a
    single class, which nothing crosses from: then add the cross-entropy of the inputs, and raise
    the radius from near 0. Or give `adversarial`, a weight for the cross-entropy of the points
    where the search ends, which then takes all its steps, and takes them up the cross-entropy
    (PGD): one search serves both terms, and the second has a gradient for inputs that nothing
    crosses from, too.

    The level sets are those of evaluation mode, for sample and gradient alike. BatchNorm sees the
    inputs once, in its own mode.

    Cost: up to `steps` forward and backward passes an input and three to eight forward passes for
    the crossing; or a projection (about 3 to 10 of both); then two passes that attach, and the
    backward pass through these.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: $\epsilon$ of inputs that are right, in the units of the points: the paper takes a
            little more than that to withstand, 0.4 for 0.3 on MNIST.
        radius_wrong: $\epsilon$ of those that are wrong; `None` for the same.
        weight_right: $\lambda$ of inputs that are right: 1 on MNIST, 10 on CIFAR-10 in the paper.
            Inputs whose weight is 0 are not sampled.
        weight_wrong: $\lambda$ of those that are wrong; 1 in the paper. Early in training nearly
            all are, and each takes a projection.
        adversarial: Weight of the cross-entropy where the search ends; 0 for the loss as published.
        samples: `intersect`, `project` or `both`.
        steps: Gradient steps before the crossing.
        step_size: Length of each; `None` for 2.5 times the radius over the steps.
        starts: Where the search about each input starts, `(n, *d)`; a row of NaN, or `None`, at a
            random point of the ball. `"last"`, in `train`: where it ended an epoch ago, so that
            one or two steps do.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
        max_iter: Most steps of false position, or of Newton.
        tol: Largest |F| that counts as on the boundary.
        generator: Draws the starts; `None` for torch's global generator.
        watch: Called with the [`Diagnostics`][levelset.losses.Diagnostics] of the evaluation.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If an option or a label is out of range, or points lie outside the bounds.
        ShapeError: If `starts` has another shape than the points.
        FieldError: If the model returns something else than logits, or has no gradient in the
            points.

    Example:
        >>> import torch
        >>> from levelset.losses import robust_distance
        >>> line = torch.nn.Linear(2, 1)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> _ = line.bias.data.fill_(-1.0)
        >>> points, labels = torch.tensor([[0.75, 0.0]]), torch.tensor([1])
        >>> loss = robust_distance(line, points, labels, radius=0.3, samples="project")
        >>> round(float(loss.detach()), 4)  # F = 0.5, |x - p| = 0.5 * 2 / 5 on the first axis
        0.1

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, section 3.2, Eq. 12; the
          search between an input and an attack as in section 2.3 of the supplement, where a whole
          batch takes 40 steps. Which inputs their attack starts from and how inputs that are wrong
          are sampled is left open there.
    """
    _check(radius, radius_wrong, tol, max_iter)
    for name, weight in (
        ("weight_right", weight_right), ("weight_wrong", weight_wrong),
        ("adversarial", adversarial),
    ):  # fmt: skip
        if not (math.isfinite(weight) and weight >= 0):
            message = f"robust_distance: `{name}` must be 0 or positive, got {weight}."
            raise ParameterError(message)
    points = points.detach()
    field, values = margins("robust_distance", model, points, labels)
    climb = Climb(
        "robust_distance", model, points, radius=radius, norm=math.inf, bounds=bounds,
        steps=steps, step_size=step_size, starts=starts, generator=generator,
    )  # fmt: skip
    if len(points) == 0:
        return field(points, labels).sum()
    terms = {}
    ends = heights = None
    if adversarial:
        with frozen(model):
            ends = climb.top(cross_entropies("robust_distance", model), labels, climb.start())
        logits = logits_of("robust_distance", model, ends, labels)
        terms["adversarial"] = adversarial * functional.cross_entropy(logits, labels)
        if draws_or_couples(model) is None:  # the same network as in evaluation mode
            heights = margin_of(logits.detach(), labels)
    elif samples != "project":
        ends = climb.across(field, labels, values)
    counted = torch.where(values > 0, weight_right > 0, weight_wrong > 0)
    places, rows = _sample(
        field, labels, values, counted, climb, ends, heights, samples, max_iter=max_iter, tol=tol
    )
    other = radius if radius_wrong is None else radius_wrong
    right = values[rows] > 0
    reach, weights, side = (
        torch.where(right, values.new_tensor(one), values.new_tensor(two))
        for one, two in ((radius, other), (weight_right, weight_wrong), (1.0, -1.0))
    )
    rho = _rho(points[rows], places, follow(field, places, labels[rows]))
    terms["samples"] = (weights * (reach - side * rho).clamp(min=0.0)).sum() / len(points)
    if len(rows) == 0 and len(terms) == 1:  # nothing to move, but a gradient all the same
        with evaluating(field):
            terms["samples"] = 0.0 * field(points[:1], labels[:1]).sum()
    if watch is not None:
        length = norm_of(places.points - points[rows], math.inf)
        reached = {} if ends is None else {"search": ends}
        watch(Diagnostics(terms, places.values.abs() <= tol, length, reached))
    return torch.stack(list(terms.values())).sum()


def _sample(
    field: Margin,
    labels: Tensor,
    values: Tensor,
    counted: Tensor,
    climb: Climb,
    ends: Tensor | None,
    heights: Tensor | None,
    samples: Sampling,
    *,
    max_iter: int,
    tol: float,
) -> tuple[Places, Tensor]:
    """Return a point of the boundary for some of the inputs counted, and which these are."""
    points, right = climb.points, values > 0
    crossed, on_boundary = torch.zeros_like(right), points.clone()
    if samples != "project" and ends is not None:
        crossed, on_boundary = climb.crossings(
            field, labels, values, ends, heights=heights, max_iter=max_iter, tol=tol
        )
    crossed = crossed & counted
    wanted = counted & ~(crossed | right) if samples == "intersect" else counted
    rows = wanted.nonzero().flatten()
    newton = Newton(max_iter)
    projected = project(field, points[rows], labels=labels[rows], method=newton, tol=tol).points
    evaluator = Evaluator("robust_distance", field)
    with frozen(field):
        if samples == "both":
            both = (places_at(evaluator, p, labels[rows]) for p in (on_boundary[rows], projected))
            one, other = (_rho(points[rows], places, places.points) for places in both)
            nearer = (crossed[rows] & (one <= other)).view(-1, *[1] * (points.dim() - 1))
            projected = torch.where(nearer, on_boundary[rows], projected)
        on_boundary[rows] = projected
        sampled = (crossed | wanted).nonzero().flatten()
        return places_at(evaluator, on_boundary[sampled], labels[sampled]), sampled


def _rho(points: Tensor, places: Places, moved: Tensor) -> Tensor:
    """Return the distances of samples along the axis of the largest derivative, `(n,)`.

    Args:
        points: The inputs.
        places: The samples, with their derivatives.
        moved: The same samples, as they move with the parameters.
    """
    if len(points) == 0:
        return points.new_zeros(0)
    axis = places.gradient.abs().argmax(1, keepdim=True)
    return (points - moved).flatten(1).gather(1, axis).squeeze(1).abs()


def _check(radius: float, radius_wrong: float | None, tol: float, max_iter: int) -> None:
    check_positive("robust_distance", "radius", radius)
    if radius_wrong is not None:
        check_positive("robust_distance", "radius_wrong", radius_wrong)
    check_positive("robust_distance", "tol", tol)
    check_whole("robust_distance", "max_iter", max_iter)
