"""Networks that are affine on each of finitely many regions."""

from typing import Any

from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._program import Program
from levelset._relaxation._trace import Purpose, trace
from levelset._tools.rounding import resolution
from levelset.errors import FieldError

__all__ = ["PIECEWISE", "read_piecewise"]

PIECEWISE = (
    "Linear, Conv2d, BatchNorm, ReLU, LeakyReLU, Hardtanh, ReLU6, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, Flatten, Dropout, Identity, ZeroPad2d and the other paddings of images; "
    "branches that are added or joined; a softmax or sigmoid at the end"
)
"""The layers that are known to be affine on regions."""


def read_piecewise(
    function: str, model: Any, point: Tensor, values: Tensor, remedy: str
) -> Program:
    """Return the steps of a piecewise linear network, in the dtype of a point.

    Args:
        function: Name of the public function at work, for messages.
        model: The network.
        point: An input, `(1, *d)`, in the dtype in which to evaluate the steps.
        values: What the model returns for it, `(1, k)`.
        remedy: What messages advise for other networks.

    Raises:
        FieldError: If it is no module, if its code cannot be traced, or if it has a layer that is
            smooth or not known.
    """
    lacks = "which is not known to be piecewise linear"
    program = trace(function, model, point, Purpose(lacks, PIECEWISE, f" {remedy}"))
    needed = program.needed
    for index, step in enumerate(program.steps):
        operation = step.operation
        pieces = operation.is_affine or isinstance(operation, Largest) or operation.kinks
        if index + 1 in needed and not pieces:
            message = (
                f"{function}: `model` must be piecewise linear, but has {step.name}, which is "
                f"smooth. Supported: {PIECEWISE}. {remedy}"
            )
            raise FieldError(message)
    if not program.agrees(point, values.to(point), resolution(model, values) / 2):
        message = (
            f"{function}: `model` returns something else than its layers do one after another. "
            "Does it have hooks, a `forward` of its own, write into what it reads again, or branch "
            f"on values? {remedy}"
        )
        raise FieldError(message)
    return program
