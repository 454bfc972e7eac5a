import math
from collections.abc import Callable

from levelset.auditing._result import Audit
from levelset.report._views import norms_of

Make = Callable[..., Audit]


def test_norms_of_several_audits_are_named_once_in_order(make_audit: Make) -> None:
    audits = [make_audit(norms=(math.inf,)), make_audit(norms=(2.0, math.inf))]
    assert norms_of(audits) == [math.inf, 2.0]
