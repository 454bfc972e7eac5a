"""A dense grid of features with a linear read-out: a quadratic spline over a cube."""

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_points
from levelset.errors import ParameterError, ShapeError

__all__ = ["SplineGrid"]


class SplineGrid(nn.Module):
    r"""A field on a cube, as a tensor product of quadratic B-splines.

    $$F(x) = \sum_{i,j,k} c_{ijk}\, \beta(u_1 - i)\, \beta(u_2 - j)\, \beta(u_3 - k),
      \qquad u = (x + \mathrm{reach}) / h + \tfrac12,$$

    with $\beta$ the centred quadratic B-spline and $h$ the side of a cell. A point sees the 27
    coefficients around its cell, so that a value costs 27 products whatever the size of the grid.
    The field has continuous first derivatives, in the points and in the coefficients; second
    derivatives jump from cell to cell. Affine functions are in its span: they have their own
    values at the centres of the cells as coefficients.

    Outside the cube a point has the value at the cube's nearest point plus its distance to that.

    Args:
        cells: Cells a side; at least 1. The module has `(cells + 2) ** 3` parameters.
        reach: Half the side of the cube, whose centre is the origin, in the units of the points.

    Raises:
        ParameterError: If `cells` or `reach` is not positive.

    Example:
        >>> import torch
        >>> from levelset.networks import SplineGrid
        >>> field = SplineGrid(cells=8, reach=1.0)
        >>> with torch.no_grad():
        ...     _ = field.coefficients.copy_(field.centres()[..., 0] - 0.25)
        >>> points = torch.tensor([[0.25, 0.1, 0.9], [0.75, -0.4, 0.0]])
        >>> torch.allclose(field(points), torch.tensor([0.0, 0.5]), atol=1e-6)
        True

    References:
        - P. H. C. Eilers, B. D. Marx, "Flexible Smoothing with B-splines and Penalties",
          Statist. Sci. 11 (1996): splines on a fine grid, smoothed by differences.
    """

    @checked
    def __init__(self, cells: int, reach: float = 1.1) -> None:
        super().__init__()
        check_at_least_one("SplineGrid", "cells", cells)
        if not reach > 0:
            message = f"SplineGrid: `reach` must be positive, got {reach}."
            raise ParameterError(message)
        self.cells = cells
        self.reach = reach
        self.coefficients = nn.Parameter(torch.zeros(cells + 2, cells + 2, cells + 2))

    def extra_repr(self) -> str:
        """Return the size for the module's `repr`."""
        return f"cells={self.cells}, reach={self.reach:g}"

    def centres(self) -> Tensor:
        """Return where the splines have their peaks, `(cells + 2, cells + 2, cells + 2, 3)`.

        The outermost layer lies half a cell outside the cube.
        """
        steps = torch.arange(self.cells + 2).to(self.coefficients) - 0.5
        line = steps * (2 * self.reach / self.cells) - self.reach
        return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)

    def forward(self, points: Tensor) -> Tensor:
        """Return the values `(n,)` at points `(n, 3)`."""
        check_points("SplineGrid", points)
        if points.dim() != 2 or points.shape[1] != 3:
            message = f"SplineGrid: `points` must have the shape (n, 3), got {tuple(points.shape)}."
            raise ShapeError(message)
        inside = points.clamp(-self.reach, self.reach)
        place = (inside + self.reach) * (self.cells / (2 * self.reach))
        # A point that is NaN gets the value NaN, by way of `t`, from any cell.
        cell = place.detach().floor().nan_to_num(0.0).clamp(0, self.cells - 1)
        t = place - cell
        weights = torch.stack([(1 - t).square() / 2, 0.75 - (t - 0.5).square(), t.square() / 2], -1)
        side = self.cells + 2
        steps = torch.tensor([side * side, side, 1], device=points.device)
        around = torch.cartesian_prod(*3 * (torch.arange(3, device=points.device),)) @ steps
        index = (cell.long() * steps).sum(1, keepdim=True) + around
        # one axis after the other: 39 products a point instead of 63, and smaller tensors
        block = self.coefficients.flatten().index_select(0, index.flatten()).view(-1, 9, 3)
        common = torch.promote_types(block.dtype, weights.dtype)
        block, weights = block.to(common), weights.to(common)
        plane = torch.bmm(block, weights[:, 2, :, None]).view(-1, 3, 3)
        line = torch.bmm(plane, weights[:, 1, :, None]).view(-1, 1, 3)
        values = torch.bmm(line, weights[:, 0, :, None]).flatten()
        return values + _length(points - inside)


def _length(offset: Tensor) -> Tensor:
    """Return the lengths of the rows; that of a zero row has the derivative zero."""
    square = offset.square().sum(1)
    outside = square > 0
    root = torch.where(outside, square, 1.0).sqrt()
    return torch.where(outside, root, 0.0)
