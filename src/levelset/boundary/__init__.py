"""Measurements of the decision boundary: plain functions that leave the model as they found it."""

from levelset.boundary import detect
from levelset.boundary._certified_radius import certified_radius
from levelset.boundary._cross_section import CrossSection, cross_section
from levelset.boundary._distance import Distance, distance
from levelset.boundary._ensemble import ATTACKS, Effort
from levelset.boundary._regions._cloud import sample
from levelset.boundary._regions._connect import Link, connect
from levelset.boundary._regions._convexity import Convexity, convexity
from levelset.boundary._regions._definitions import (
    ClassesNearby,
    DecisionLevel,
    classes_nearby,
    decision_dimension,
    decision_level,
)
from levelset.boundary._regions._dropout import Normality, dropout_crossings, normality
from levelset.boundary._regions._normals import Planarity, angles, normals, planarity
from levelset.boundary._regions._shared import (
    SubspacePersistence,
    shared_directions,
    subspace_persistence,
)
from levelset.boundary._regions._skewness import Skewness, incidence, skewness
from levelset.boundary._regions._spectrum import Spectrum, dimension
from levelset.boundary._regions._walk import walk
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
    "ClassesNearby",
    "Convexity",
    "CrossSection",
    "Crossings",
    "Curvature",
    "DecisionLevel",
    "Detection",
    "Detector",
    "Distance",
    "Effort",
    "Exact",
    "ExactSection",
    "ForwardDifference",
    "GaussianSmoothing",
    "Lanczos",
    "Link",
    "LossCurvature",
    "Normality",
    "PathPersistence",
    "Persistence",
    "Planarity",
    "Polygons",
    "RobustAccuracy",
    "Section",
    "Skewness",
    "SoftplusSurrogate",
    "Spectrum",
    "Stability",
    "SubspacePersistence",
    "angles",
    "certified_radius",
    "class_curvatures",
    "class_frequencies",
    "classes_nearby",
    "connect",
    "convexity",
    "cross_section",
    "curvature",
    "decision_dimension",
    "decision_level",
    "detect",
    "dimension",
    "distance",
    "dropout_crossings",
    "exact_crossings",
    "exact_section",
    "incidence",
    "loss_curvature",
    "normal_curvature",
    "normality",
    "normals",
    "persistence",
    "persistence_along",
    "planarity",
    "robust_accuracy",
    "sample",
    "section",
    "shared_directions",
    "skewness",
    "stability",
    "subspace_persistence",
    "walk",
]
