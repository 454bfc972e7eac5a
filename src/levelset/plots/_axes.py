"""Where to draw: the caller's axes, or new ones; matplotlib only when it is needed."""

import importlib
from typing import TYPE_CHECKING, Any

from levelset.errors import MissingExtraError

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
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = "plots: matplotlib is not installed. Run `pip install 'levelset[plot]'`."
        raise MissingExtraError(message) from error
