"""The curvature profile of a loss: eigenvalues of its Hessian in the input."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.checks import check_labels
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Rows, concatenate
from levelset._typing import Field, Labels, PerPoint, Points, Progress, Summary
from levelset.boundary._second_order._eigen import (
    Eigen,
    Eigensolver,
    Ends,
    check_count,
    choose_method,
    draws,
    eigen,
    kept_numbers,
)
from levelset.boundary._second_order._hessian import OWN
from levelset.boundary._second_order._parts import check_measurable, measure, points_together
from levelset.boundary._second_order._refusals import probe
from levelset.boundary._second_order._smoothing import Hessian, Part, Smoothing
from levelset.errors import FieldError

__all__ = ["LossCurvature", "loss_curvature"]


@dataclass(frozen=True, eq=False, repr=False)
class LossCurvature(Rows):
    r"""The curvature of the graph of a loss at each input.

    Attributes:
        eigenvalues: Of the Hessian in the input, descending, `(n, q)`: all d, or `count`.
            NaN, as is all else but the loss, where the model is certain to the last bit: gradient
            and Hessian are rounded to zero there.
        directions: Their directions, unit, `(n, q, *d)`, turned so that the number largest in
            size is positive; none (q = 0) if left out.
        error: Bound of the distance from each to *some* eigenvalue, `(n, q)`: 0 for the exact form.
            Not to the one of its rank, and without the noise of `GaussianSmoothing`.
        trace: Sum of all eigenvalues, `(n,)`; NaN where it was left out.
        trace_error: Its standard error, `(n,)`, of the draws and of the trace: 0 where exact.
        loss: The loss itself, `(n,)`.
        smoothing: What stood for the second derivative; `None` for the exact one.
    """

    _headline: ClassVar = ("eigenvalues", "largest", "smallest")

    eigenvalues: Tensor
    directions: Tensor
    error: Tensor
    trace: PerPoint
    trace_error: PerPoint
    loss: PerPoint
    smoothing: Smoothing | None

    def summary(self) -> Summary:
        """Return the numbers that describe the whole result, ready for JSON."""
        numbers: Summary = {"points": len(self)}
        known = self.eigenvalues[self.eigenvalues.isfinite()]
        if len(known):
            numbers["largest"] = float(known.max())
            numbers["smallest"] = float(known.min())
        return numbers


class _CrossEntropy(nn.Module):
    def __init__(self, model: Field) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each input, `(n,)`."""
        return functional.cross_entropy(self.model(points), labels, reduction="none")


@checked
def loss_curvature(
    model: Field,
    points: Points,
    labels: Labels | None = None,
    *,
    count: int | None = None,
    ends: Ends = "top",
    smoothing: Smoothing | None = None,
    method: Eigensolver | None = None,
    directions: bool = True,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> LossCurvature:
    r"""Return the eigenvalues of the Hessian of the cross-entropy in the input.

    The matrix is $\partial^2 \ell / \partial x_i \partial x_j$, x the input and not the weights.

    Small ones mean that the loss is nearly linear around the input. Of a ReLU network the exact
    Hessian is that of the softmax alone, $J^T(\mathrm{diag}(p) - pp^T)J$, of rank at most k - 1 and
    never negative; what the kinks add is seen with a `smoothing` only. Differences are taken along
    the axes themselves.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`; `None` for the model's own predictions.
        count: How many of the extreme eigenvalues; `None` for all d.
        ends: Which: the `top` (largest), the `bottom`, `both` (twice `count`), or the `extreme`
            ones, largest in size.
        smoothing: As in [`curvature`][levelset.boundary.curvature].
        method: As in `curvature`.
        directions: Whether to return directions; without them the exact form is a fifth faster,
            and the result small.
        batch_size: Most points at once; `None` for a number that fits the cache.
        generator: Of Lanczos' starts, the trace, and the noise; one stream a point.
        progress: Called as `progress(done, total)` in points.

    Returns:
        The eigenvalues, in the order, dtype and device of `points`.

    Raises:
        FieldError: If the model does not return finite logits, or its loss is not twice
            differentiable where no smoothing is given.
        ParameterError: If an option is out of range, the exact form too large for memory, or a
            shift too small for the dtype of the points.
        ShapeError: If the points have half precision.

    References:
        - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural
          networks", project report, equation 4.
        - S. Moosavi-Dezfooli et al., "Robustness via curvature regularization, and vice versa",
          CVPR 2019.
    """
    e = check_measurable("loss_curvature", points)
    check_count("loss_curvature", count, ends, e)
    own = OWN if smoothing is None else smoothing
    method = choose_method("loss_curvature", method, count, own, points)
    with frozen(model):
        model = as_logits("loss_curvature", model, points.detach())
        labels = _labels(model, points, labels, batch_size)

    def of_part(part: Part) -> LossCurvature:
        hessian = own.operator(part)
        certain = _certain(hessian, part.rows)
        pairs = eigen(hessian, None, part, count, ends, method, directions=directions)
        return _with_nan(pairs, certain, hessian.values, part.points, smoothing)

    memory = kept_numbers(method, own, e)
    parts = measure(
        "loss_curvature", _CrossEntropy(model), points, labels, of_part,
        together=points_together(model, points, batch_size, memory), draws=draws(method, own),
        generator=generator, progress=progress, tangential=False,
    )  # fmt: skip
    return concatenate([_nothing(points, count, ends, smoothing, directions=directions), *parts])


def _certain(hessian: Hessian, rows: Tensor) -> Tensor:
    """Return where gradient and Hessian are zero, `(m,)`: a loss rounded to a constant."""
    _, images = probe("loss_curvature", hessian.gradient, hessian.product, rows)
    return ~torch.cat([hessian.gradient, *images], dim=1).any(1)


def _with_nan(
    pairs: Eigen, certain: Tensor, loss: Tensor, points: Tensor, smoothing: Smoothing | None
) -> LossCurvature:
    vectors = pairs.vectors.reshape(*pairs.vectors.shape[:2], *points.shape[1:])
    parts = [pairs.values, vectors, pairs.error, pairs.trace, pairs.trace_error]
    for part in parts:
        part[certain] = torch.nan
    values, vectors, error, trace, trace_error = parts
    return LossCurvature(values, vectors, error, trace, trace_error, loss, smoothing)


def _labels(model: Field, points: Tensor, labels: Tensor | None, batch_size: int | None) -> Tensor:
    logits = Evaluator("loss_curvature", model, batch_size).outputs(points)
    if len(points) and logits.dim() != 2:
        message = (
            f"loss_curvature: `model` must return logits ({len(points)}, k), got "
            f"{tuple(logits.shape)}."
        )
        raise FieldError(message)
    if not bool(logits.isfinite().all()):
        message = "loss_curvature: `model` must return finite logits, got NaN or infinity."
        raise FieldError(message)
    if labels is None:
        return logits.argmax(1) if len(points) else points.new_zeros(0).long()
    check_labels("loss_curvature", labels, points, logits.shape[1] if len(points) else 1)
    return labels.long()


def _nothing(
    points: Tensor, count: int | None, ends: Ends, smoothing: Smoothing | None, *, directions: bool
) -> LossCurvature:
    e = points.new_zeros(1, *points.shape[1:]).numel()
    q = e if count is None else min(e, count * (2 if ends == "both" else 1))
    none, some = points.new_zeros(0), points.new_zeros(0, q)
    vectors = points.new_zeros(0, q if directions else 0, *points.shape[1:])
    return LossCurvature(some, vectors, some, none, none, none, smoothing)
