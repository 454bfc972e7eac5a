"""The second derivative of a field averaged over Gaussian noise, by Stein's lemma."""

from dataclasses import dataclass

from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._typing import Field
from levelset.boundary._second_order._differences import ValueDifferences
from levelset.boundary._second_order._refusals import check_shift, one_equation
from levelset.boundary._second_order._smoothing import (
    Hessian,
    Part,
    Scale,
    SecondDerivatives,
    Smoothing,
)

__all__ = ["GaussianSmoothing"]


@checked
@dataclass(frozen=True)
class GaussianSmoothing(Smoothing, Scale):
    r"""The Hessian of $F_\sigma(x) = E\,F(x + \sigma\varepsilon)$, from gradients alone.

    By Stein's lemma,

    $$\nabla^2 F_\sigma(x) = \tfrac{1}{\sigma} E[\varepsilon\,\nabla F(x + \sigma\varepsilon)^T].$$

    The mean runs over `draws` antithetic pairs and is made symmetric. A linear operator of rank at
    most twice the draws: single curvatures carry its noise (with fewer draws than dimensions they
    are mostly noise), the mean curvature comes with its standard error over the draws.

    Attributes:
        sigma: Standard deviation of the noise in each entry, in the units of the points.
        draws: Antithetic pairs a point.
    """

    sigma: float
    draws: int = 1000

    def __post_init__(self) -> None:
        """Check width and draws."""
        check_positive("GaussianSmoothing", "sigma", self.sigma)
        check_whole("GaussianSmoothing", "draws", self.draws, at_least=2)

    @property
    def words(self) -> str:
        return f"Gaussian noise of standard deviation {self.sigma:.3g}"

    def operator(self, part: Part) -> Hessian:
        return _Noisy(part, self.sigma, self.draws)

    def second_derivatives(
        self, function: str, model: Field, batch_size: int | None
    ) -> SecondDerivatives:
        return ValueDifferences(function, model, batch_size, self.sigma)


class _Noisy(Hessian):
    """The second derivative of the field under Gaussian noise, by Stein's lemma."""

    def __init__(self, part: Part, sigma: float, draws: int) -> None:
        function, points, labels = part.function, part.points, part.labels
        assert part.streams is not None, "noise is drawn"
        check_shift(function, points, "sigma", sigma)
        m, evaluator = len(points), Evaluator(function, part.field)
        self.values = one_equation(function, evaluator.values(points, labels), points)
        self.noise = part.streams.normal(part.rows, (draws, *points.shape[1:]))
        repeated = None if labels is None else labels.repeat_interleave(draws, 0)
        sides = []
        for sign in (1.0, -1.0):
            moved = (points.unsqueeze(1) + sign * sigma * self.noise).flatten(0, 1)
            sides.append(evaluator.value_and_jacobian(moved, repeated)[1].view(m, draws, -1))
        self.noise = self.noise.flatten(2)
        self.slopes = (sides[0] - sides[1]) / (2.0 * sigma)
        self.gradient = (sides[0] + sides[1]).mean(1) / 2.0

    def product(self, vectors: Tensor) -> Tensor:
        image = self._half(self.noise, self.slopes, vectors)
        return image + self._half(self.slopes, self.noise, vectors)

    def dense(self) -> Tensor:
        matrix = self.noise.transpose(1, 2) @ self.slopes / self.noise.shape[1]
        return (matrix + matrix.transpose(1, 2)) / 2

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
