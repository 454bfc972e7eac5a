"""Attacks: inputs before and after, and transfer to other models."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset._tools.norms import norm_name
from levelset.attacks import Attack, Transfer
from levelset.errors import ParameterError, ShapeError
from levelset.plots._axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attack", "transfer"]


@checked
def attack(result: Attack, ax: "Axes | None" = None, *, count: int = 8) -> "Axes":
    """Draw inputs, the attacked inputs below, then the differences, shortest first.

    Args:
        result: An attack on images, `(n, c, h, w)` with 1 or 3 channels, or `(n, h, w)`.
        ax: Where to draw; `None` for new axes.
        count: Most images to draw.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
        ParameterError: If the attack moved nothing successfully, or `count` is below 1.
        ShapeError: If the points are not images.
    """
    check_at_least_one("plots.attack", "count", count)
    rows = (result.success & (result.distance > 0)).nonzero().flatten()
    if len(rows) == 0:
        message = "plots.attack: `result` must hold an input that was moved with success, got none."
        raise ParameterError(message)
    rows = rows[result.distance[rows].argsort(stable=True)][:count]
    inputs, points = _images(result.inputs[rows]), _images(result.points[rows])
    change = points - inputs
    low, high = float(inputs.min()), float(inputs.max())
    scale = float(change.abs().max()) or 1.0
    grey = (low + high) / 2 + change * (high - low) / (2 * scale)
    strip = torch.cat([torch.cat(list(part), dim=1) for part in (inputs, points, grey)])
    axes = axes_or_new(ax)
    axes.imshow(strip.numpy(), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    height, width = inputs.shape[1:3]
    axes.set_yticks([(i + 0.5) * height for i in range(3)], ["input", "attacked", "difference"])
    shown = [f"{float(d):.3g}" for d in result.distance[rows]]
    axes.set_xticks([(i + 0.5) * width for i in range(len(rows))], shown)
    axes.tick_params(length=0)
    axes.set_xlabel(f"distance, norm {norm_name(result.norm)}; difference within ±{scale:.3g}")
    return axes


@checked
def transfer(result: Transfer, ax: "Axes | None" = None) -> "Axes":
    """Draw the accuracy of every model under the attacks made on every model, as a heat map.

    Args:
        result: Sources by targets.
        ax: Where to draw; `None` for new axes.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    shares = result.accuracy.detach().cpu().double()
    axes.imshow(shares.numpy(), vmin=0.0, vmax=1.0, cmap="viridis")
    places = range(len(result.names))
    axes.set_xticks(places, result.names)
    axes.set_yticks(places, result.names)
    axes.set(xlabel="attacked with the points of the row", ylabel="attack made on")
    for i, row in enumerate(shares.tolist()):
        for j, share in enumerate(row):
            colour = "black" if share > 0.6 else "white"
            axes.text(j, i, f"{100 * share:.1f} %", ha="center", va="center", color=colour)
    return axes


def _images(points: Tensor) -> Tensor:
    """Return images as `(n, h, w)` or `(n, h, w, 3)` float64 on the CPU."""
    images = points.detach().cpu().double()
    if images.dim() == 3:
        return images
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        message = (
            "plots.attack: `result` must hold images, (n, h, w) or (n, c, h, w) with 1 or 3 "
            f"channels, got {tuple(points.shape)}."
        )
        raise ShapeError(message)
    return images[:, 0] if images.shape[1] == 1 else images.permute(0, 2, 3, 1)
