"""Surfaces from points: three cuts through a field with its level lines."""

from typing import TYPE_CHECKING

import torch

from levelset._tools.arguments import checked
from levelset.errors import ParameterError
from levelset.plots._axes import axes_or_new
from levelset.reconstruction import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cut"]

_FINE = 240


@checked
def cut(
    result: Surface,
    ax: "Axes | None" = None,
    *,
    axis: int = 2,
    at: float | None = None,
    levels: int = 13,
) -> "Axes":
    """Draw a cut through a reconstructed surface: level lines, the surface thick, points near.

    Where the field is like a signed distance, the lines lie evenly beside one another.

    Args:
        result: From [`surface`][levelset.reconstruction.surface].
        ax: Where to draw; `None` for new axes.
        axis: The axis across the plane: 0, 1 or 2.
        at: Where on that axis, in units of the points; `None` for the middle of the points.
        levels: Number of level lines.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If `axis` is none of 0, 1, 2, or `levels` below 2.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: figures 3 and A2.
    """
    if axis not in (0, 1, 2) or levels < 2:
        message = (
            f"plots.cut: `axis` must be 0, 1 or 2 and `levels` at least 2, got {axis} and {levels}."
        )
        raise ParameterError(message)
    axes = axes_or_new(ax)
    low, high = result.points.amin(0), result.points.amax(0)
    middle, reach = (low + high) / 2, 0.6 * float((high - low).max())
    place = float(middle[axis]) if at is None else at
    first, second = (k for k in range(3) if k != axis)
    line = torch.linspace(-reach, reach, _FINE, dtype=torch.float64)
    a, b = torch.meshgrid(line + middle[first], line + middle[second], indexing="xy")
    grid = torch.full((_FINE * _FINE, 3), place, dtype=torch.float64)
    grid[:, first], grid[:, second] = a.flatten(), b.flatten()
    values = result.values(grid).reshape(_FINE, _FINE).numpy()
    top = 0.4 * reach
    marks = torch.linspace(-top, top, levels).tolist()
    contours = axes.contourf(a, b, values, marks, cmap="RdBu_r", extend="both", alpha=0.8)
    axes.contour(a, b, values, marks, colors="#555555", linewidths=0.5)
    axes.contour(a, b, values, [0.0], colors="#111111", linewidths=2.0)
    near = result.points[(result.points[:, axis] - place).abs() < 0.01 * reach]
    axes.plot(near[:, first], near[:, second], ".", color="#111111", markersize=1.5)
    axes.set_aspect("equal")
    axes.set(xlabel="xyz"[first], ylabel="xyz"[second])
    axes.figure.colorbar(contours, ax=axes, label="field, in units of the points")
    return axes
