"""The mean curvature of the boundary with each other class, all classes at once."""

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._typing import Field, Logits, Points, Progress
from levelset.boundary._second_order._parts import check_measurable, measure
from levelset.boundary._second_order._smoothing import Part, Scale, SecondDerivatives
from levelset.errors import FieldError

__all__ = ["class_curvatures", "measured"]

# Numbers laid out at a time: shifted copies of points, gradients of the logits, noise.
_ELEMENTS = 4_000_000


@checked
def class_curvatures(
    model: Field,
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

    All classes come from the same passes, as the trace of a Hessian is a sum of second derivatives
    along the axes, taken of all logits at once. `SoftplusSurrogate(beta)` takes those of the
    surrogate, max-pools held at their winners: the result is `mean` of `curvature` with the same
    smoothing. The two others mean something else here than there, where gradients are
    differenced: `CentralDifference(h)` adds $(F(x + h e_k) - 2F(x) + F(x - h e_k))/h^2$ over the
    axes; `GaussianSmoothing(sigma, draws)` is $2\,(E F(x + \sigma\varepsilon) - F(x))/\sigma^2$,
    the trace averaged over all noise up to sigma. Both see the winners of a max-pool change,
    which adds up to 1/h where pixels tie, as those of an even background do.

    Cost: `2 d` or `2 draws` forward passes, `k` gradients, and `2 k` forward passes a point; of a
    surrogate `k` gradients and `d + k` second derivatives, about 6 of its forward passes each (all
    `k` logits in forward mode; where torch has none for an operation, `2 k` backward passes each).

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        smoothing: Scale and kind of the second derivative.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Of the noise; one stream a point.
        progress: Called as `progress(done, total)` in points.

    Returns:
        `(n, k)`, NaN for the class the model answers.

    Raises:
        FieldError: If the model returns something else than finite logits of two classes or more.
        ParameterError: If `smoothing` is none of the three.
        ShapeError: If the points have fewer than two numbers each.

    References:
        - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural
          networks", project report, section 3.2.
    """
    rows = torch.arange(len(points))
    return measured(model, points, smoothing, batch_size, generator, rows, progress)


def measured(
    model: Field, points: Tensor, smoothing: Scale, batch_size: int | None,
    generator: torch.Generator | None, rows: Tensor, progress: Progress | None = None,
) -> Tensor:  # fmt: skip
    """Return the class curvatures, with noise from the streams `rows`, `(n,)`."""
    e = check_measurable("class_curvatures", points, least=2, half=True)
    with frozen(model):
        model = as_logits("class_curvatures", model, points.detach())
        plain = Evaluator("class_curvatures", model, batch_size).values(points)
        _check_logits(plain)
    derivatives = smoothing.second_derivatives("class_curvatures", model, batch_size)
    # Gradients of all classes, and the noise, are held for so many points.
    together = max(_ELEMENTS // (max(plain.shape[1], smoothing.draws, 1) * e), 1)

    def of_part(part: Part) -> Tensor:
        assert part.labels is not None, "the classes that the model answers"
        noise = None
        if part.streams is not None:
            noise = part.streams.normal(part.rows, (smoothing.draws, e))
        return _means(derivatives, part.points, part.labels, noise)

    parts = measure(
        "class_curvatures", model, points, plain.argmax(1), of_part,
        together=together, draws=smoothing.draws > 0, generator=generator, progress=progress,
        rows=rows,
    )  # fmt: skip
    return torch.cat(parts) if parts else plain


def _means(
    derivatives: SecondDerivatives, points: Tensor, classes: Tensor, noise: Tensor | None
) -> Tensor:
    """Return the mean curvatures `(m, k)` of the boundaries of `classes`, `(m,)`."""
    logits, jacobian = derivatives.evaluator.value_and_jacobian(points)
    _check_logits(logits)
    m, k, e = jacobian.shape
    laplacian = _laplacian(derivatives, points, logits, noise)
    rows = torch.arange(m, device=points.device)
    means = torch.full_like(logits, torch.nan)
    for j in range(k):
        slopes = jacobian[rows, classes] - jacobian[:, j]
        length = slopes.norm(dim=1)
        some = length > 0
        unit = torch.where(some.unsqueeze(1), slopes / length.unsqueeze(1), 0.0)
        tangential = laplacian - derivatives.along(points, logits, unit.unsqueeze(1))[:, 0]
        mean = (tangential[rows, classes] - tangential[:, j]) / ((e - 1) * length)
        means[:, j] = torch.where(some & (classes != j), mean, torch.nan)
    return means


def _laplacian(
    derivatives: SecondDerivatives, points: Tensor, logits: Tensor, noise: Tensor | None
) -> Tensor:
    """Return the trace of the Hessian of each logit `(m, k)`, over the axes or over noise."""
    m, e = points.flatten(1).shape
    count = e if noise is None else noise.shape[1]
    total = torch.zeros_like(logits)
    for cut in row_batches(count, max(_ELEMENTS // (m * e), 1)):
        if noise is None:
            axes = points.new_zeros(cut.stop - cut.start, e)
            axes[:, cut].fill_diagonal_(1.0)
            directions = axes.expand(m, *axes.shape)
        else:
            directions = noise[:, cut]
        total += derivatives.along(points, logits, directions).sum(1)
    return total if noise is None else total / count


def _check_logits(logits: Tensor) -> None:
    if not bool(logits.isfinite().all()):
        message = "class_curvatures: `model` must return finite logits, got NaN or infinity."
        raise FieldError(message)
