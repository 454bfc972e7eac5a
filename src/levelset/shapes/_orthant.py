r"""The region $x_1 \ge 0, \dots, x_k \ge 0$: where a class meets k planes at right angles."""

from dataclasses import dataclass

import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from levelset._tools.checks import check_positive
from levelset._typing import Mask, PerPoint, Points
from levelset.errors import ParameterError, ShapeError

__all__ = ["Orthant"]
