r"""The inner loop of everything: values and derivatives of a field, at the network's own speed.

Rows go through in batches that stay in cache, images in channels-last strides; parameters get no
gradient; a row whose derivative nobody asks for costs no backward pass when its batch allows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import torch
from torch import Tensor

from levelset._tools.batches import row_batches, swift_batch
from levelset._typing import Field
from levelset.errors import FieldError

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
    _swift_layout: bool = dataclass_field(default=True, repr=False)

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
            labels: Handed on to the field.
            wanted: Takes the values `(m, l)` of a batch and returns which rows need a derivative,
                `(m,)`; a batch in which none does is not differentiated, and its derivatives are
                returned as zeros. The few that do in a batch of many that do not are put off
                and differentiated together, when that is cheaper.
        """
        values, jacobians, postponed = [], [], []
        for rows in self._batches(points):
            value, jacobian, late = self._differentiate(points[rows], _rows(labels, rows), wanted)
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
            part = None if labels is None else labels[late]
            _, jacobian[late] = self.value_and_jacobian(points[late], part)
        return value, jacobian

    def _differentiate(
        self, points: Tensor, labels: Tensor | None, wanted: Wanted | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values, derivatives, and the rows whose derivatives are still owed."""
        with torch.enable_grad():
            # Requiring the gradient on the copy in the network's layout spares a copy back.
            leaf = self._laid_out(points.detach()).requires_grad_()
            values = _as_equations(self._call(leaf, labels, prepared=True))
            detached = values.detach()
            if wanted is not None:
                late = wanted(detached).nonzero().flatten()
                if len(late) <= _WORTH_POSTPONING * len(points):
                    nothing = detached.new_zeros(*detached.shape, points[0].numel())
                    return detached, nothing, late if len(late) else None
            if not values.requires_grad:
                message = (
                    f"{self.function}: `field` must be differentiable in its points, but its "
                    "values carry no gradient. Does it detach them, or run without gradients?"
                )
                raise FieldError(message)
            jacobian = _rows_of_jacobian(values, leaf)
        self.backwards += values.numel()
        return detached, jacobian, None

    def _batches(self, points: Tensor) -> Any:
        size = swift_batch(self.field, points)
        if self.batch_size is not None:
            size = min(size, self.batch_size)
        return row_batches(len(points), size)

    def _laid_out(self, points: Tensor) -> Tensor:
        """Return a copy of the points in the strides that convolutions run fastest on."""
        if not self._swift_layout or points.dim() != 4 or points.device.type != "cpu":
            return points.clone(memory_format=torch.contiguous_format)
        n, c, h, w = points.shape
        # Written out because `channels_last` is ambiguous, and so ignored, for one channel.
        copy = torch.empty_strided(
            (n, c, h, w), (c * h * w, 1, w * c, c), dtype=points.dtype, device=points.device
        )
        return copy.copy_(points)

    def _call(self, points: Tensor, labels: Tensor | None, *, prepared: bool = False) -> Tensor:
        given = points if prepared and self._swift_layout else self._laid_out(points)
        arguments = (given,) if labels is None else (given, labels)
        try:
            out = self.field(*arguments)
        except RuntimeError as error:
            out = self._call_plainly(points, labels, error)
        self.forwards += len(points)
        return self._checked(out, points)

    def _call_plainly(self, points: Tensor, labels: Tensor | None, error: RuntimeError) -> Tensor:
        """Call again on an ordinary copy, which some fields need.

        Those that `view` activations need the ordinary strides; those that begin by writing into
        their input need one that is no leaf of the graph.
        """
        if not self._swift_layout:
            raise self._broken(points, error) from error
        self._swift_layout = False
        # A copy, still tied to the leaf if there is one: `contiguous` keeps channels-last strides
        # where there is one channel, and activations would inherit them.
        plain = points.clone(memory_format=torch.contiguous_format)
        try:
            return self.field(plain) if labels is None else self.field(plain, labels)
        except RuntimeError as second:
            raise self._broken(points, second) from second

    def _broken(self, points: Tensor, error: RuntimeError) -> FieldError:
        where = [(t.device, t.dtype) for t in _tensors(self.field)]
        model = f" with parameters on {where[0][0]} of {where[0][1]}" if where else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = (
            f"{self.function}: `field`{model} failed on points of shape {tuple(points.shape)} on "
            f"{points.device} of {points.dtype}: {reason}"
        )
        return FieldError(message)

    def _checked(self, out: Tensor, points: Tensor) -> Tensor:
        if not isinstance(out, Tensor):
            message = f"{self.function}: `field` must return a tensor, got {type(out).__name__}."
            raise FieldError(message)
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
        except (RuntimeError, IndexError):
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


def _tensors(field: Any) -> list[Tensor]:
    if not isinstance(field, torch.nn.Module):
        return []
    return [t for t in (*field.parameters(), *field.buffers()) if t.is_floating_point()]
