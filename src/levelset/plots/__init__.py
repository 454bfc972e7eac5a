"""Figures for papers, in matplotlib: each takes results, draws on axes and returns them.

Nothing is shown and no file is written: call `ax.figure.savefig` for that. Colours go by the place
of a result in the list, as in the report.
"""

from levelset.plots._attacks import attack, transfer
from levelset.plots._audit import borders, distances, robustness, witnesses

__all__ = ["attack", "borders", "distances", "robustness", "transfer", "witnesses"]
