"""Second derivatives of a field at a batch of points, as operators: gradient, product, matrix."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from levelset._tools.batches import row_batches, swift_batch
from levelset._tools.calling import Caller, tensor_of, undifferentiable
from levelset._tools.convolutions import LinearConvolutions
from levelset._tools.evaluation import Evaluator
from levelset._tools.random import Streams
from levelset._typing import Field
from levelset.boundary._second_order._refusals import check_gradient
from levelset.boundary._second_order._smoothing import (
    CentralDifference,
    ForwardDifference,
    GaussianSmoothing,
    Smoothing,
)
from levelset.boundary._second_order._surrogate import Softened
from levelset.errors import FieldError, ParameterError

__all__ = ["Hessian", "Noisy", "hessian_of", "one_equation", "points_together"]

# Copies of one point in one second-order pass, in numbers: 56 of an MNIST image. Measured on LeNet:
# with 28 the fixed cost of each operation is a fifth of all, with 112 nothing more is gained.
_COPIED_ELEMENTS = 44_000


@runtime_checkable
class Hessian(Protocol):
    """The second derivative of a field at `m` points of size `e`."""

    values: Tensor
    gradient: Tensor

    def product(self, vectors: Tensor) -> Tensor:
        """Return H v for one vector a point, `(m, e)`."""

    def dense(self) -> Tensor:
        """Return the matrices `(m, e, e)`, symmetric."""


def hessian_of(
    function: str,
    field: Field,
    points: Tensor,
    labels: Tensor | None,
    smoothing: Smoothing | None,
    *,
    rows: Tensor,
    streams: Streams | None = None,
    tangential: bool = True,
) -> Hessian:
    """Return the operator that a smoothing defines.

    Args:
        function: Name of the public function at work, for messages.
        field: The field, of one equation.
        points: Where, `(m, *d)`.
        labels: Handed on to the field.
        smoothing: What stands for the second derivative; `None` for the exact one.
        rows: Numbers of the points among all, `(m,)`, for messages and random streams.
        streams: Random numbers by point; only Gaussian smoothing draws.
        tangential: Whether differences are taken along the projected axes, or along the axes.
    """
    if isinstance(smoothing, CentralDifference | ForwardDifference):
        _check_shift(function, points, "h", smoothing.h)
        found: Hessian = _Differences(function, field, points, labels, smoothing, tangential)
    elif isinstance(smoothing, GaussianSmoothing):
        assert streams is not None, "Gaussian smoothing draws"
        _check_shift(function, points, "sigma", smoothing.sigma)
        found = Noisy(function, field, points, labels, smoothing, rows, streams)
    else:
        called = field if smoothing is None else Softened(function, field, smoothing.beta)
        found = _Autograd(function, called, points, labels)
    if tangential:
        check_gradient(function, found.gradient, rows)
    return found


def _check_shift(function: str, points: Tensor, name: str, shift: float) -> None:
    """Refuse shifts that the dtype of the points would round by a tenth or more."""
    least = 5.0 * torch.finfo(points.dtype).eps * float(points.abs().max())
    if shift < least:
        message = (
            f"{function}: `{name}` must be at least {least:.2g} for points of {points.dtype} with "
            f"entries up to {float(points.abs().max()):.3g}, got {shift:g}, which is lost in their "
            "rounding. Take a larger one, or give points and model in float64."
        )
        raise ParameterError(message)


class _Autograd:
    """The exact second derivative: the graph of the gradient is kept, each product reads it."""

    def __init__(self, function: str, called: Field, points: Tensor, labels: Tensor | None) -> None:
        self.function, self.caller = function, Caller(function, called)
        self.points, self.labels = points, labels
        self.leaf, values, self.graph = self._differentiate(points, labels)
        self.values, self.gradient = values, self.graph.detach().flatten(1)

    def product(self, vectors: Tensor) -> Tensor:
        return self._backward(self.graph, self.leaf, vectors.view_as(self.leaf)).flatten(1)

    def dense(self) -> Tensor:
        m, e = self.gradient.shape
        together = max(_COPIED_ELEMENTS // e, 8)
        if m >= together:  # many small points: each axis for all of them at once
            axes = torch.eye(e, dtype=self.gradient.dtype, device=self.gradient.device)
            found = torch.stack([self.product(axis.expand(m, e)) for axis in axes], dim=2)
        else:
            found = torch.stack([self._matrix(row, min(together, e)) for row in range(m)])
        return (found + found.transpose(1, 2)) / 2

    def _matrix(self, row: int, together: int) -> Tensor:
        """Return the matrix `(e, e)` of one point, from one graph of several copies of it."""
        copies = self.points[row : row + 1].expand(together, *self.points.shape[1:])
        labels = self.labels
        if labels is not None:
            labels = labels[row : row + 1].expand(together, *labels.shape[1:])
        leaf, _, graph = self._differentiate(copies, labels)
        e = leaf[0].numel()
        axes = torch.eye(e, dtype=leaf.dtype, device=leaf.device)
        parts = []
        for rows in row_batches(e, together):
            part = leaf.new_zeros(together, e)
            part[: rows.stop - rows.start] = axes[rows]
            products = self._backward(graph, leaf, part.view_as(leaf)).flatten(1)
            parts.append(products[: rows.stop - rows.start])
        return torch.cat(parts)

    def _differentiate(
        self, points: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = points.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            with LinearConvolutions():  # no leaf, for fields that write into their input
                out = self.caller(leaf.clone(), labels, owned=True)
            out = tensor_of(self.function, "field", out, len(points))
            values = one_equation(self.function, out, points)
            if not values.requires_grad:
                raise FieldError(undifferentiable(self.function))
            (gradient,) = torch.autograd.grad(
                values.sum(), leaf, create_graph=True, materialize_grads=True
            )
        return leaf, values.detach(), gradient

    def _backward(self, graph: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
        if not graph.requires_grad:  # the gradient does not depend on the points
            return torch.zeros_like(leaf)
        try:
            (found,) = torch.autograd.grad(
                graph, leaf, vectors, retain_graph=True, materialize_grads=True
            )
        except RuntimeError as error:
            message = (
                f"{self.function}: `field` must be twice differentiable in its points, but its "
                f"gradient is not: {str(error).splitlines()[0]} Give `smoothing=CentralDifference("
                "h)` or `GaussianSmoothing(sigma)`, which need its gradient only."
            )
            raise FieldError(message) from error
        return found


class _Differences:
    """The matrix of differences of the gradient along the (projected) axes."""

    def __init__(
        self, function: str, field: Field, points: Tensor, labels: Tensor | None,
        smoothing: CentralDifference | ForwardDifference, tangential: bool,
    ) -> None:  # fmt: skip
        self.evaluator = Evaluator(function, field)
        self.points, self.labels, self.smoothing = points, labels, smoothing
        self.tangential = tangential
        values, jacobian = self.evaluator.value_and_jacobian(points, labels)
        self.values = one_equation(function, values, points)
        self.gradient = jacobian[:, 0]
        self._found: Tensor | None = None

    def product(self, vectors: Tensor) -> Tensor:
        return torch.bmm(self.dense(), vectors.unsqueeze(2)).squeeze(2)

    def dense(self) -> Tensor:
        if self._found is None:
            self._found = torch.stack([self._matrix(row) for row in range(len(self.points))])
        return self._found

    def _matrix(self, row: int) -> Tensor:
        gradient = self.gradient[row]
        steps = torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
        if self.tangential:
            unit = gradient / gradient.norm()
            steps = steps - torch.outer(unit, unit)
        h = self.smoothing.h
        ahead = self._gradients(row, h * steps)
        if isinstance(self.smoothing, CentralDifference):
            slopes = (ahead - self._gradients(row, -h * steps)) / (2.0 * h)
        else:
            slopes = (ahead - gradient) / h
        found = slopes @ steps  # entry (l, k): the slope along v_l, read along v_k
        return (found + found.T) / 2

    def _gradients(self, row: int, shifts: Tensor) -> Tensor:
        shifted = self.points[row] + shifts.view(-1, *self.points.shape[1:])
        labels = self.labels
        if labels is not None:
            labels = labels[row : row + 1].expand(len(shifted), *labels.shape[1:])
        return self.evaluator.value_and_jacobian(shifted, labels)[1][:, 0]


class Noisy:
    """The second derivative of the field under Gaussian noise, by Stein's lemma."""

    def __init__(
        self, function: str, field: Field, points: Tensor, labels: Tensor | None,
        smoothing: GaussianSmoothing, rows: Tensor, streams: Streams,
    ) -> None:  # fmt: skip
        m, draws, sigma = len(points), smoothing.draws, smoothing.sigma
        evaluator = Evaluator(function, field)
        self.values = one_equation(function, evaluator.values(points, labels), points)
        self.noise = streams.normal(rows, (draws, *points.shape[1:]))
        repeated = None if labels is None else labels.repeat_interleave(draws, 0)
        sides = []
        for sign in (1.0, -1.0):
            moved = (points.unsqueeze(1) + sign * sigma * self.noise).flatten(0, 1)
            sides.append(evaluator.value_and_jacobian(moved, repeated)[1].view(m, draws, -1))
        self.noise = self.noise.flatten(2)
        self.slopes = (sides[0] - sides[1]) / (2.0 * sigma)
        self.gradient = (sides[0] + sides[1]).mean(1) / 2.0

    def product(self, vectors: Tensor) -> Tensor:
        found = self._half(self.noise, self.slopes, vectors)
        return found + self._half(self.slopes, self.noise, vectors)

    def dense(self) -> Tensor:
        found = self.noise.transpose(1, 2) @ self.slopes / self.noise.shape[1]
        return (found + found.transpose(1, 2)) / 2

    def trace(self, unit: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the trace and its standard error over the draws, `(m,)` each.

        Of H, or of P H P where a unit normal is given.
        """
        each = (self.noise * self.slopes).sum(2)
        if unit is not None:
            normal = unit.unsqueeze(2)
            each = each - (self.noise @ normal).squeeze(2) * (self.slopes @ normal).squeeze(2)
        return each.mean(1), each.std(1) / each.shape[1] ** 0.5

    @staticmethod
    def _half(left: Tensor, right: Tensor, vectors: Tensor) -> Tensor:
        weights = right @ vectors.unsqueeze(2)
        return (weights * left).mean(1) / 2.0


def one_equation(function: str, out: Tensor, points: Tensor) -> Tensor:
    """Return the values `(m,)` of a field of one equation, in the dtype of the points."""
    if out.shape == (len(points), 1):
        out = out[:, 0]
    if out.shape != (len(points),):
        message = (
            f"{function}: `field` must return one value a point, ({len(points)},), got "
            f"{tuple(out.shape)}. Of a classifier take Margin or LogitDifference."
        )
        raise FieldError(message)
    return out.to(points.dtype)


def points_together(field: Field, points: Tensor, batch_size: int | None, kept: int) -> int:
    """Return how many points to treat at once, each keeping `kept` numbers in memory."""
    most = max((1 << 27) // max(kept, 1), 1)
    return min(swift_batch(field, points), most, batch_size or most)
