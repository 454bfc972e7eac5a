"""Losses that shape level sets: each returns a scalar, the mean over the inputs or samples."""

from levelset.losses._adversarial import adversarial
from levelset.losses._curvature import curvature
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._direct_margin import direct_margin
from levelset.losses._geometric_svm import geometric_svm
from levelset.losses._hinge import hinge
from levelset.losses._interval_bound import interval_bound
from levelset.losses._large_margin import large_margin
from levelset.losses._reconstruction import reconstruction
from levelset.losses._robust_distance import robust_distance
from levelset.losses._trades import trades

__all__ = [
    "Diagnostics",
    "Watch",
    "adversarial",
    "curvature",
    "direct_margin",
    "geometric_svm",
    "hinge",
    "interval_bound",
    "large_margin",
    "reconstruction",
    "robust_distance",
    "trades",
]
