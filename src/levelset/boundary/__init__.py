"""Measurements of the decision boundary: plain functions that leave the model as they found it."""

from levelset.boundary import detect
from levelset.boundary._class_curvatures import class_curvatures
from levelset.boundary._class_frequencies import class_frequencies
from levelset.boundary._curvature import Curvature, curvature
from levelset.boundary._detector import Detection, Detector
from levelset.boundary._distance import Distance, Effort, distance
from levelset.boundary._eigen import Exact, Lanczos
from levelset.boundary._persistence import Persistence, persistence
from levelset.boundary._persistence_along import PathPersistence, persistence_along
from levelset.boundary._smoothing import (
    CentralDifference,
    ForwardDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
)
from levelset.boundary._stability import Stability, stability

__all__ = [
    "CentralDifference",
    "Curvature",
    "Detection",
    "Detector",
    "Distance",
    "Effort",
    "Exact",
    "ForwardDifference",
    "GaussianSmoothing",
    "Lanczos",
    "PathPersistence",
    "Persistence",
    "SoftplusSurrogate",
    "Stability",
    "class_curvatures",
    "class_frequencies",
    "curvature",
    "detect",
    "distance",
    "persistence",
    "persistence_along",
    "stability",
]
