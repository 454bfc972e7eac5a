"""Where to draw: the caller's axes, or new ones; matplotlib only when it is needed."""

from typing import TYPE_CHECKING, Any

from levelset._tools.checks import shown
from levelset._tools.extras import optional
from levelset.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_or_new", "matplotlib"]


def axes_or_new(ax: "Axes | None") -> "Axes":
    """Return the caller's axes, or new ones on a figure that no window shows."""
    if ax is not None:
        if not isinstance(ax, matplotlib("matplotlib.axes").Axes):
            message = f"plots: `ax` must be an Axes of matplotlib, or None, got {shown(ax)}."
            raise ParameterError(message)
        return ax
    figure = matplotlib("matplotlib.figure").Figure(layout="constrained")
    axes: Axes = figure.subplots()
    return axes


def matplotlib(module: str) -> Any:
    """Return a module of matplotlib, or say which extra brings it."""
    return optional(module, "plot", "plots")
