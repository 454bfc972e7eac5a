"""The mean curvature of the boundary with each other class, from values alone."""

import torch
from torch import Tensor, nn

from levelset._tools.batches import row_batches
from levelset._tools.checks import check_batch_size, check_finite, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.random import Streams
from levelset._typing import Logits, Points, Progress
from levelset.boundary._second_order._smoothing import (
    CentralDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
)
from levelset.boundary._second_order._surrogate import Softened
from levelset.errors import FieldError

__all__ = ["Scale", "class_curvatures"]

Scale = CentralDifference | SoftplusSurrogate | GaussianSmoothing

# Step of the second differences of a softplus network, as a share of the width of its kinks.
_STEP = 0.1
# Shifted copies that are laid out at a time, in numbers.
_ELEMENTS = 4_000_000


def class_curvatures(
    model: nn.Module,
    points: Points,
    *,
    smoothing: Scale,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Logits:
    r"""Return the mean curvature of the level set of $F_{ij} = f_i - f_j$ for each other class j.

    Here i is the model's own answer, and the level set is that through the point itself, as Alonso
    and Bonin measure it. Sign and size are those of `mean` of
    [`curvature`][levelset.boundary.curvature]: Goldman's formula as printed (their Eq. 7) is
    $-(d-1)/2$ times this.

    All classes come from the same forward passes, as the trace of a Hessian is a sum of second
    differences of the values. That is another smoothing than the same name means for
    `curvature`, which differentiates gradients: `CentralDifference(h)` adds
    $(F(x + h e_k) - 2F(x) + F(x - h e_k))/h^2$ over the axes; `SoftplusSurrogate(beta)` does so for
    the surrogate with a small h; `GaussianSmoothing(sigma, draws)` is
    $2\,(E F(x + \sigma\varepsilon) - F(x))/\sigma^2$, the trace averaged over all noise up to
    sigma.

    Cost: `2 d` or `2 draws` forward passes, `k` gradients, and `2 k` forward passes a point.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        smoothing: Scale and kind of the differences.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Of the noise; one stream a point.
        progress: Called as `progress(done, total)` in points.

    Returns:
        `(n, k)`, NaN for the class the model answers.

    Raises:
        FieldError: If the model returns something else than finite logits.

    References:
        - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural
          networks", project report, section 3.2.
    """
    check_points("class_curvatures", points)
    check_finite("class_curvatures", points)
    check_batch_size("class_curvatures", batch_size)
    gaussian = isinstance(smoothing, GaussianSmoothing)
    streams = Streams(generator, points) if gaussian and len(points) else None
    with frozen(model):
        classes = Evaluator("class_curvatures", model, batch_size).values(points).argmax(1)
        called = model
        if isinstance(smoothing, SoftplusSurrogate):
            called = Softened("class_curvatures", model, smoothing.beta)  # type: ignore[assignment]
        evaluator = Evaluator("class_curvatures", called, batch_size)
        logits, jacobian = evaluator.value_and_jacobian(points)
        if not bool(logits.isfinite().all()):
            message = "class_curvatures: `model` must return finite logits, got NaN or infinity."
            raise FieldError(message)
        parts = []
        for row in range(len(points)):
            steps = _steps(points[row : row + 1], smoothing, row, streams)
            parts.append(_laplacian(evaluator, points[row], logits[row], smoothing, steps))
            if progress is not None:
                progress(row + 1, len(points))
        laplacian = torch.stack(parts) if parts else logits
        return _means(evaluator, points, classes, logits, jacobian, laplacian, smoothing)


def _steps(point: Tensor, smoothing: Scale, row: int, streams: Streams | None) -> Tensor | None:
    """Return the directions of the noise `(draws, e)`; none for the axes."""
    if not isinstance(smoothing, GaussianSmoothing):
        return None
    assert streams is not None, "noise draws"
    number = torch.tensor([row], device=point.device)
    return streams.normal(number, (smoothing.draws, point.numel()))[0]


def _width(smoothing: Scale) -> float:
    if isinstance(smoothing, GaussianSmoothing):
        return smoothing.sigma
    return smoothing.h if isinstance(smoothing, CentralDifference) else _STEP / smoothing.beta


def _laplacian(
    evaluator: Evaluator, point: Tensor, logits: Tensor, smoothing: Scale, steps: Tensor | None
) -> Tensor:
    """Return the trace of the Hessian of each logit at one point, `(k,)`."""
    h, e = _width(smoothing), point.numel()
    count = e if steps is None else len(steps)
    total = torch.zeros_like(logits)
    for rows in row_batches(count, max(_ELEMENTS // e, 1)):
        if steps is None:
            shifts = point.new_zeros(rows.stop - rows.start, e)
            shifts[:, rows.start : rows.stop].fill_diagonal_(h)
        else:
            shifts = h * steps[rows]
        shifts = shifts.view(-1, *point.shape)
        for sign in (1.0, -1.0):
            total += (evaluator.values(point + sign * shifts) - logits).sum(0)
    return total / (h * h) / (1.0 if steps is None else count)


def _means(
    evaluator: Evaluator, points: Tensor, classes: Tensor, logits: Tensor, jacobian: Tensor,
    laplacian: Tensor, smoothing: Scale,
) -> Tensor:  # fmt: skip
    n, k = logits.shape
    rows, h = torch.arange(n, device=points.device), _width(smoothing)
    slopes = jacobian[rows, classes].unsqueeze(1) - jacobian
    length = slopes.norm(dim=2)
    found = torch.full_like(logits, torch.nan)
    for j in range(k):
        some = length[:, j] > 0
        unit = torch.where(some.unsqueeze(1), slopes[:, j] / length[:, j : j + 1], 0.0)
        shift = h * unit.view_as(points)
        bent = evaluator.values(points + shift) + evaluator.values(points - shift) - 2.0 * logits
        along = (bent[rows, classes] - bent[:, j]) / (h * h)
        trace = laplacian[rows, classes] - laplacian[:, j]
        mean = (trace - along) / ((jacobian.shape[2] - 1) * length[:, j])
        found[:, j] = torch.where(some & (classes != j), mean, torch.nan)
    return found
