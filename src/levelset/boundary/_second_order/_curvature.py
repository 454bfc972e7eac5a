"""Principal and mean curvatures of level sets."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_level, check_positive, first_rows
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Rows, concatenate
from levelset._typing import Field, FieldLabels, PerPoint, Points, Progress, Summary
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
from levelset.boundary._second_order._refusals import (
    check_bent,
    check_gradient,
    one_equation,
    probe,
)
from levelset.boundary._second_order._smoothing import Hessian, Part, Smoothing
from levelset.errors import FieldError, LevelSetWarning

__all__ = ["Curvature", "curvature"]


@dataclass(frozen=True, eq=False, repr=False)
class Curvature(Rows):
    r"""Curvatures of the level set through each point, in 1 / (units of the points).

    The sign is that of $v^T H v$: positive where the level set bends away from the side on which
    the field grows, as a sphere does whose field is negative inside. Of a field
    $F = f_i - f_j$ that is positive in the region of class i, a ball of class i has *negative*
    curvature.

    Attributes:
        principal: Principal curvatures, descending, `(n, q)`: all d - 1, or `count`.
        directions: Their directions, unit and tangent, `(n, q, *d)`; none (q = 0) if left out.
        error: Bound of the distance from each to *some* curvature, `(n, q)`: 0 for the exact form.
            Not to the one of its rank: Lanczos may have passed over one. Nor does it hold the
            noise of `GaussianSmoothing`, which `mean_error` does.
        mean: Mean of all d - 1 principal curvatures, `(n,)`; NaN where it was left out.
        mean_error: Its standard error, `(n,)`, of the draws and of the trace: 0 where exact.
        gradient_norm: Length of the field's gradient, `(n,)`, of the smoothed field where a
            surrogate or noise was used.
        residual: Distance of the field from `level`, `(n,)`, in its units.
        smoothing: What stood for the second derivative; `None` for the exact one.
    """

    _headline: ClassVar = ("principal", "largest", "smallest", "mean")

    principal: Tensor
    directions: Tensor
    error: Tensor
    mean: PerPoint
    mean_error: PerPoint
    gradient_norm: PerPoint
    residual: PerPoint
    smoothing: Smoothing | None

    @property
    def goldman(self) -> Tensor:
        r"""Goldman's formula as printed, $(\nabla F^T H \nabla F - \mathrm{tr}(H)|\nabla F|^2) / (2|\nabla F|^3)$.

        It is $-(d - 1)/2$ times `mean`: of the other sign, and in d = 3 of the same size
        (Alonso and Bonin, Eq. 7).
        """  # noqa: E501
        size = math.prod(self.directions.shape[2:])
        return -0.5 * (size - 1) * self.mean

    def summary(self) -> Summary:
        """Return the numbers that describe the whole result, ready for JSON."""
        numbers: Summary = {"points": len(self)}
        if len(self):
            numbers["largest"] = float(self.principal.max())
            numbers["smallest"] = float(self.principal.min())
            if not bool(self.mean.isnan().any()):
                numbers["mean"] = float(self.mean.mean())
        return numbers


@checked
def curvature(
    field: Field,
    points: Points,
    *,
    labels: FieldLabels = None,
    count: int | None = None,
    ends: Ends = "top",
    smoothing: Smoothing | None = None,
    level: float | None = 0.0,
    tol: float = 1e-3,
    method: Eigensolver | None = None,
    directions: bool = True,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Curvature:
    r"""Measure the curvatures of the level set of a field at points on it.

    The principal curvatures are the eigenvalues, on the tangent space, of

    $$\frac{P\,H\,P}{|\nabla F|}, \qquad P = I - \frac{\nabla F\,\nabla F^T}{|\nabla F|^2},$$

    and their mean is $(\mathrm{tr}\,H - \nabla F^T H \nabla F/|\nabla F|^2) / ((d-1)|\nabla F|)$.
    A sphere of radius r whose field grows outwards has all of them $1/r$.

    A ReLU network has no second derivative: its Hessian is zero wherever it exists. `smoothing`
    says what stands for it, and is part of the question: results for different smoothings are
    different quantities. Without one, a level set that is flat to rounding is an error: that of a
    ReLU network, also with a sigmoid or a softmax of two classes on top, or of a linear field.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost: exact, `d` Hessian products a point (about 1.3 gradients each) and an eigensolver; by
    Lanczos, `products + mean_products` products. Differences take `d` or `2 d` gradients, noise
    `2 draws`. Memory: 7 d^2 numbers a point for the exact form, 5 d^2 without directions.

    Args:
        field: The field, one equation: `Margin`, `LogitDifference`, a shape, a network.
        points: Where, `(n, *d)`.
        labels: Passed to the field, a row a point.
        count: How many of the extreme curvatures; `None` for all d - 1.
        ends: Which: the `top` (largest), the `bottom`, `both` (twice `count`), or the `extreme`
            ones, largest in size.
        smoothing: `CentralDifference`, `ForwardDifference`, `SoftplusSurrogate`,
            `GaussianSmoothing`; `None` for the exact Hessian.
        level: The level the points are meant to lie on, in the units of the field; `None` to
            measure each on its own level, as Alonso and Bonin do at the inputs themselves.
        tol: Distance from the level that passes without a warning, in the units of the field.
        method: [`Exact`][levelset.boundary.Exact] or [`Lanczos`][levelset.boundary.Lanczos];
            `None` for the exact form where `count` is `None` or d is at most 1,024.
        directions: Whether to return directions; without them the exact form is a fifth faster,
            and the result small.
        batch_size: Most points at once; `None` for a number that fits the cache.
        generator: Of Lanczos' starts, the trace, and the noise; one stream a point.
        progress: Called as `progress(done, total)` in points.

    Returns:
        The curvatures, in the order, dtype and device of `points`.

    Raises:
        FieldError: If the gradient vanishes, the level set is flat without a smoothing, the second
            derivative is not finite, or the field is not differentiable, twice where no smoothing
            is given.
        ParameterError: If an option is out of range, the exact form too large for memory, or a
            shift too small for the dtype of the points.
        ShapeError: If the points have fewer than two numbers each, or half precision.

    Example:
        >>> import torch
        >>> from levelset.boundary import curvature
        >>> from levelset.shapes import Sphere
        >>> found = curvature(Sphere(radius=2.0), torch.tensor([[2.0, 0.0, 0.0]]))
        >>> found.principal
        tensor([[0.5000, 0.5000]])

    References:
        - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural
          networks", project report, equations 5 to 7.
        - R. Goldman, "Curvature formulas for implicit curves and surfaces", Computer Aided
          Geometric Design 22 (2005), 632-658.
        - A. Fawzi et al., "Empirical study of the topology and geometry of deep networks", CVPR
          2018.
    """
    e = check_measurable("curvature", points, least=2)
    check_positive("curvature", "tol", tol)
    if level is not None:
        check_level("curvature", level)
    check_count("curvature", count, ends, e - 1)
    own = OWN if smoothing is None else smoothing
    method = choose_method("curvature", method, count, own, points)
    residual = _residual(field, points, labels, level, tol, batch_size)

    def of_part(part: Part) -> Curvature:
        hessian = own.operator(part)
        check_gradient("curvature", hessian.gradient, part.rows)
        check = check_bent if smoothing is None else probe
        check("curvature", hessian.gradient, hessian.product, part.rows)
        unit = hessian.gradient / hessian.gradient.norm(dim=1, keepdim=True)
        pairs = eigen(hessian, unit, part, count, ends, method, directions=directions)
        return _divided(pairs, hessian, part.points, smoothing)

    memory = kept_numbers(method, own, e)
    parts = measure(
        "curvature", field, points, labels, of_part,
        together=points_together(field, points, batch_size, memory), draws=draws(method, own),
        generator=generator, progress=progress,
    )  # fmt: skip
    if not parts:
        return _nothing(points, count, ends, smoothing, directions=directions)
    return replace(concatenate(parts), residual=residual)


def _divided(
    pairs: Eigen, hessian: Hessian, points: Tensor, smoothing: Smoothing | None
) -> Curvature:
    """Return the curvatures, eigenvalues divided by the length of the gradient."""
    slope = hessian.gradient.norm(dim=1)
    length = slope.unsqueeze(1)
    parts = (hessian.gradient.shape[1] - 1) * slope
    return Curvature(
        principal=pairs.values / length,
        directions=pairs.vectors.reshape(*pairs.vectors.shape[:2], *points.shape[1:]),
        error=pairs.error / length,
        mean=pairs.trace / parts,
        mean_error=pairs.trace_error / parts,
        gradient_norm=slope,
        residual=torch.zeros_like(slope),
        smoothing=smoothing,
    )


def _residual(
    field: Field, points: Tensor, labels: Tensor | None, level: float | None, tol: float,
    batch_size: int | None,
) -> Tensor:  # fmt: skip
    """Return how far the field is from the level at each point; warn where that is too far."""
    with frozen(field):
        values = Evaluator("curvature", field, batch_size).values(points, labels)
    values = one_equation("curvature", values, points)
    bad = ~values.isfinite()
    if bad.any():
        message = (
            f"curvature: `field` must return finite values, got NaN or infinity at "
            f"{int(bad.sum())} of {len(bad)} points (first: {first_rows(bad)})."
        )
        raise FieldError(message)
    if level is None:
        return torch.zeros_like(values)
    residual = (values - level).abs()
    off = residual > tol
    if off.any():
        message = (
            f"curvature: {int(off.sum())} of {len(off)} points are off the level {level:g} by more "
            f"than {tol:g} (first: {first_rows(off)}); largest residual {float(residual.max()):.2g}"
            ". Move them onto it with `project` or `intersect`, or give `level=None` to measure "
            "each on its own level."
        )
        warnings.warn(message, LevelSetWarning, stacklevel=4)
    return residual


def _nothing(
    points: Tensor, count: int | None, ends: Ends, smoothing: Smoothing | None, *, directions: bool
) -> Curvature:
    """Return the result for no points."""
    e = points.new_zeros(1, *points.shape[1:]).numel()
    q = e - 1 if count is None else min(e - 1, count * (2 if ends == "both" else 1))
    none = points.new_zeros(0)
    return Curvature(
        principal=points.new_zeros(0, q),
        directions=points.new_zeros(0, q if directions else 0, *points.shape[1:]),
        error=points.new_zeros(0, q),
        mean=none,
        mean_error=none,
        gradient_norm=none,
        residual=none,
        smoothing=smoothing,
    )
