"""The logits of inputs, with their graph, and the loss of each input from them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from levelset._logits import AsLogits
from levelset._tools.checks import check_labels, check_points
from levelset.errors import FieldError

__all__ = ["cross_entropies", "logits_of"]


def logits_of(function: str, model: Any, points: Tensor, labels: Tensor) -> Tensor:
    """Return the logits `(n, k)` of inputs in the mode that the model is in, with their graph.

    One output a point and probabilities are read as everywhere: as (0, f), and as the logits
    behind them.

    Raises:
        FieldError: If the model returns something else.
        ParameterError: If a label is out of range.
    """
    check_points(function, points)
    reader = model if isinstance(model, AsLogits) else AsLogits(model)
    with torch.enable_grad():
        logits = reader.read(function, points)
    if not logits.is_floating_point():
        message = f"{function}: `model` must return logits ({len(points)}, k), got class labels."
        raise FieldError(message)
    check_labels(function, labels, points, logits.shape[1])
    return logits


def cross_entropies(function: str, model: Any) -> Any:
    """Return the cross-entropy of each input as a field of inputs and labels."""

    def field(points: Tensor, labels: Tensor) -> Tensor:
        logits = logits_of(function, model, points, labels)
        return functional.cross_entropy(logits, labels, reduction="none")

    return field
