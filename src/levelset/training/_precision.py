"""The precision in which a loss evaluates the model that it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from levelset.errors import ParameterError

__all__ = ["Precision", "check_precision", "in_precision"]

Precision: TypeAlias = Literal["full", "bfloat16"]
"""`full`: that of parameters and points; `bfloat16`: products and convolutions in 16 bits."""


def check_precision(model: nn.Module, points: Tensor, precision: Precision) -> None:
    """Refuse 16 bits for a model that is not trained in float32.

    Raises:
        ParameterError: If so.
    """
    others = {p.dtype for p in (*model.parameters(), points)} - {torch.float32}
    if precision == "bfloat16" and others:
        message = (
            "train: `precision='bfloat16'` is for models and points in float32, got "
            f"{', '.join(sorted(map(str, others)))}. Convert them by `.float()`, or leave out "
            "`precision`."
        )
        raise ParameterError(message)


@contextmanager
def in_precision(model: nn.Module, precision: Precision) -> Iterator[None]:
    """Evaluate a model in a precision; what it returns has that of its parameters in either.

    Weights are converted anew at every pass: a conversion made while they are frozen, in a search
    for samples, would have no gradient for the passes after it.

    Args:
        model: In float32; its parameters and their gradients stay so.
        precision: `full` changes nothing.
    """
    if precision == "full":
        yield
        return
    kind = next(model.parameters()).device.type
    hook = model.register_forward_hook(_widened)
    try:
        with torch.autocast(kind, torch.bfloat16, cache_enabled=False):
            yield
    finally:
        hook.remove()


def _widened(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """Return the output in float32: differences of logits would have two digits left."""
    return output.float() if isinstance(output, Tensor) else output
