"""Measurements of the decision boundary: plain functions that leave the model as they found it."""

from levelset.boundary import detect
from levelset.boundary._certified_radius import certified_radius
from levelset.boundary._cross_section import CrossSection, cross_section
from levelset.boundary._distance import Distance, distance
from levelset.boundary._ensemble import ATTACKS, Effort
from levelset.boundary._robust_accuracy import RobustAccuracy, robust_accuracy
from levelset.boundary._sampling._class_frequencies import class_frequencies
from levelset.boundary._sampling._persistence import Persistence, persistence
from levelset.boundary._sampling._persistence_along import PathPersistence, persistence_along
from levelset.boundary._sampling._stability import Stability, stability
from levelset.boundary._second_order._class_curvatures import class_curvatures
from levelset.boundary._second_order._curvature import Curvature, curvature
from levelset.boundary._second_order._differences import CentralDifference, ForwardDifference
from levelset.boundary._second_order._eigen import Exact, Lanczos
from levelset.boundary._second_order._gaussian import GaussianSmoothing
from levelset.boundary._second_order._loss_curvature import LossCurvature, loss_curvature
from levelset.boundary._second_order._normal_curvature import normal_curvature
from levelset.boundary._second_order._surrogate import SoftplusSurrogate
from levelset.boundary._sections._exact_crossings import Crossings, exact_crossings
from levelset.boundary._sections._exact_section import ExactSection, exact_section
from levelset.boundary._sections._polygons import Polygons
from levelset.boundary._sections._section import Section, section
from levelset.boundary.detect._detector import Detection, Detector

__all__ = [
    "ATTACKS",
    "CentralDifference",
    "CrossSection",
    "Crossings",
    "Curvature",
    "Detection",
    "Detector",
    "Distance",
    "Effort",
    "Exact",
    "ExactSection",
    "ForwardDifference",
    "GaussianSmoothing",
    "Lanczos",
    "LossCurvature",
    "PathPersistence",
    "Persistence",
    "Polygons",
    "RobustAccuracy",
    "Section",
    "SoftplusSurrogate",
    "Stability",
    "certified_radius",
    "class_curvatures",
    "class_frequencies",
    "cross_section",
    "curvature",
    "detect",
    "distance",
    "exact_crossings",
    "exact_section",
    "loss_curvature",
    "normal_curvature",
    "persistence",
    "persistence_along",
    "robust_accuracy",
    "section",
    "stability",
]
