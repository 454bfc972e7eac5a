"""What a model answers on the inputs of an audit: logits, or labels where those are enough."""

from collections.abc import Sequence

import torch
from torch import Tensor

from levelset._probes import check_classifier
from levelset._tools.batches import row_batches, swift_batch
from levelset._tools.calling import Caller
from levelset._tools.checks import check_labels, first_rows
from levelset._tools.evaluation import Evaluator
from levelset._typing import Model
from levelset.auditing._measure import Column
from levelset.errors import FieldError

__all__ = ["ANSWERS", "answers", "first_answers"]

ANSWERS = (
    Column("index", "place of the input in the data, from 0", kind="integer"),
    Column("label", "its class", kind="class"),
    Column("prediction", "what the model answers", kind="class"),
    Column("correct", "whether the two agree", kind="bool"),
    Column(
        "margin",
        "score of the label less the best other score; NaN if the model answers labels",
        "unit of the logits",
    ),
)
"""The columns that every audit has."""

_PROBED = 4
_MOST_CLASSES = 2**31


def first_answers(
    model: Model,
    points: Tensor,
    labels: Tensor,
    measures: Sequence[str],
    batch_size: int | None,
) -> Tensor:
    """Return the logits `(n, k)` on all inputs, or the labels `(n,)` of a model that answers those.

    Raises:
        FieldError: If the answers are unfit: labels do for persistence alone.
        ParameterError: If labels of the data are out of range.
        ShapeError: If labels of the data have another shape or dtype.
    """
    if _answers_labels(model, points, measures):
        check_labels("audit", labels, points, _MOST_CLASSES)
        return _labels(model, points, batch_size)
    return _logits(model, points, labels, batch_size)


def answers(logits: Tensor, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
    """Return the columns that every audit has: what the model answers, and by what margin.

    The margin is NaN where the model answers labels.
    """
    if logits.dim() == 1:
        prediction = logits
        margin = torch.full_like(logits, torch.nan, dtype=torch.float32)
    else:
        prediction = logits.argmax(1)
        own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
        margin = own - logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
    return {
        "index": index,
        "label": labels,
        "prediction": prediction,
        "correct": prediction == labels,
        "margin": margin,
    }


def _answers_labels(model: Model, points: Tensor, measures: Sequence[str]) -> bool:
    """Return whether the model answers labels; refuse it where logits are needed."""
    first = points[:_PROBED]
    with torch.no_grad():
        out = Caller("audit", model, "model")(first)
    if out.is_floating_point():
        return False
    if out.shape == (len(first),) and set(measures) == {"persistence"}:
        return True
    message = (
        "audit: `model` must return floating-point logits (n, k) to measure "
        f"{' and '.join(measures)}, got {tuple(out.shape)} of {out.dtype} for {len(first)} "
        "inputs. Give a model that returns logits; labels (n,) are enough for persistence alone."
    )
    raise FieldError(message)


def _labels(model: Model, points: Tensor, batch_size: int | None) -> Tensor:
    size = swift_batch(model, points, gradient=False)
    size = size if batch_size is None else min(size, batch_size)
    caller = Caller("audit", model, "model")
    with torch.no_grad():
        labels = torch.cat([caller(points[rows]) for rows in row_batches(len(points), size)])
    if bool((labels < 0).any()):
        message = f"audit: `model` must return labels of at least 0, got {int(labels.min())}."
        raise FieldError(message)
    return labels.long()


def _logits(model: Model, points: Tensor, labels: Tensor, batch_size: int | None) -> Tensor:
    """Return the model's logits on all inputs, once they and it are known to be sound."""
    logits = Evaluator("audit", model, batch_size).values(points)
    bad = ~logits.isfinite().all(1)
    if bad.any():
        message = (
            f"audit: `model` must return finite logits, got NaN or infinity for "
            f"{int(bad.sum())} of {len(bad)} inputs (first: {first_rows(bad)}). "
            "Check its weights and the scale of the inputs."
        )
        raise FieldError(message)
    check_labels("audit", labels, points, logits.shape[1])
    check_classifier(model, points[:_PROBED]).raise_if_unfit()
    return logits
