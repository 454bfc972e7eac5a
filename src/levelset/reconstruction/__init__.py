"""Surfaces and curves from raw point clouds."""

from levelset._tools.point_tree import Nearest, PointTree
from levelset.reconstruction._curves._curve import Curve, curve
from levelset.reconstruction._curves._field import CurveField
from levelset.reconstruction._curves._polylines import Polylines
from levelset.reconstruction._curves._trace import trace_curve
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._meshes._distance_likeness import DistanceLikeness, distance_likeness
from levelset.reconstruction._meshes._exact import exact_mesh
from levelset.reconstruction._meshes._extract import extract_mesh
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._meshes._metrics import Metrics, metrics
from levelset.reconstruction._meshes._sampling import sample_surface
from levelset.reconstruction._paper import train_paper
from levelset.reconstruction._settings import Fast, Paper
from levelset.reconstruction._surface import Surface, surface

__all__ = [
    "Curve",
    "CurveField",
    "DistanceLikeness",
    "Fast",
    "Mesh",
    "Metrics",
    "Nearest",
    "Paper",
    "PointTree",
    "Polylines",
    "Step",
    "Surface",
    "Watch",
    "curve",
    "distance_likeness",
    "exact_mesh",
    "extract_mesh",
    "metrics",
    "sample_surface",
    "surface",
    "trace_curve",
    "train_paper",
]
