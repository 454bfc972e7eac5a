"""The path kernel: whose training points a prediction is made of."""

from levelset.kernels._integrals import GaussLegendre, Midpoint
from levelset.kernels._path_kernel import PathKernel
from levelset.kernels._results import Contributions, Neighbours, Prediction, Signs

__all__ = [
    "Contributions",
    "GaussLegendre",
    "Midpoint",
    "Neighbours",
    "PathKernel",
    "Prediction",
    "Signs",
]
