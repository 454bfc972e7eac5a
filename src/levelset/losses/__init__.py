"""Losses that shape level sets: each returns a scalar, the mean over the inputs or samples."""

from levelset.losses._curvature import curvature
from levelset.losses._geometric_svm import geometric_svm
from levelset.losses._interval_bound import interval_bound
from levelset.losses._reconstruction import reconstruction
from levelset.losses._robust_distance import robust_distance

__all__ = ["curvature", "geometric_svm", "interval_bound", "reconstruction", "robust_distance"]
