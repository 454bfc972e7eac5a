"""The curvature around each input, as columns of an audit."""

import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset.boundary import Curvature, GaussianSmoothing, Lanczos, SoftplusSurrogate, curvature
from levelset.boundary._second_order._smoothing import Smoothing
from levelset.boundary._second_order._surrogate import calls_relu
from levelset.errors import FieldError
from levelset.fields import LogitDifference

__all__ = ["SMOOTHINGS", "curvature_columns"]

SMOOTHINGS = ("exact", "softplus", "gaussian")
"""What stood for the second derivative, by the number in the column `curvature_smoothing`."""

# Sharpness of the softplus, and width of the noise as a share of the range of the inputs.
_BETA, _WIDTH, _DRAWS = 5.0, 0.1, 100
_METHOD = Lanczos(products=20, mean_products=20)
_NAMES = ("curvature_largest", "curvature_smallest", "curvature_mean", "curvature_mean_error")


def curvature_columns(
    model: nn.Module,
    points: Tensor,
    span: float,
    batch_size: int | None,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return the curvatures of the level set of prediction against runner-up through each input.

    A ReLU network is measured through its softplus surrogate, a smooth one as it is, one whose
    ReLUs are hidden (or that is linear) under noise of a tenth of the range. NaN where no level set
    passes: the two logits have the same gradient.
    """
    field = LogitDifference(model)
    with frozen(model):
        pairs = Evaluator("audit", model, batch_size).values(points).topk(2, dim=1).indices
        rows = _with_slope(field, points, pairs, batch_size)
        smoothing: Smoothing | None = None
        if calls_relu(model, points[:1]):
            smoothing = SoftplusSurrogate(_BETA)

        def measure(used: Smoothing | None) -> Curvature:
            return curvature(
                field, points[rows], labels=pairs[rows], count=1, ends="both", smoothing=used,
                level=None, method=_METHOD, batch_size=batch_size, generator=generator,
            )  # fmt: skip

        columns = {name: points.new_full((len(points),), torch.nan) for name in _NAMES}
        if len(rows):
            try:
                found = measure(smoothing)
            except FieldError:  # no second derivative, or none but zero
                smoothing = GaussianSmoothing(_WIDTH * span, _DRAWS)
                found = measure(smoothing)
            ends = (found.principal[:, 0], found.principal[:, -1], found.mean, found.mean_error)
            for name, values in zip(_NAMES, ends, strict=True):
                columns[name][rows] = values
    columns["curvature_rival"] = pairs[:, 1]
    columns["curvature_smoothing"] = torch.full_like(pairs[:, 0], _number(smoothing))
    return columns


def _with_slope(
    field: LogitDifference, points: Tensor, pairs: Tensor, batch_size: int | None
) -> Tensor:
    """Return the rows where the field has a gradient, and points more than one number."""
    slope = Evaluator("audit", field, batch_size).value_and_jacobian(points, pairs)[1].flatten(1)
    least = torch.finfo(points.dtype).tiny ** 0.5
    rows = (slope.norm(dim=1) > least).nonzero().flatten()
    return rows if slope.shape[1] > 1 else rows[:0]


def _number(smoothing: Smoothing | None) -> int:
    if smoothing is None:
        return 0
    return 1 if isinstance(smoothing, SoftplusSurrogate) else 2
