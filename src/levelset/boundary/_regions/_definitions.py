"""What a decision boundary is, as code: classes nearby, decision levels, their dimension."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from levelset._logits import AsLogits, as_logits
from levelset._projection import Newton, project
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_number,
    check_points,
    check_positive,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.random import Streams
from levelset._tools.results import Rows
from levelset._typing import Counts, Mask, Model, PerPoint, Points, Summary
from levelset.boundary._regions._spectrum import Spectrum, dimension
from levelset.errors import NotConvergedError, ParameterError

__all__ = [
    "ClassesNearby",
    "DecisionLevel",
    "classes_nearby",
    "decision_dimension",
    "decision_level",
]

# Draws that a point takes at once, and samples of a decision level for each coordinate.
_AT_ONCE, _SAMPLES = 64, 4


@dataclass(frozen=True, eq=False, repr=False)
class ClassesNearby(Rows):
    """Which classes a ball around each point holds.

    Attributes:
        count: How many classes were met, `(n,)`: 1 in the interior, 2 at a binary decision point,
            K on the K-decision boundary.
        met: Which, `(n, k)`.
        radius: Of the balls.
        draws: Points drawn in each.
    """

    _headline: ClassVar = ("points", "radius", "interior", "binary", "most")

    count: Counts
    met: Tensor
    radius: float
    draws: int

    @property
    def binary(self) -> Mask:
        """Which points have two classes nearby, `(n,)`."""
        return self.count == 2

    def summary(self) -> Summary:
        """Return how many points lie in the interior, on a boundary of two, of more."""
        return {
            "points": len(self),
            "radius": self.radius,
            "interior": int((self.count == 1).sum()),
            "binary": int(self.binary.sum()),
            "more": int((self.count > 2).sum()),
            "most": int(self.count.max()) if len(self) else 0,
        }


@dataclass(frozen=True, eq=False, repr=False)
class DecisionLevel(Rows):
    r"""The probability of the two leading classes where they tie.

    Attributes:
        level: Probability of the leading class, `(n,)`: the decision level a of a point of the
            boundary.
        classes: The leading class and the second, `(n, 2)`.
        gap: How much more probable the leading class is, `(n,)`: 0 on the boundary.
        probabilities: Of all classes, `(n, k)`: the image of the points in the simplex.
    """

    _headline: ClassVar = ("points", "level_median", "gap_max")

    level: PerPoint
    classes: Tensor
    gap: PerPoint
    probabilities: Tensor

    def summary(self) -> Summary:
        """Return the range of levels, and the largest gap."""
        numbers: Summary = {"points": len(self)}
        if len(self):
            numbers["level_min"] = float(self.level.min())
            numbers["level_median"] = float(self.level.median())
            numbers["level_max"] = float(self.level.max())
            numbers["gap_max"] = float(self.gap.max())
        return numbers


@checked
def classes_nearby(
    model: Model,
    points: Points,
    *,
    radius: float,
    draws: int,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> ClassesNearby:
    r"""Count the classes in a ball around each point.

    A point is on the boundary if every ball around it, however small, holds two classes or more; it
    is a binary decision point if small ones hold two, and on the K-decision boundary if they hold
    K. Here for one radius, and for points drawn uniformly in the ball, the point itself among
    them: a lower bound of $|f(B_r(x))|$, as a class may have too small a share to be met.

    Cost: `draws` forward passes a point.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`.
        points: Where, `(n, *d)`.
        radius: Of the balls, L2, in the units of the points.
        draws: Points drawn in each ball.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of the draws; `None` for torch's global generator.

    Returns:
        The classes met and their number.

    Example:
        >>> import torch
        >>> from levelset.boundary import classes_nearby
        >>> corner = torch.nn.Linear(2, 3, bias=False)
        >>> rows = torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])
        >>> _ = corner.weight.data.copy_(rows)
        >>> points = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
        >>> classes_nearby(corner, points, radius=0.1, draws=200).count
        tensor([3, 2, 1])

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: sections 29.1 and 29.2.
    """
    check_points("classes_nearby", points)
    check_finite("classes_nearby", points)
    check_positive("classes_nearby", "radius", radius)
    check_at_least_one("classes_nearby", "draws", draws)
    points = points.detach()
    streams = Streams(generator, points)
    if not len(points):
        met = torch.zeros(0, 0, dtype=torch.bool, device=points.device)
        return ClassesNearby(met.sum(1), met, radius, draws)
    with frozen(model):
        logits = as_logits("classes_nearby", model, points)
        evaluator = Evaluator("classes_nearby", logits, batch_size)
        rows = torch.arange(len(points))
        out = evaluator.outputs(points)
        met = torch.nn.functional.one_hot(out.argmax(1), out.shape[1]).bool()
        for part in range(-(-draws // _AT_ONCE)):
            count = min(_AT_ONCE, draws - part * _AT_ONCE)
            moves = _in_ball(streams, rows, points, count, part) * radius
            copies = (points.unsqueeze(1) + moves).flatten(0, 1)
            labels = evaluator.outputs(copies).argmax(1).view(len(points), count)
            met = met.scatter(1, labels, True)
    return ClassesNearby(met.sum(1), met, radius, draws)


@checked
def decision_level(model: Model, points: Points, *, batch_size: int | None = None) -> DecisionLevel:
    r"""Return the level of the decision boundary at each point.

    The boundary of a probability-valued $F$ is the union of the sets
    $\{x : F_{c_1}(x) = F_{c_2}(x) = a > F_c(x) \text{ for all other } c\}$; a is the level. Of two
    classes it is 1/2 everywhere; of k it lies from 1/k to 1/2. Points off the boundary get the
    probability of their class, and their `gap`.

    Cost: one forward pass a point.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`; the probabilities are their softmax.
        points: Where, `(n, *d)`.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.

    Returns:
        Levels, the two classes, and all probabilities.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.3 and section 29.4.
          The text has K - 1 pieces of the boundary in the simplex of K classes; there is one for
          each of the K (K - 1) / 2 pairs, all through the centre.
    """
    check_points("decision_level", points)
    check_finite("decision_level", points)
    points = points.detach()
    if not len(points):
        empty = points.new_zeros(0)
        classes = torch.zeros(0, 2, dtype=torch.int64, device=points.device)
        return DecisionLevel(empty, classes, empty.clone(), points.new_zeros(0, 2))
    with frozen(model):
        logits = as_logits("decision_level", model, points)
        shares = Evaluator("decision_level", logits, batch_size).outputs(points).softmax(1)
    leading, classes = shares.topk(2, dim=1)
    gap = leading[:, 0] - leading[:, 1]
    return DecisionLevel(leading[:, 0].clone(), classes, gap, shares)


class _Tie(torch.nn.Module):
    """Two equations: classes i and j tie, and their joint log-probability is a level."""

    def __init__(self, logits: AsLogits | Model, pair: Tensor, level: float) -> None:
        super().__init__()
        self.model, self.pair, self.level = logits, pair.tolist(), level
        self.is_binary = False

    def forward(self, points: Tensor) -> Tensor:
        logits = self.model(points)
        first, second = (logits[:, i] for i in self.pair)
        if self.is_binary:
            return first - second
        share = 0.5 * (first + second) - logits.logsumexp(1) - self.level
        return torch.stack([first - second, share], dim=1)


@checked
def decision_dimension(
    model: Model,
    point: Tensor,
    *,
    radius: float,
    draws: int | None = None,
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Spectrum:
    r"""Return the spectrum of the decision level around a point of the boundary.

    Definition 30.4: the dimension of the boundary at x is the number of directions needed to span
    $\{z : x + z \text{ in the decision level of } x\}$, here within a radius: e less `degenerate`.
    Of two classes the level set is the boundary itself, of e - 1 dimensions where it is flat; of
    more classes the level a is a second equation. A level set that bends by more than rounding
    within the radius spans more.

    Cost: three gradients of two equations a draw.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`.
        point: A point of the boundary, `(*d)`.
        radius: Standard deviation of a coordinate of the draws, in the units of the points.
        draws: Draws around the point; `None` for 4 e, at least 200.
        tol: Largest difference in logits and log-probability on the level set.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws; `None` for torch's global generator.

    Returns:
        The spectrum of the projected draws less the point.

    Raises:
        ParameterError: If the point is not on the boundary: the two classes differ by more than a
            thousandth of probability.
        NotConvergedError: If fewer than half of the draws reach the level set.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.4.
    """
    points = point.unsqueeze(0) if isinstance(point, Tensor) else point
    check_points("decision_dimension", points, "point")
    check_finite("decision_dimension", points, "point")
    check_positive("decision_dimension", "radius", radius)
    count = max(_SAMPLES * points[0].numel(), 200) if draws is None else draws
    check_number("decision_dimension", "draws", count)
    check_at_least_one("decision_dimension", "draws", count)
    points = points.detach()
    at = decision_level(model, points, batch_size=batch_size)
    if float(at.gap) > 1e-3:
        message = (
            "decision_dimension: `point` must lie on the boundary, but class "
            f"{int(at.classes[0, 0])} is more probable by {float(at.gap):.3g}. Project it first, "
            "as `sample` does."
        )
        raise ParameterError(message)
    device = points.device if generator is None else generator.device
    shape = (count, *points.shape[1:])
    drawn = torch.randn(shape, generator=generator, device=device, dtype=points.dtype)
    with frozen(model):
        logits = as_logits("decision_dimension", model, points)
        field = _Tie(logits, at.classes[0], float(at.level.double().log()))
        # Of two classes the level is 1/2 all over the boundary: one equation says all.
        field.is_binary = at.probabilities.shape[1] == 2
        starts = points + radius * drawn.to(points.device)
        ends = project(field, starts, method=Newton(), tol=tol, batch_size=batch_size)
    if int(ends.converged.sum()) < max(count / 2, 3):
        message = (
            f"decision_dimension: only {int(ends.converged.sum())} of {count} draws reach the "
            "decision level. Take a smaller `radius` or a larger `tol`."
        )
        raise NotConvergedError(message)
    return dimension(ends.points[ends.converged])


def _in_ball(streams: Streams, rows: Tensor, points: Tensor, count: int, part: int) -> Tensor:
    """Return points uniform in the unit ball, `(n, count, *d)`."""
    size = points[0].numel()
    drawn = streams.normal(rows, (count, size), 2 * part)
    length = streams.uniform(rows, (count, 1), 2 * part + 1) ** (1.0 / size)
    unit = drawn / torch.linalg.vector_norm(drawn, dim=2, keepdim=True)
    return (unit * length).view(len(points), count, *points.shape[1:])
