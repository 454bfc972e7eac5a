r"""The inner loop of everything: values and derivatives of a field, at the network's own speed.

Rows are evaluated in batches that stay in cache, images in channels-last strides; parameters get no
gradient; a row whose derivative nobody asks for costs no backward pass when its batch allows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import torch
from torch import Tensor

from levelset._tools.batches import row_batches, swift_batch
from levelset._tools.calling import FAILURES, Caller, tensor_of, undifferentiable
from levelset._tools.memory import Room
from levelset._typing import Field
from levelset.errors import FieldError, NoGradientError

__all__ = ["Evaluator"]

Wanted = Callable[[Tensor], Tensor]

# A backward pass costs about 1.7 forward passes, so doing both again for a share of the rows is
# cheaper than one backward pass for all of them while the share is below 1.7 / 2.7.
_WORTH_POSTPONING = 0.5


@dataclass(eq=False)
class Evaluator:
    """Evaluates one field, in batches, and counts what it costs.

    Attributes:
        function: Name of the public function at work, for messages.
        field: The field; maps `(n, *d)` to `(n,)` or `(n, l)`.
        batch_size: Most rows an evaluation; `None` for the fastest.
        forwards: Rows evaluated so far.
        backwards: Rows differentiated so far, times the equations.
    """

    function: str
    field: Field
    batch_size: int | None = None
    forwards: int = 0
    backwards: int = 0
    _caller: Caller = dataclass_field(init=False, repr=False)
    _swift: dict[torch.Size, int] = dataclass_field(init=False, repr=False, default_factory=dict)
    _room: Room = dataclass_field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin to know how the field wants to be called."""
        self._caller, self._room = Caller(self.function, self.field), Room(self.function)

    def outputs(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return what the field returns, `(n, *)`, without any graph."""
        with torch.no_grad():
            parts = [self._call(points[r], _rows(labels, r)) for r in self._batches(points)]
        return torch.cat(parts) if parts else self._empty(points, labels)

    def values(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the values `(n, l)`, without any graph."""
        return _as_equations(self.outputs(points, labels))

    def value_and_jacobian(
        self, points: Tensor, labels: Tensor | None = None, *, wanted: Wanted | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return values `(n, l)` and derivatives `(n, l, e)`, e the size of one point.

        Args:
            points: Where, `(n, *d)`.
            labels: Passed to the field.
            wanted: Takes the values `(m, l)` of a batch and returns which rows need a derivative,
                `(m,)`; a batch in which none does is not differentiated, and its derivatives are
                returned as zeros. The few that do in a batch of many that do not are put off
                and differentiated together, when that is cheaper.
        """
        values, jacobians, postponed = [], [], []

        def part(rows: slice) -> tuple[Tensor, Tensor, Tensor | None]:
            return self._differentiate(points[rows], _rows(labels, rows), wanted)

        size = self._size(points)
        for rows, (value, jacobian, late) in self._room.batches(len(points), size, part):
            values.append(value)
            jacobians.append(jacobian)
            if late is not None:
                postponed.append(rows.start + late)
        if not values:
            empty = _as_equations(self._empty(points, labels))
            return empty, points.new_zeros(0, empty.shape[1], points[0:0].flatten(1).shape[1])
        value, jacobian = torch.cat(values), torch.cat(jacobians)
        if postponed:
            late = torch.cat(postponed)
            _, jacobian[late] = self.value_and_jacobian(
                points[late], None if labels is None else labels[late]
            )
        return value, jacobian

    def _differentiate(
        self, points: Tensor, labels: Tensor | None, wanted: Wanted | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, derivatives, and the rows whose derivatives are still owed."""
        with torch.enable_grad():
            # Requiring the gradient on the copy in the network's layout spares a copy back.
            leaf = self._caller.laid_out(points.detach()).requires_grad_()
            values = _as_equations(self._call(leaf, labels, owned=True))
            detached = values.detach()
            if wanted is not None:
                late = wanted(detached).nonzero().flatten()
                if len(late) <= _WORTH_POSTPONING * len(points):
                    nothing = detached.new_zeros(*detached.shape, points[0].numel())
                    return detached, nothing, late if len(late) else None
            if not values.requires_grad:
                # Under inference mode it is the call that has no gradients, not the field: that
                # must not pass for a field to be measured without them.
                inference = torch.is_inference_mode_enabled()
                kind = FieldError if inference else NoGradientError
                raise kind(undifferentiable(self.function))
            jacobian = _rows_of_jacobian(values, leaf)
        self.backwards += values.numel()
        return detached, jacobian, None

    def _batches(self, points: Tensor) -> Iterator[slice]:
        return row_batches(len(points), self._size(points))

    def _size(self, points: Tensor) -> int:
        """Return how many rows to evaluate at once."""
        # Looked up once: it goes through every module, which counts beside a batch of few rows.
        shape = points.shape[1:]
        size = self._swift.get(shape) if points.device.type == "cpu" and len(points) else None
        if size is None:
            size = swift_batch(self.field, points)
            if len(points):
                self._swift[shape] = size
        return size if self.batch_size is None else min(size, self.batch_size)

    def _call(self, points: Tensor, labels: Tensor | None, *, owned: bool = False) -> Tensor:
        out = self._caller(points, labels, owned=owned)
        self.forwards += len(points)
        return self._checked(out, points)

    def _checked(self, out: Any, points: Tensor) -> Tensor:
        out = tensor_of(self.function, "field", out, len(points))
        if out.dim() not in (1, 2) or len(out) != len(points):
            message = (
                f"{self.function}: `field` must map points {tuple(points.shape)} to "
                f"({len(points)},) or ({len(points)}, l), got {tuple(out.shape)}."
            )
            raise FieldError(message)
        if not out.is_floating_point():
            message = f"{self.function}: `field` must return floating point, got {out.dtype}."
            raise FieldError(message)
        return out.to(points.dtype)  # mixed precision inside a field is its own affair

    def _empty(self, points: Tensor, labels: Tensor | None) -> Tensor:
        """Return what the field makes of no rows, or one equation if it takes none."""
        try:
            with torch.no_grad():
                out = self.field(points) if labels is None else self.field(points, labels)
        except FAILURES:
            return points.new_zeros(0)
        is_field = isinstance(out, Tensor) and out.dim() in (1, 2) and len(out) == 0
        return out if is_field else points.new_zeros(0)


def _rows_of_jacobian(values: Tensor, leaf: Tensor) -> Tensor:
    """Return `(n, l, e)`: one backward pass an equation."""
    gradients = []
    equations = values.shape[1]
    for j in range(equations):
        (gradient,) = torch.autograd.grad(
            values[:, j].sum(), leaf, retain_graph=j + 1 < equations, materialize_grads=True
        )
        gradients.append(gradient.contiguous().flatten(1))
    return gradients[0].unsqueeze(1) if equations == 1 else torch.stack(gradients, dim=1)


def _as_equations(out: Tensor) -> Tensor:
    return out.unsqueeze(1) if out.dim() == 1 else out


def _rows(labels: Tensor | None, rows: slice) -> Tensor | None:
    return None if labels is None else labels[rows]
