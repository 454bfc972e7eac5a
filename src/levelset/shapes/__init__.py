"""Fields with exact answers: oracles of the tests, and examples to learn with.

Each is called with `(n, d)` and has `.project`, `.distance` and `.contains`; `polytope_network`
makes a network of a polyhedron.
"""

from levelset.shapes._circle import Circle
from levelset.shapes._delaunay import DelaunayClassifier
from levelset.shapes._ellipsoid import Ellipsoid
from levelset.shapes._leads import ClassChanges
from levelset.shapes._orthant import Orthant
from levelset.shapes._plane import Plane
from levelset.shapes._polytopes._network import PolytopeNetwork, polytope_network
from levelset.shapes._sphere import Sphere
from levelset.shapes._torus import Torus
from levelset.shapes._voronoi import VoronoiClassifier
from levelset.shapes._wedge import Wedge

__all__ = [
    "Circle",
    "ClassChanges",
    "DelaunayClassifier",
    "Ellipsoid",
    "Orthant",
    "Plane",
    "PolytopeNetwork",
    "Sphere",
    "Torus",
    "VoronoiClassifier",
    "Wedge",
    "polytope_network",
]
