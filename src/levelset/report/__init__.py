"""One self-contained HTML page from results: figures, pictures and a table, offline."""

from levelset.report._about import about, subtitle
from levelset.report._audit import audit
from levelset.report._class_frequencies import class_frequencies
from levelset.report._comparison import comparison, trainings
from levelset.report._detection import detection
from levelset.report._explanation import explanation, mislabelled
from levelset.report._render import Html
from levelset.report._section import section
from levelset.report._sections import curvature, persistence
from levelset.report._spectrum import spectrum
from levelset.report._surface import surface
from levelset.report._write import Section, Table, write

__all__ = [
    "Html",
    "Section",
    "Table",
    "about",
    "audit",
    "class_frequencies",
    "comparison",
    "curvature",
    "detection",
    "explanation",
    "mislabelled",
    "persistence",
    "section",
    "spectrum",
    "subtitle",
    "surface",
    "trainings",
    "write",
]
