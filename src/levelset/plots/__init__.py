"""Figures for papers, in matplotlib: each takes results, draws on axes and returns them.

Nothing is shown and no file is written: call `ax.figure.savefig` for that. Colours go by the place
of a result in the list, as in the report.
"""

from levelset.plots._attacks import attack, transfer
from levelset.plots._audit import borders, distances, robustness, witnesses
from levelset.plots._curvature import cross_section, curvature, mean_curvatures, ranks, roc
from levelset.plots._noise import class_frequencies, persistence, persistence_along
from levelset.plots._section import section
from levelset.plots._surface import cut

__all__ = [
    "attack",
    "borders",
    "class_frequencies",
    "cross_section",
    "curvature",
    "cut",
    "distances",
    "mean_curvatures",
    "persistence",
    "persistence_along",
    "ranks",
    "robustness",
    "roc",
    "section",
    "transfer",
    "witnesses",
]
