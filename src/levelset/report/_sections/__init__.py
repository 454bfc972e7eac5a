"""What a page shows of each measure, a file each: a new one is a file here and a name below."""

from levelset.report._sections._curvature import CURVATURE
from levelset.report._sections._distance import DISTANCE
from levelset.report._sections._persistence import PERSISTENCE

__all__ = ["SECTIONS"]

SECTIONS = [DISTANCE, PERSISTENCE, CURVATURE]
"""In the order of the page."""
