"""Where to draw: the caller's axes, or new ones; matplotlib only when it is needed."""

from typing import TYPE_CHECKING, Any

from levelset._tools.extras import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_or_new", "matplotlib"]


def axes_or_new(ax: "Axes | None") -> "Axes":
    """Return the axes given, or new ones on a figure that no window shows."""
    if ax is not None:
        return ax
    figure = matplotlib("matplotlib.figure").Figure(layout="constrained")
    axes: Axes = figure.subplots()
    return axes


def matplotlib(module: str) -> Any:
    """Return a module of matplotlib, or say which extra brings it."""
    return optional(module, "plot", "plots")
