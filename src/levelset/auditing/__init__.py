"""Every measurement over a data set, with tables on disk that survive an interruption."""

from levelset.auditing._audit import audit
from levelset.auditing._read import read
from levelset.auditing._result import Audit, RobustnessCurve

__all__ = ["Audit", "RobustnessCurve", "audit", "read"]
