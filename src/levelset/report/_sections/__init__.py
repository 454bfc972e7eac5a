"""What a page shows of each measure, a file each: a new one is a file here and a name below."""

from levelset.report._sections._certificate import CERTIFICATE
from levelset.report._sections._curvature import CURVATURE, curvature
from levelset.report._sections._distance import DISTANCE
from levelset.report._sections._persistence import PERSISTENCE, persistence
from levelset.report._sections._robust_accuracy import ROBUST_ACCURACY

__all__ = ["SECTIONS", "curvature", "persistence"]

SECTIONS = [DISTANCE, ROBUST_ACCURACY, CERTIFICATE, PERSISTENCE, CURVATURE]
"""In the order of the page."""
