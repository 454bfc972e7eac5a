"""Planes of classifiers: regions, classes and the decision boundary."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset.boundary import ExactSection, Section
from levelset.plots._axes import axes_or_new, matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["section"]

# Regions beyond this number are drawn without the lines between them.
_MOST_WALLS = 20_000


@checked
def section(
    result: ExactSection | Section,
    ax: "Axes | None" = None,
    *,
    walls: bool = True,
    marks: Mapping[str, Sequence[float]] | None = None,
    classes: Sequence[str] = (),
) -> "Axes":
    """Draw a plane: each class in a colour, the decision boundary in black.

    Args:
        result: The plane. Of an exact one the linear regions are drawn as polygons; where the
            boundary alone was traced, that is drawn; of a sampled one the pixels.
        ax: Where to draw; `None` for new axes.
        walls: Whether to draw thin lines between the linear regions, if there are not too many.
        marks: Names of points to show, each with its coordinates (x, y).
        classes: Names of the classes; `class 0`, `class 1`, ... if empty.

    Returns:
        The axes drawn on.

    Raises:
        MissingExtraError: If `ax` is `None` and matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    (left, right), (bottom, top) = result.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="u", ylabel="v")
    colours = matplotlib("matplotlib.colors").to_rgba_array(model_colours(result.class_count))
    pale = 0.45 + 0.55 * colours[:, :3]
    if isinstance(result, Section):
        axes.imshow(
            pale[result.classes.cpu().numpy()], origin="lower", extent=(left, right, bottom, top)
        )
        seen = result.classes
    else:
        collections = matplotlib("matplotlib.collections")
        regions = result.regions
        if len(regions):
            places = regions.vertices[regions.corners].cpu().numpy()
            thin = walls and len(regions) <= _MOST_WALLS
            axes.add_collection(
                collections.PolyCollection(
                    np.split(places, regions.offsets[1:-1].cpu().numpy()),
                    facecolors=pale[result.classes.cpu().numpy()],
                    edgecolors="white" if thin else "face",
                    linewidths=0.25,
                )
            )
        lines = collections.LineCollection(
            list(result.boundary.cpu().numpy()), colors="black", linewidths=1.0
        )
        lines.set_capstyle("round")
        axes.add_collection(lines)
        seen = result.classes if len(regions) else result.sides
    patches = matplotlib("matplotlib.patches")
    handles = [
        patches.Patch(
            color=pale[label], label=classes[label] if label < len(classes) else f"class {label}"
        )
        for label in torch.unique(seen).tolist()
    ]
    axes.legend(handles=handles, frameon=True, fontsize="small", loc="upper right")
    for name, (x, y) in (marks or {}).items():
        axes.plot(x, y, "o", color="black", markeredgecolor="white", markersize=6)
        axes.annotate(
            name, (x, y), (6, 6), textcoords="offset points", fontsize="small",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )  # fmt: skip
    return axes
