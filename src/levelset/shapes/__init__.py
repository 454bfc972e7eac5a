"""Fields with exact answers: the oracles of the tests, and toys to learn with.

Each is called with `(n, d)` and has `.project`, `.distance` and `.contains`.
"""

from levelset.shapes._circle import Circle
from levelset.shapes._ellipsoid import Ellipsoid
from levelset.shapes._plane import Plane
from levelset.shapes._sphere import Sphere
from levelset.shapes._torus import Torus

__all__ = ["Circle", "Ellipsoid", "Plane", "Sphere", "Torus"]
