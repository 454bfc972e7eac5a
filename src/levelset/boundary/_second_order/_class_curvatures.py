"""The mean curvature of the boundary with each other class, all classes at once."""

import warnings

import torch
from torch import Tensor
from torch.autograd import grad
from torch.func import jvp

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches, swift_batch
from levelset._tools.checks import check_batch_size, check_finite, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.random import Streams
from levelset._typing import Field, Logits, Points, Progress
from levelset.boundary._second_order._smoothing import (
    CentralDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
    check_smoothing,
)
from levelset.boundary._second_order._surrogate import Softened
from levelset.errors import FieldError, ShapeError

__all__ = ["Scale", "class_curvatures", "measured"]

Scale = CentralDifference | SoftplusSurrogate | GaussianSmoothing

# Numbers laid out at a time: shifted copies of points, gradients of the logits, noise.
_ELEMENTS = 4_000_000
# Share by which two ways to one second derivative may differ by rounding, in float32.
_ROUNDING = 0.01


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
    _check(points, smoothing, batch_size)
    with frozen(model):
        model = as_logits("class_curvatures", model, points.detach())
        plain = Evaluator("class_curvatures", model, batch_size).values(points)
        _check_logits(plain)
        called: Field = model
        if isinstance(smoothing, SoftplusSurrogate):
            called = Softened("class_curvatures", model, smoothing.beta)
        derivatives = _Derivatives(called, model, smoothing, batch_size)
        # Gradients of all classes, and the noise, are held for so many points.
        draws = smoothing.draws if isinstance(smoothing, GaussianSmoothing) else 1
        size = max(plain.shape[1], draws) * points[:1].numel()
        streams = Streams(generator, points) if draws > 1 and len(points) else None
        found = []
        for cut in row_batches(len(points), max(_ELEMENTS // max(size, 1), 1)):
            noise = None
            if streams is not None:
                noise = streams.normal(rows[cut], (draws, points[0].numel()))
            found.append(_means(derivatives, points[cut], plain[cut].argmax(1), noise))
            if progress is not None:
                progress(cut.stop, len(points))
    return torch.cat(found) if found else plain


class _Derivatives:
    """Gradients of all logits, and their second derivatives along given directions."""

    def __init__(
        self, called: Field, model: Field, smoothing: Scale, batch_size: int | None
    ) -> None:
        self.called, self.model, self.batch_size = called, model, batch_size
        self.evaluator = Evaluator("class_curvatures", called, batch_size)
        self.forward: bool | None = None
        self.exact = isinstance(smoothing, SoftplusSurrogate)
        self.h = getattr(smoothing, "h", getattr(smoothing, "sigma", 0.0))

    def second(self, points: Tensor, logits: Tensor, directions: Tensor) -> Tensor:
        """Return `(m, c, k)` along directions `(m, c, e)` of points `(m, *d)`."""
        m, c = directions.shape[:2]
        copies = points.repeat_interleave(c, 0)
        along = directions.reshape(copies.shape)
        if self.exact:
            size = self.batch_size or swift_batch(self.model, points)
            parts = [self._exact(copies[r], along[r]) for r in row_batches(m * c, size)]
            return torch.cat(parts).view(m, c, -1)
        ends = [self.evaluator.values(copies + sign * self.h * along) for sign in (1.0, -1.0)]
        # Each end less the middle: the sum of the ends would lose digits.
        changes = [end.view(m, c, -1) - logits.unsqueeze(1) for end in ends]
        return (changes[0] + changes[1]) / self.h**2

    def _exact(self, points: Tensor, along: Tensor) -> Tensor:
        if self.forward is None:
            ramp = torch.linspace(-1.0, 2.0, points[0].numel()).to(points).view_as(points[:1])
            self.forward = _is_forward(self.called, points[:1], ramp)
        both = _in_forward_mode if self.forward else _in_reverse_mode
        return both(self.called, points, along).to(points.dtype)


def _is_forward(field: Field, points: Tensor, along: Tensor) -> bool:
    """Return whether forward mode can be trusted, twice, with a field.

    Some operations have none, and torch's layer norm returns a wrong second derivative (2.13).
    """
    truth = _in_reverse_mode(field, points, along)
    try:
        found = _in_forward_mode(field, points, along)
    except RuntimeError:
        return False
    return bool((found - truth).abs().max() <= _ROUNDING * truth.abs().max())


def _in_forward_mode(field: Field, points: Tensor, along: Tensor) -> Tensor:
    """Return the second derivatives `(m, k)` along one direction a point, of all logits at once."""

    def first(at: Tensor) -> Tensor:
        slope: Tensor = jvp(lambda x: field(x.clone()), (at,), (along,))[1]
        return slope

    with torch.no_grad(), warnings.catch_warnings():
        # Torch compiles its own rules with it, at the first derivative in forward mode.
        warnings.filterwarnings("ignore", "`torch.jit.script` is", DeprecationWarning)
        found: Tensor = jvp(first, (points,), (along,))[1]
    return found


def _in_reverse_mode(field: Field, points: Tensor, along: Tensor) -> Tensor:
    """Return the same, a Hessian product a logit."""
    columns = []
    with torch.enable_grad():
        leaf = points.detach().clone().requires_grad_()
        for logit in field(leaf.clone()).unbind(1):  # no leaf: fields may write into their input
            (slope,) = grad(logit.sum(), leaf, create_graph=True, materialize_grads=True)
            column = torch.zeros_like(leaf)
            if slope.requires_grad:
                (column,) = grad((slope * along).sum(), leaf, retain_graph=True,
                                 materialize_grads=True)  # fmt: skip
            columns.append((column * along).flatten(1).sum(1))
    return torch.stack(columns, dim=1)


def _means(
    derivatives: _Derivatives, points: Tensor, classes: Tensor, noise: Tensor | None
) -> Tensor:
    """Return the mean curvatures `(m, k)` of the boundaries of `classes`, `(m,)`."""
    logits, jacobian = derivatives.evaluator.value_and_jacobian(points)
    _check_logits(logits)
    m, k, e = jacobian.shape
    laplacian = _laplacian(derivatives, points, logits, noise)
    rows = torch.arange(m, device=points.device)
    found = torch.full_like(logits, torch.nan)
    for j in range(k):
        slopes = jacobian[rows, classes] - jacobian[:, j]
        length = slopes.norm(dim=1)
        some = length > 0
        unit = torch.where(some.unsqueeze(1), slopes / length.unsqueeze(1), 0.0)
        bend = laplacian - derivatives.second(points, logits, unit.unsqueeze(1))[:, 0]
        mean = (bend[rows, classes] - bend[:, j]) / ((e - 1) * length)
        found[:, j] = torch.where(some & (classes != j), mean, torch.nan)
    return found


def _laplacian(
    derivatives: _Derivatives, points: Tensor, logits: Tensor, noise: Tensor | None
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
        total += derivatives.second(points, logits, directions).sum(1)
    return total if noise is None else total / count


def _check(points: Tensor, smoothing: object, batch_size: int | None) -> None:
    check_points("class_curvatures", points)
    check_finite("class_curvatures", points)
    check_batch_size("class_curvatures", batch_size)
    check_smoothing(
        "class_curvatures", smoothing, (CentralDifference, SoftplusSurrogate, GaussianSmoothing)
    )
    size = points.new_zeros(1, *points.shape[1:]).numel()
    if size < 2:
        message = f"class_curvatures: `points` must have at least two numbers each, got {size}."
        raise ShapeError(message)


def _check_logits(logits: Tensor) -> None:
    if not bool(logits.isfinite().all()):
        message = "class_curvatures: `model` must return finite logits, got NaN or infinity."
        raise FieldError(message)
