"""The measures of an audit, a file each: a new one is a file here and a name in the list below."""

from collections.abc import Sequence

from levelset.auditing._answers import ANSWERS
from levelset.auditing._measure import Column, Measure, Radius
from levelset.auditing._measures._certificate import CERTIFICATE
from levelset.auditing._measures._curvature import CURVATURE
from levelset.auditing._measures._distance import DISTANCE
from levelset.auditing._measures._persistence import PERSISTENCE
from levelset.auditing._measures._robust_accuracy import ROBUST_ACCURACY

__all__ = ["MEASURES", "declared", "measures_of"]

_ALL = (DISTANCE, ROBUST_ACCURACY, CERTIFICATE, PERSISTENCE, CURVATURE)
MEASURES = {measure.name: measure for measure in _ALL}


def measures_of(names: Sequence[str]) -> tuple[Measure, ...]:
    """Return the measures of these names, and after them those that need several of them."""
    chosen = [MEASURES[name] for name in names]
    further = [other for measure in chosen for other in measure.further]
    return (*chosen, *(other for other in further if set(other.needs) <= set(names)))


def declared(norms: Sequence[float], radii: Sequence[Radius] = ()) -> dict[str, Column]:
    """Return every column that an audit of these norms and radii may have, by name."""
    columns = [*ANSWERS, *(c for measure in MEASURES.values() for c in measure.named(norms, radii))]
    return {column.name: column for column in columns}
