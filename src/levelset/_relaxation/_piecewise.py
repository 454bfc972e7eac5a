"""Networks that are affine on each of finitely many regions."""

from typing import Any

import torch
from torch import Tensor

from levelset._relaxation._curves import Largest
from levelset._relaxation._program import Program
from levelset._relaxation._trace import Purpose, trace
from levelset._tools.rounding import resolution
from levelset.errors import FieldError

__all__ = ["PIECEWISE", "AffinePieces", "in_single", "read_piecewise"]

PIECEWISE = (
    "Linear, Conv2d, BatchNorm, ReLU, LeakyReLU, Hardtanh, ReLU6, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, Flatten, Dropout, Identity, ZeroPad2d and the other paddings of images; "
    "branches that are added or joined; a softmax or sigmoid at the end"
)
"""The layers that are known to be affine on regions."""

_LACKS = "which is not known to be piecewise linear"


def read_piecewise(
    function: str, model: Any, point: Tensor, values: Tensor, remedy: str, argument: str = "model"
) -> Program:
    """Return the steps of a piecewise linear network, in the dtype of a point.

    Args:
        function: Name of the public function at work, for messages.
        model: The network.
        point: An input, `(1, *d)`, in the dtype in which to evaluate the steps.
        values: What the model returns for it, `(1, k)`.
        remedy: What messages advise for other networks.
        argument: What the caller calls the model.

    Raises:
        FieldError: If it is no module, if its code cannot be traced, or if it has a layer that is
            smooth or not known.
    """
    program = trace(function, model, point, Purpose(_LACKS, PIECEWISE, f" {remedy}", argument))
    needed = program.needed
    for index, step in enumerate(program.steps):
        operation = step.operation
        pieces = operation.is_affine or isinstance(operation, Largest) or operation.kinks
        if index + 1 in needed and not pieces:
            message = (
                f"{function}: `{argument}` must be piecewise linear, but has {step.name}, which is "
                f"smooth. Supported: {PIECEWISE}. {remedy}"
            )
            raise FieldError(message)
    if not program.agrees(point, values.to(point), resolution(model, values) / 2):
        message = (
            f"{function}: `{argument}` returns something else than its layers do one after "
            "another. Does it have hooks, a `forward` of its own, write into what it reads again, "
            f"or branch on values? {remedy}"
        )
        raise FieldError(message)
    return program


def in_single(function: str, model: Any, point: Tensor) -> Program:
    """Return in float32 the steps of a network that `read_piecewise` has read."""
    return trace(function, model, point.float(), Purpose(_LACKS, PIECEWISE, "", "model"))


class AffinePieces:
    """The affine maps of a network without pooling, by which of its units are above their kinks.

    Args:
        program: The network, piecewise linear.
        point: Any input, `(1, d)`, which says how many there are.

    Attributes:
        units: Units in all layers, times the kinks of each.
    """

    def __init__(self, program: Program, point: Tensor) -> None:
        self._program = program
        dim = point.shape[1]
        self._basis = torch.cat([torch.zeros_like(point), torch.eye(dim).to(point)]).unsqueeze(0)
        nodes = program.values(point)
        self._bends: list[tuple[int, tuple[int, ...], tuple[float, ...]]] = []
        self.units = 0
        for index, step in enumerate(program.steps):
            if index + 1 in nodes and not step.operation.is_affine:
                kinks = step.operation.kinks or ()
                self._bends.append((index, tuple(nodes[step.inputs[0]].shape[1:]), kinks))
                self.units += len(kinks) * nodes[step.inputs[0]].numel()
        self._offsets = {
            index + 1: step.operation.apply([torch.zeros_like(nodes[i]) for i in step.inputs])
            for index, step in enumerate(program.steps)
            if index + 1 in nodes and step.operation.is_affine
        }

    def above(self, points: Tensor) -> Tensor:
        """Return which units are above their kinks at points `(n, d)`, `(n, units)`."""
        nodes = self._program.values(points)
        return torch.cat(
            [
                nodes[self._program.steps[index].inputs[0]].flatten(1) > kink
                for index, _, kinks in self._bends
                for kink in kinks
            ],
            dim=1,
        )

    def maps(self, above: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the affine maps where units are above their kinks as said.

        Args:
            above: `(n, units)`.

        Returns:
            By how much units are above their kinks, layer by layer, `(n or 1, 1 + d, u)` each: at
            the input 0, then the slopes; and the same for the outputs, `(n, 1 + d, k)`.
        """
        n, program = len(above), self._program
        nodes, gaps = {0: self._basis}, []
        bends = iter(self._bends)
        place = 0
        for index, step in enumerate(program.steps):
            node = index + 1
            if node in self._offsets:
                parts = [nodes[i] for i in step.inputs]
                rows = max(len(part) for part in parts)
                parts = [part.expand(rows, *part.shape[1:]).flatten(0, 1) for part in parts]
                moved = step.operation.apply_linear(parts)
                nodes[node] = moved.view(rows, -1, *moved.shape[1:])
                nodes[node][:, 0] += self._offsets[node]
            elif node in program.needed:
                _, shape, kinks = next(bends)
                value = nodes[step.inputs[0]]
                masks = []
                for kink in kinks:
                    gap = value.flatten(2)
                    if kink:
                        gap = gap.clone()
                        gap[:, 0] -= kink
                    gaps.append(gap)
                    masks.append(above[:, place : place + gap.shape[2]].view(n, *shape))
                    place += gap.shape[2]
                slope, offset = step.operation.piece(masks)
                nodes[node] = value * slope.unsqueeze(1)
                if isinstance(offset, Tensor):
                    nodes[node][:, 0] += offset
        end = nodes[program.output].flatten(2)
        return gaps, end.expand(n, -1, -1)
