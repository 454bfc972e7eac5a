"""What a way to give a field a second derivative must be able to do: the parents of all of them."""

import re
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor

from levelset._tools.evaluation import Evaluator
from levelset._tools.random import Streams
from levelset._typing import Field

__all__ = ["Hessian", "Part", "Scale", "SecondDerivatives", "Smoothing", "smoothings"]


class Part(NamedTuple):
    """Points that are measured together.

    Attributes:
        function: Name of the public function at work, for messages.
        field: The field, of one equation.
        points: Where, `(m, *d)`.
        labels: Passed to the field.
        rows: Numbers of the points among all, `(m,)`, for messages and random streams.
        streams: Random numbers by point, where a smoothing or a method draws.
        tangential: Whether differences are taken along the projected axes, or along the axes.
    """

    function: str
    field: Field
    points: Tensor
    labels: Tensor | None
    rows: Tensor
    streams: Streams | None = None
    tangential: bool = True


class Hessian(ABC):
    """The second derivative of a field at `m` points of size `e`, with values and gradient."""

    values: Tensor
    gradient: Tensor

    @abstractmethod
    def product(self, vectors: Tensor) -> Tensor:
        """Return H v for one vector a point, `(m, e)`."""

    @abstractmethod
    def dense(self) -> Tensor:
        """Return the matrices `(m, e, e)`, symmetric."""

    def trace(self, unit: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Return the trace and its standard error, `(m,)` each, if they come without products.

        Of H, or of P H P where a unit normal is given.
        """
        del unit
        return None


class Smoothing(ABC):
    """What stands for the second derivative of a field: a frozen dataclass of its options.

    A new one is a file with a child of this class, and its name in `levelset.boundary`. A child
    of [`Scale`][levelset.boundary._second_order._smoothing.Scale] too serves `class_curvatures`
    and the detectors.

    Attributes:
        is_matrix: Whether it gives whole matrices only, so that products save nothing.
        draws: Random draws a point; each stands for two gradients.
    """

    is_matrix = False
    draws: int = 0

    @property
    def form(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    @abstractmethod
    def words(self) -> str:
        """What stands for the second derivative, as a reader of a page knows it."""

    @abstractmethod
    def operator(self, part: Part) -> Hessian:
        """Return the second derivative of the field of a part, at its points."""

    def memory(self, size: int) -> int:
        """Return how many numbers the operator keeps for a point of a size, beside its products."""
        return 4 * self.draws * size


def smoothings() -> dict[str, type[Any]]:
    """Return all smoothings by the first word of their names, such as `central`."""
    kinds = [kind for kind in Smoothing.__subclasses__() if kind.__name__[0] != "_"]
    return {re.findall("[A-Z][a-z]*", kind.__name__)[0].lower(): kind for kind in kinds}


class SecondDerivatives(ABC):
    """Gradients of all logits, and their second derivatives along given directions.

    Attributes:
        evaluator: Of the logits that are differentiated.
    """

    evaluator: Evaluator

    @abstractmethod
    def along(self, points: Tensor, logits: Tensor, directions: Tensor) -> Tensor:
        """Return `(m, c, k)` along directions `(m, c, e)` of points `(m, *d)`."""


class Scale(ABC):
    """A smoothing that second derivatives of *values* are taken with, of all logits at once.

    Attributes:
        draws: Random directions a point, over which the Laplacian is the mean; with none it is the
            sum over the axes.
    """

    draws: int = 0

    @abstractmethod
    def second_derivatives(
        self, function: str, model: Field, batch_size: int | None
    ) -> SecondDerivatives:
        """Return the second derivatives of the logits of a model."""
