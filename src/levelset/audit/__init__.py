"""Every measurement over a data set, with tables on disk that survive an interruption."""

from levelset.audit._audit import audit
from levelset.audit._result import Audit, RobustnessCurve

__all__ = ["Audit", "RobustnessCurve", "audit"]
