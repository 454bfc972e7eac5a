"""Differences of gradients, and of values, at points a step apart."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive
from levelset._tools.evaluation import Evaluator
from levelset._typing import Field
from levelset.boundary._second_order._refusals import check_shift, one_equation
from levelset.boundary._second_order._smoothing import (
    Hessian,
    Part,
    Scale,
    SecondDerivatives,
    Smoothing,
)

__all__ = ["CentralDifference", "ForwardDifference", "ValueDifferences"]


@checked
@dataclass(frozen=True)
class CentralDifference(Smoothing, Scale):
    r"""The matrix of central differences of the gradient along the projected axes.

    $$G_{kl} = v_k^T\,\frac{\nabla F(x + h v_l) - \nabla F(x - h v_l)}{2h}, \qquad v_l = P e_l,$$

    made symmetric. On a ReLU network `h` sets the size of what is found: from 0.03 to 1 the
    largest curvatures of a LeNet change ten- to thirtyfold, so a number without its `h` says
    nothing. Rounding of the gradients adds noise of about their size times `eps / h`. It is a
    matrix and not an operator (a difference along another unit vector is another smoothing), and so
    it needs all `2 d` gradients of a point, whatever is asked of it.

    Attributes:
        h: Length of the shift, in the units of the points.
    """

    h: float
    is_matrix = True

    def __post_init__(self) -> None:
        """Check the shift."""
        check_positive("CentralDifference", "h", self.h)

    @property
    def words(self) -> str:
        return f"central differences with step {self.h:.3g}"

    def operator(self, part: Part) -> Hessian:
        return _Central(part, self.h)

    def second_derivatives(
        self, function: str, model: Field, batch_size: int | None
    ) -> SecondDerivatives:
        return ValueDifferences(function, model, batch_size, self.h)


@checked
@dataclass(frozen=True)
class ForwardDifference(Smoothing):
    r"""The one-sided differences of Alonso and Bonin (procedure 3.1.2), to reproduce them.

    $$G_{kl} = v_k^T\,\frac{\nabla F(x + h v_l) - \nabla F(x)}{h}, \qquad v_l = P e_l,$$

    made symmetric. On ReLU networks it differs from the central form by about 100 %; prefer
    [`CentralDifference`][levelset.boundary.CentralDifference].

    Attributes:
        h: Length of the shift, in the units of the points.
    """

    h: float
    is_matrix = True

    def __post_init__(self) -> None:
        """Check the shift."""
        check_positive("ForwardDifference", "h", self.h)

    @property
    def words(self) -> str:
        return f"forward differences with step {self.h:.3g}"

    def operator(self, part: Part) -> Hessian:
        return _Forward(part, self.h)


class _Differences(Hessian):
    """The matrix of differences of the gradient along the (projected) axes."""

    def __init__(self, part: Part, h: float) -> None:
        check_shift(part.function, part.points, "h", h)
        self.evaluator = Evaluator(part.function, part.field)
        self.part, self.h = part, h
        values, jacobian = self.evaluator.value_and_jacobian(part.points, part.labels)
        self.values = one_equation(part.function, values, part.points)
        self.gradient = jacobian[:, 0]
        self._matrices: Tensor | None = None

    def product(self, vectors: Tensor) -> Tensor:
        return torch.bmm(self.dense(), vectors.unsqueeze(2)).squeeze(2)

    def dense(self) -> Tensor:
        if self._matrices is None:
            self._matrices = torch.stack([self._matrix(row) for row in range(len(self.gradient))])
        return self._matrices

    def _matrix(self, row: int) -> Tensor:
        gradient = self.gradient[row]
        steps = torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
        if self.part.tangential:
            unit = gradient / gradient.norm()
            steps = steps - torch.outer(unit, unit)
        matrix = self._slopes(row, steps) @ steps  # entry (l, k): along v_l, read along v_k
        return (matrix + matrix.T) / 2

    @abstractmethod
    def _slopes(self, row: int, steps: Tensor) -> Tensor:
        """Return how the gradient of a point changes along each step, `(e, e)`."""

    def _gradients(self, row: int, shifts: Tensor) -> Tensor:
        points, labels = self.part.points, self.part.labels
        shifted = points[row] + shifts.view(-1, *points.shape[1:])
        if labels is not None:
            labels = labels[row : row + 1].expand(len(shifted), *labels.shape[1:])
        return self.evaluator.value_and_jacobian(shifted, labels)[1][:, 0]


class _Central(_Differences):
    def _slopes(self, row: int, steps: Tensor) -> Tensor:
        ahead = self._gradients(row, self.h * steps)
        return (ahead - self._gradients(row, -self.h * steps)) / (2.0 * self.h)


class _Forward(_Differences):
    def _slopes(self, row: int, steps: Tensor) -> Tensor:
        return (self._gradients(row, self.h * steps) - self.gradient[row]) / self.h


class ValueDifferences(SecondDerivatives):
    """Second derivatives from the values at both ends of a step and in its middle."""

    def __init__(self, function: str, model: Field, batch_size: int | None, h: float) -> None:
        self.evaluator, self.h = Evaluator(function, model, batch_size), h

    def along(self, points: Tensor, logits: Tensor, directions: Tensor) -> Tensor:
        m, c = directions.shape[:2]
        copies = points.repeat_interleave(c, 0)
        steps = directions.reshape(copies.shape)
        ends = [self.evaluator.values(copies + sign * self.h * steps) for sign in (1.0, -1.0)]
        # Each end less the middle: the sum of the ends would lose digits.
        changes = [end.view(m, c, -1) - logits.unsqueeze(1) for end in ends]
        return (changes[0] + changes[1]) / self.h**2
