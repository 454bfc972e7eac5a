"""The picture of a boundary beside an input: the plane of its normal and a tangent."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from levelset._intersection import intersect
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_finite,
    check_points,
    check_positive,
    check_same_rows,
    check_whole,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Result
from levelset._typing import Field, FieldLabels, Points, Summary
from levelset.boundary._second_order._refusals import check_gradient, one_equation
from levelset.errors import ParameterError, ShapeError

__all__ = ["CrossSection", "cross_section"]


@dataclass(frozen=True, eq=False, repr=False)
class CrossSection(Result):
    r"""A field on the plane through a boundary point z, spanned by normal and tangent.

    Coordinates are orthonormal, in the units of the points, with z at the origin: first along the
    tangent, then along the normal $\nabla F(z)/|\nabla F(z)|$.

    Attributes:
        values: The field on the grid, `(r, r)`; rows go along the normal, columns along the
            tangent.
        ticks: Coordinates of the grid, `(r,)`, on both axes.
        normal: Unit normal at z, `(*d)`.
        tangent: Unit tangent, `(*d)`.
        origin: The boundary point z, `(*d)`.
        start: Coordinates of x, `(2,)`: tangent, normal.
        perturbed: Coordinates of its perturbation y, `(2,)`.
    """

    _headline: ClassVar = ("values", "extent")

    values: Tensor
    ticks: Tensor
    normal: Tensor
    tangent: Tensor
    origin: Tensor
    start: Tensor
    perturbed: Tensor

    def summary(self) -> Summary:
        """Return the points a side of the grid and half the length of a side."""
        return {"resolution": len(self.ticks), "extent": float(self.ticks[-1])}


@checked
def cross_section(
    field: Field,
    start: Points,
    perturbed: Points,
    *,
    labels: FieldLabels = None,
    extent: float | None = None,
    resolution: int = 101,
    tol: float = 1e-5,
    batch_size: int | None = None,
) -> CrossSection:
    r"""Draw the plane through the boundary point between an input and its perturbation.

    z is the zero of F between x and y; the plane is spanned by the normal at z and by the part of
    z - x along the boundary, so that x, y and z all lie in it.

    Args:
        field: The field, one equation; of other signs at x and y.
        start: The input x, `(1, *d)`.
        perturbed: Its perturbation y, `(1, *d)`.
        labels: Passed to the field, one row.
        extent: Half the side of the picture, in the units of the points; `None` for half as much
            again as x, y and z need.
        resolution: Points of the grid a side.
        tol: Residual of z, in the units of the field.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.

    Returns:
        The values on the grid and the coordinates of the three points.

    Raises:
        BracketError: If the field has one sign at both.
        ParameterError: If x, y and the normal are in line, so that there is no such plane.
        ShapeError: If not exactly one input is given.

    References:
        - M. Alonso, P. Bonin, "Geometrical perspectives on the robustness of deep neural
          networks", project report, figure 2.
    """
    for name, point in (("start", start), ("perturbed", perturbed)):
        check_points("cross_section", point, name)
        check_finite("cross_section", point, name)
        if len(point) != 1 or point.shape != start.shape:
            message = (
                f"cross_section: `{name}` must hold one input, (1, *d) as the other, got "
                f"{tuple(point.shape)}."
            )
            raise ShapeError(message)
    check_same_rows("cross_section", start, labels, "labels")
    check_whole("cross_section", "resolution", resolution, at_least=2)
    if extent is not None:
        check_positive("cross_section", "extent", extent)
    start, perturbed = start.detach(), perturbed.detach()
    with frozen(field):
        origin = intersect(field, perturbed, start, labels=labels, tol=tol).points
        evaluator = Evaluator("cross_section", field, batch_size)
        gradient = evaluator.value_and_jacobian(origin, labels)[1][:, 0]
        check_gradient("cross_section", gradient, torch.zeros(1, dtype=torch.long))
        normal, tangent = _axes(gradient[0], (origin - start).flatten())
        plane = torch.stack([tangent, normal])
        marks = [plane @ (point - origin).flatten() for point in (start, perturbed)]
        reach = float(torch.stack(marks).abs().max()) * 1.5 if extent is None else extent
        ticks = torch.linspace(-reach, reach, resolution).to(origin)
        along = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), dim=2).flip(2)
        grid = origin + (along.flatten(0, 1) @ plane).view(-1, *origin.shape[1:])
        repeated = None if labels is None else labels.expand(len(grid), *labels.shape[1:])
        values = one_equation("cross_section", evaluator.values(grid, repeated), grid)
    shape = origin.shape[1:]
    return CrossSection(
        values=values.view(resolution, resolution),
        ticks=ticks,
        normal=normal.view(shape),
        tangent=tangent.view(shape),
        origin=origin[0],
        start=marks[0],
        perturbed=marks[1],
    )


def _axes(gradient: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    normal = gradient / gradient.norm()
    tangent = direction - (direction @ normal) * normal
    if not tangent.norm() > 100.0 * torch.finfo(tangent.dtype).eps * direction.norm():
        message = (
            "cross_section: `perturbed` must not lie straight along the normal of the boundary "
            "from `start`, got three points in line, which span no plane with it. "
            "Take another perturbation."
        )
        raise ParameterError(message)
    return normal, tangent / tangent.norm()
