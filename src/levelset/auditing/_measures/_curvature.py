"""How the boundary with the runner-up bends at each input, right or wrong."""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset._tools.medians import median
from levelset._tools.modes import frozen
from levelset._typing import Bounds, Model, Progress, Summary
from levelset.auditing._measure import Column, Measure, Measured, Part, Settings
from levelset.boundary import (
    Curvature,
    Exact,
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
    "CURVATURE",
    "SmoothingChoice",
    "choose_smoothing",
    "curvature_columns",
]

SmoothingChoice: TypeAlias = Smoothing | Literal["auto"] | None

_UNIT = "1 / unit of the inputs"
_NONE = "NaN where no level set passes, or there is no second derivative but zero"
_ENDS = (
    Column("curvature_largest", f"the largest principal curvature; {_NONE}", _UNIT),
    Column("curvature_smallest", f"the smallest principal curvature; {_NONE}", _UNIT),
    Column("curvature_mean", f"mean of all principal curvatures; {_NONE}", _UNIT),
    Column("curvature_mean_error", "standard error of the mean", _UNIT, minor=True),
)
_RIVAL = Column("curvature_rival", "the runner-up", kind="class", minor=True)
_PRINCIPAL = Column(
    "curvature_principal",
    "principal curvatures, descending: all of an input of at most 256 numbers; of a larger one the "
    "5 largest and the 5 smallest, by 40 products of Lanczos' iteration",
    _UNIT,
    "numbers",
)

# Sharpness of the softplus, and width of the noise as a share of the range of the inputs.
_BETA, _WIDTH, _DRAWS = 5.0, 0.1, 100
# Inputs that decide what stands for the second derivative.
_PROBED = 16
# The largest size of a point whose principal curvatures are all measured (7 ms at 64 numbers, ten
# times Lanczos' cost at 784); of larger ones so many at each end.
_ALL, _EACH_END = 256, 5
_FEW = Lanczos(products=40, mean_products=20)


def choose_smoothing(
    model: Model,
    points: Tensor,
    wanted: SmoothingChoice,
    bounds: Bounds,
    batch_size: int | None,
) -> Smoothing | None:
    """Return the smoothing of the second derivative, the same for all inputs.

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
            result = _measure(
                field, points[rows], pairs[rows], smoothing, batch_size, generator, progress
            )
        except FieldError:  # at some: leave those out, and the draws of the others as they were
            rows = _measurable(field, points, pairs, rows, smoothing)
            generator.set_state(start)
            result = _measure(
                field, points[rows], pairs[rows], smoothing, batch_size, generator, progress
            )
    columns = {column.name: points.new_full((len(points),), torch.nan) for column in _ENDS}
    columns[_RIVAL.name] = pairs[:, 1]
    if e > 1:
        q = e - 1 if e <= _ALL else 2 * _EACH_END
        columns[_PRINCIPAL.name] = points.new_full((len(points), q), torch.nan)
    if result is not None:
        ends = (result.principal[:, 0], result.principal[:, -1], result.mean, result.mean_error)
        for column, values in zip((*_ENDS, _PRINCIPAL), (*ends, result.principal), strict=True):
            columns[column.name][rows] = values
    return columns


def _products(smoothing: Smoothing | None, size: int) -> int:
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


def _decide(model: Model, points: Tensor, settings: Settings) -> dict[str, Any]:
    wanted, batch_size = settings.own["smoothing"], settings.batch_size
    return {"smoothing": choose_smoothing(model, points, wanted, settings.bounds, batch_size)}


def _of_part(part: Part) -> Measured:
    columns = curvature_columns(
        part.model,
        part.points,
        part.settings.own["smoothing"],
        part.settings.batch_size,
        part.generator("curvature", of_part=True),
        part.progress(),
    )
    return Measured(columns)


def _summary(columns: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Summary:
    """Return medians over the inputs that have a curvature."""
    del settings
    known = columns["curvature_mean"].isfinite()
    numbers: Summary = {"curvature_found": int(known.sum())}
    for name in ("mean", "largest", "smallest") if known.any() else ():
        numbers[f"curvature_{name}_median"] = median(columns[f"curvature_{name}"][known])
    return numbers


def _evaluations(settings: Settings, size: int) -> float:
    return 6.0 * _products(settings.own["smoothing"], size)


CURVATURE = Measure(
    "curvature", (*_ENDS, _RIVAL, _PRINCIPAL), _of_part, _evaluations, _summary, options=_decide
)
