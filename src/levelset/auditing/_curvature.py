"""The curvature around each input, as columns of an audit."""

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._typing import Bounds, Model, Progress
from levelset.boundary import (
    CentralDifference,
    Curvature,
    Exact,
    ForwardDifference,
    GaussianSmoothing,
    Lanczos,
    SoftplusSurrogate,
    curvature,
)
from levelset.boundary._second_order._smoothing import Smoothing
from levelset.boundary._second_order._surrogate import calls_relu
from levelset.errors import FieldError
from levelset.fields import LogitDifference

__all__ = [
    "SMOOTHINGS",
    "SmoothingChoice",
    "choose_smoothing",
    "curvature_columns",
    "curvature_products",
]

SmoothingChoice: TypeAlias = Smoothing | Literal["auto"] | None

SMOOTHINGS: dict[type[object], str | None] = {
    type(None): None,
    SoftplusSurrogate: "beta",
    GaussianSmoothing: "sigma",
    CentralDifference: "h",
    ForwardDifference: "h",
}
"""What may stand for the second derivative, in the order of the numbers in the column
`curvature_smoothing`, and the option of each that the column `curvature_scale` holds."""

# Sharpness of the softplus, and width of the noise as a share of the range of the inputs.
_BETA, _WIDTH, _DRAWS = 5.0, 0.1, 100
# Inputs that decide what stands for the second derivative.
_PROBED = 16
# The largest size of a point whose principal curvatures are all measured (7 ms at 64 numbers, ten
# times Lanczos' cost at 784); of larger ones so many at each end.
_ALL, _EACH_END = 256, 5
_FEW = Lanczos(products=40, mean_products=20)
_NAMES = ("curvature_largest", "curvature_smallest", "curvature_mean", "curvature_mean_error")


def choose_smoothing(
    model: Model,
    points: Tensor,
    wanted: SmoothingChoice,
    bounds: Bounds,
    batch_size: int | None,
) -> Smoothing | None:
    """Return what shall stand for the second derivative, once for all inputs.

    `auto` is a softplus of sharpness 5 for a network whose ReLUs can be replaced, else nothing (the
    network's own second derivative), else, where that is zero or missing at each of the first 16
    inputs, noise of a tenth of the range of the inputs. The choice is by the first inputs alone, so
    a run that goes on decides as before.

    Raises:
        FieldError: If it can be measured at none of the first inputs through which a level set
            passes.
    """
    field, first = LogitDifference(model), points[:_PROBED]
    with frozen(model):
        tried: list[Smoothing | None]
        if wanted == "auto":
            low, high = (torch.as_tensor(end) for end in bounds)
            span = float((high - low).max())
            noise = GaussianSmoothing(_WIDTH * (span if math.isfinite(span) else 1.0), _DRAWS)
            tried = [SoftplusSurrogate(_BETA) if calls_relu(model, first[:1]) else None, noise]
        else:
            tried = [wanted]
        pairs = _pairs(model, first, batch_size)
        rows = _with_slope(field, first, pairs, batch_size).tolist()
        reason: FieldError | None = None
        for smoothing in tried:
            for row in rows:
                reason = _failure(field, first[row : row + 1], pairs[row : row + 1], smoothing)
                if reason is None:
                    return smoothing
    if reason is not None:
        raise reason
    return tried[0]


def curvature_columns(
    model: Model,
    points: Tensor,
    smoothing: Smoothing | None,
    batch_size: int | None,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Return the curvatures of the level set of prediction against runner-up through each input.

    NaN where no level set passes (the two logits have the same gradient, or a point is one number),
    and where the second derivative is zero or missing.
    """
    field, e = LogitDifference(model), points[0].numel()
    with frozen(model):
        pairs = _pairs(model, points, batch_size)
        rows = _with_slope(field, points, pairs, batch_size)
        start = generator.get_state()
        try:
            found = _measure(
                field, points[rows], pairs[rows], smoothing, batch_size, generator, progress
            )
        except FieldError:  # at some: leave those out, and the draws of the others as they were
            rows = _measurable(field, points, pairs, rows, smoothing)
            generator.set_state(start)
            found = _measure(
                field, points[rows], pairs[rows], smoothing, batch_size, generator, progress
            )
    columns = {name: points.new_full((len(points),), torch.nan) for name in _NAMES}
    if found is not None:
        ends = (found.principal[:, 0], found.principal[:, -1], found.mean, found.mean_error)
        for name, values in zip(_NAMES, ends, strict=True):
            columns[name][rows] = values
    columns["curvature_rival"] = pairs[:, 1]
    option = SMOOTHINGS[type(smoothing)]
    scale = 0.0 if option is None else float(getattr(smoothing, option))
    number = list(SMOOTHINGS).index(type(smoothing))
    columns["curvature_smoothing"] = torch.full_like(pairs[:, 0], number)
    columns["curvature_scale"] = points.new_full((len(points),), scale)
    if e > 1:
        q = e - 1 if e <= _ALL else 2 * _EACH_END
        columns["curvature_principal"] = points.new_full((len(points), q), torch.nan)
        if found is not None:
            columns["curvature_principal"][rows] = found.principal
    return columns


def curvature_products(smoothing: Smoothing | None, size: int) -> int:
    """Return how many products with a Hessian an input of a size takes."""
    products = size if size <= _ALL else _FEW.products + _FEW.mean_products
    return products * max(1, 0 if smoothing is None else smoothing.draws)


def _measure(
    field: LogitDifference, points: Tensor, pairs: Tensor, smoothing: Smoothing | None,
    batch_size: int | None, generator: torch.Generator, progress: Progress | None,
) -> Curvature | None:  # fmt: skip
    if not len(points):
        return None
    whole = points[0].numel() <= _ALL
    matrix = smoothing is not None and smoothing.is_matrix  # whatever is asked for
    return curvature(
        field, points, labels=pairs, count=None if whole else _EACH_END, ends="both",
        smoothing=smoothing, level=None, method=Exact() if whole or matrix else _FEW,
        directions=False, batch_size=batch_size, generator=generator, progress=progress,
    )  # fmt: skip


def _failure(
    field: LogitDifference, points: Tensor, pairs: Tensor, smoothing: Smoothing | None
) -> FieldError | None:
    """Return why points cannot be measured together; `None` if they can."""
    try:
        curvature(
            field, points, labels=pairs, count=1, smoothing=smoothing, level=None,
            method=Lanczos(products=1, mean_products=0), directions=False,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    except FieldError as error:
        return error
    return None


def _measurable(
    field: LogitDifference, points: Tensor, pairs: Tensor, rows: Tensor, smoothing: Smoothing | None
) -> Tensor:
    """Return those of the rows that can be measured, by halves."""
    if not len(rows) or _failure(field, points[rows], pairs[rows], smoothing) is None:
        return rows
    if len(rows) == 1:
        return rows[:0]
    halves = rows.tensor_split(2)
    return torch.cat([_measurable(field, points, pairs, half, smoothing) for half in halves])


def _pairs(model: Model, points: Tensor, batch_size: int | None) -> Tensor:
    """Return prediction and runner-up, `(n, 2)`."""
    return Evaluator("audit", model, batch_size).values(points).topk(2, dim=1).indices


def _with_slope(
    field: LogitDifference, points: Tensor, pairs: Tensor, batch_size: int | None
) -> Tensor:
    """Return the rows where the field has a gradient, and points more than one number."""
    slope = Evaluator("audit", field, batch_size).value_and_jacobian(points, pairs)[1].flatten(1)
    least = torch.finfo(points.dtype).tiny ** 0.5
    rows = (slope.norm(dim=1) > least).nonzero().flatten()
    return rows if slope.shape[1] > 1 else rows[:0]
