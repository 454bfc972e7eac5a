"""Surfaces and curves from raw point clouds."""

from levelset.reconstruction._curve import Curve, curve
from levelset.reconstruction._curve_field import CurveField
from levelset.reconstruction._distance_likeness import DistanceLikeness, distance_likeness
from levelset.reconstruction._extract import extract_mesh
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._mesh import Mesh
from levelset.reconstruction._metrics import Metrics, metrics
from levelset.reconstruction._paper import train_paper
from levelset.reconstruction._polylines import Polylines
from levelset.reconstruction._sampling import sample_surface
from levelset.reconstruction._settings import Fast, Paper
from levelset.reconstruction._surface import Surface, surface
from levelset.reconstruction._trace import trace_curve

__all__ = [
    "Curve",
    "CurveField",
    "DistanceLikeness",
    "Fast",
    "Mesh",
    "Metrics",
    "Paper",
    "Polylines",
    "Step",
    "Surface",
    "Watch",
    "curve",
    "distance_likeness",
    "extract_mesh",
    "metrics",
    "sample_surface",
    "surface",
    "trace_curve",
    "train_paper",
]
