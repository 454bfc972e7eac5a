"""Curvature along given directions."""

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, first_rows
from levelset._typing import Field, FieldLabels, PerPoint, Points
from levelset.boundary._second_order._eigen import GRAPH, check_memory
from levelset.boundary._second_order._hessian import OWN
from levelset.boundary._second_order._parts import check_measurable, measure, points_together
from levelset.boundary._second_order._refusals import check_bent, check_gradient, probe
from levelset.boundary._second_order._smoothing import Part, Smoothing
from levelset.errors import ParameterError, ShapeError

__all__ = ["normal_curvature"]


@checked
def normal_curvature(
    field: Field,
    points: Points,
    tangents: Points,
    *,
    labels: FieldLabels = None,
    smoothing: Smoothing | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> PerPoint:
    r"""Return the curvature of the level set through each point along a tangent.

    $$\kappa(z, v) = \frac{v^T H v}{|v|^2\,|\nabla F|}.$$

    The part of v along the normal is taken away first. Sign, smoothing and errors are those of
    [`curvature`][levelset.boundary.curvature]; each point is measured on its own level.

    Cost: one Hessian product a point, without a smoothing two to five more, to tell a Hessian that
    says nothing; differences take all their gradients for it.

    Args:
        field: The field, one equation.
        points: Where, `(n, *d)`.
        tangents: Along what, one a point, `(n, *d)`, of any length.
        labels: Passed to the field, a row a point.
        smoothing: As in `curvature`.
        batch_size: Most points at once; `None` for a number that fits the cache.
        generator: Of the noise.

    Returns:
        The curvatures, in 1 / (units of the points).

    Raises:
        ParameterError: If a tangent is zero, or normal to the level set.
        FieldError: As in `curvature`.

    Example:
        >>> import torch
        >>> from levelset.boundary import normal_curvature
        >>> from levelset.shapes import Torus
        >>> outermost = torch.tensor([[1.25, 0.0, 0.0]])
        >>> normal_curvature(Torus(1.0, 0.25), outermost, torch.tensor([[0.0, 0.0, 3.0]]))
        tensor([4.])

    References:
        - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural
          networks", project report, equation 5.
    """
    e = check_measurable("normal_curvature", points)
    check_finite("normal_curvature", tangents, "tangents")
    if tangents.shape != points.shape:
        message = (
            f"normal_curvature: `tangents` must have the shape of `points`, {tuple(points.shape)}, "
            f"got {tuple(tangents.shape)}."
        )
        raise ShapeError(message)
    own = OWN if smoothing is None else smoothing
    if own.is_matrix:
        check_memory("normal_curvature", own, points)

    def of_part(part: Part) -> Tensor:
        hessian = own.operator(part)
        check_gradient("normal_curvature", hessian.gradient, part.rows)
        if smoothing is None:
            check_bent("normal_curvature", hessian.gradient, hessian.product, part.rows)
        length = hessian.gradient.norm(dim=1)
        vectors = tangents[part.rows].to(part.points).flatten(1)
        along = _tangent(vectors, hessian.gradient, part.rows)
        curvature = (along * hessian.product(along)).sum(1) / length
        if not bool(curvature.isfinite().all()):
            probe("normal_curvature", hessian.gradient, hessian.product, part.rows)  # its message
        return curvature

    memory = GRAPH * e + own.memory(e)
    parts = measure(
        "normal_curvature", field, points, labels, of_part,
        together=points_together(field, points, batch_size, memory), draws=own.draws > 0,
        generator=generator,
    )  # fmt: skip
    return torch.cat([points.new_zeros(0), *parts])


def _tangent(vectors: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
    """Return the unit vectors of the tangential parts."""
    unit = gradient / gradient.norm(dim=1, keepdim=True)
    size = vectors.norm(dim=1, keepdim=True)
    tangent = vectors - (vectors * unit).sum(1, keepdim=True) * unit
    length = tangent.norm(dim=1, keepdim=True)
    bad = ~(length > 100.0 * torch.finfo(vectors.dtype).eps * size)[:, 0]
    if bad.any():
        mask = torch.zeros(int(rows.max()) + 1, dtype=torch.bool, device=rows.device)
        mask[rows[bad]] = True
        message = (
            "normal_curvature: `tangents` must have a part along the level set, got vectors that "
            f"are zero or normal to it in {int(bad.sum())} rows (first: {first_rows(mask)})."
        )
        raise ParameterError(message)
    return tangent / length
