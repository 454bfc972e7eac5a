"""The path kernel: whose training points a prediction is made of."""

from levelset.kernels._effects import effects
from levelset.kernels._explain import Explanation, explain
from levelset.kernels._gaussian_process import GaussianProcess, novelty
from levelset.kernels._integrals import GaussLegendre, Midpoint
from levelset.kernels._path_kernel import PathKernel
from levelset.kernels._results import Contributions, Neighbours, Prediction, Signs
from levelset.kernels._suspects import Suspects, suspects

__all__ = [
    "Contributions",
    "Explanation",
    "GaussLegendre",
    "GaussianProcess",
    "Midpoint",
    "Neighbours",
    "PathKernel",
    "Prediction",
    "Signs",
    "Suspects",
    "effects",
    "explain",
    "novelty",
    "suspects",
]
