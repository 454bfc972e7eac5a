"""Figures for papers, in matplotlib: each takes results, draws on axes and returns them.

Nothing is shown and no file is written: call `ax.figure.savefig` for that. Colours go by the place
of a result in the list, as in the report.
"""

from levelset.plots._attacks import attack, transfer
from levelset.plots._audit import borders, distances, robustness, witnesses
from levelset.plots._curvature import cross_section, curvature, mean_curvatures, ranks, roc
from levelset.plots._noise import class_frequencies, persistence, persistence_along
from levelset.plots._regions import (
    convexity,
    crossings,
    links,
    planarity,
    simplex,
    skewness,
    spectrum,
)
from levelset.plots._section import section
from levelset.plots._surface import cut

__all__ = [
    "attack",
    "borders",
    "class_frequencies",
    "convexity",
    "cross_section",
    "crossings",
    "curvature",
    "cut",
    "distances",
    "links",
    "mean_curvatures",
    "persistence",
    "persistence_along",
    "planarity",
    "ranks",
    "robustness",
    "roc",
    "section",
    "simplex",
    "skewness",
    "spectrum",
    "transfer",
    "witnesses",
]
