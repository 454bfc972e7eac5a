"""One perturbation for many inputs, as short as can be."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_finite, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, dual, norm_name, norm_of
from levelset._tools.precision import at_least_single
from levelset._tools.results import Result
from levelset._typing import Bounds, Labels, Model, Norm, Points, Progress, Summary
from levelset.attacks._fab import fab
from levelset.attacks._search._declaration import described
from levelset.attacks._search._problem import Problem
from levelset.errors import ParameterError, ShapeError

__all__ = ["Universal", "universal"]

UniversalMethod = Literal["ascent", "normals"]
OtherPoints: TypeAlias = Float[Tensor, "m ..."]

# The radius starts at this many times the median linearised distance; it then shrinks or grows by
# a share a step, and steps have a length in radii; both fall along a cosine.
_FIRST_RADIUS = 3.0
_FIRST_RATE, _LAST_RATE = 0.1, 0.01
_FIRST_STEP, _LAST_STEP = 1.0, 0.05
# Inputs count by how near they are to their boundary, on a scale of this many median margins
# before it and beyond it: those across need little more, those far away may be the share that
# stays. The scale beyond is the shorter, else the many that are across outweigh the last.
_WIDTH_BEFORE, _WIDTH_BEYOND = 1.0, 0.25
# Leading directions of the boundary normals that span the search, and steps to find each normal.
_SPAN, _NORMAL_STEPS = 100, 10


@dataclass(frozen=True, eq=False, repr=False)
class Universal(Result):
    """One perturbation, and the share of inputs whose class it changes.

    Attributes:
        perturbation: To be added to every input, `(*d)`, in the units of the points.
        length: Its norm.
        norm: Which norm.
        fooling_rate: Share of the inputs that were right whose class it changes.
        held_out_rate: The same on the inputs held out; `None` if there were none.
        reached: Whether the fooling rate is at least the one requested.
        method: How it was found: `ascent` or `normals`.
        low: Lower sides of the box that inputs are clipped to.
        high: Upper sides.
    """

    _headline: ClassVar = ("perturbation", "method", "fooling_rate", "length")

    perturbation: Tensor
    length: float
    norm: float
    fooling_rate: float
    held_out_rate: float | None
    reached: bool
    method: UniversalMethod
    low: Tensor
    high: Tensor

    @checked
    def perturb(self, points: Points) -> Points:
        """Return the points with the perturbation added, clipped to the box."""
        shape = tuple(self.perturbation.shape)
        if tuple(points.shape[1:]) != shape:
            message = (
                f"Universal.perturb: `points` must be inputs of the shape {shape} of the "
                f"perturbation, got {tuple(points.shape)}."
            )
            raise ShapeError(message)
        return torch.minimum(torch.maximum(points + self.perturbation, self.low), self.high)

    def summary(self) -> Summary:
        """Return norms and rates, ready for JSON."""
        numbers: Summary = {
            "fooling_rate": self.fooling_rate,
            "reached": int(self.reached),
        }
        if self.held_out_rate is not None:
            numbers["held_out_rate"] = self.held_out_rate
        row = self.perturbation.unsqueeze(0)
        for norm in (1.0, 2.0, math.inf):
            numbers[f"length_{norm_name(norm)}"] = float(norm_of(row, norm))
        numbers["distortion"] = numbers["length_2"] / math.sqrt(max(row.numel(), 1))
        return numbers


@checked
@described(math.inf, 2.0)
def universal(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    fooling_rate: float = 0.9,
    norm: Norm = 2.0,
    bounds: Bounds | None = None,
    method: UniversalMethod = "ascent",
    steps: int = 50,
    held_out: OtherPoints | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Universal:
    r"""Find one perturbation of least norm that changes the class of a share of all inputs.

    $$v = \operatorname*{argmin}_r \lVert r \rVert_p \quad \text{subject to} \quad
      \mathbb{P}_x \bigl(\hat k(x + r) \ne \hat k(x)\bigr) \ge 1 - \epsilon.$$

    `ascent`: steps along the sum of the gradients of the margins, in which inputs near their
    boundary count most, on a sphere that shrinks whenever the share is fooled and grows whenever
    it is not. `normals`: the same within the span of the 100 leading singular vectors of the
    boundary's normals at the inputs. The second searches a small space, so it needs a longer
    perturbation, that holds better on other inputs.

    It is fitted to `points`; what it is worth shows on `held_out`. Inputs that the model gets
    wrong are left out. With a box, `x + v` is clipped to it, and the norm is that of v before; a
    perturbation unclipped, as in the papers, needs `bounds=(-inf, inf)`.

    Cost: `steps` gradients an input; for `normals` ten more, and a singular value
    decomposition of `(n, e)`.

    Args:
        points: The inputs to fit it to, `(n, *d)`, inside the bounds.
        fooling_rate: Share of the inputs whose class must change, $1 - \epsilon$.
        method: `ascent` or `normals`.
        steps: Steps of the ascent.
        held_out: Other inputs, `(m, *d)`, to measure the fooling rate on.

    Returns:
        The shortest perturbation with the requested share; if none has it, the one with the largest
        share, and `reached` false.

    Raises:
        ParameterError: If an option is out of range, or the model gets every input wrong.
        ShapeError: If the inputs held out have another shape.
        FieldError: If the model is flat at every input.

    References:
        - Alonso & Bonin, Eq. 3, after S.-M. Moosavi-Dezfooli et al., "Universal adversarial
          perturbations", CVPR 2017; "Robustness of classifiers to universal perturbations: a
          geometric perspective", ICLR 2018: the span of the normals.
        - J. Rony et al., "Decoupling direction and norm", CVPR 2019: the sphere that shrinks and
          grows, there for one input.
    """
    norm = check_norm("universal", norm)
    check_at_least_one("universal", "steps", steps)
    _check(points, fooling_rate, method, held_out)
    with frozen(model):
        problem = Problem(
            "universal", model, points, labels, norm=norm, bounds=bounds, batch_size=batch_size
        )
        search = _ShrinkingSphere(problem, fooling_rate)
        if method == "normals":
            search.basis = _leading_normals(problem, search.rows)
        search.run(steps, progress)
        perturbation = search.best
        rate = None if held_out is None else _rate_on(problem, held_out, perturbation)
    return Universal(
        perturbation=perturbation,
        length=float(norm_of(perturbation.unsqueeze(0), norm)),
        norm=norm,
        fooling_rate=search.rate,
        held_out_rate=rate,
        reached=search.rate >= fooling_rate,
        method=method,
        low=problem.low,
        high=problem.high,
    )


class _ShrinkingSphere:
    """The perturbation, its sphere, and the best of those met."""

    def __init__(self, problem: Problem, wanted: float) -> None:
        self.problem, self.wanted, self.rows = problem, wanted, problem.open()
        if len(self.rows) == 0:
            message = (
                f"universal: `points` must hold inputs that the model gets right, got none of "
                f"{len(problem.points)}. Nothing is left to fool."
            )
            raise ParameterError(message)
        self.basis: Tensor | None = None
        self.best = torch.zeros_like(problem.points[0])
        self.rate, self.length = 0.0, math.inf

    def run(self, steps: int, progress: Progress | None) -> None:
        """Take all steps, and remember the best perturbation."""
        perturbation, radius = torch.zeros_like(self.best), 0.0
        for step in range(steps):
            cosine = 0.5 * (1.0 + math.cos(math.pi * step / steps))
            margin, slope = self._margins(perturbation)
            if step == 0:
                radius = self._first_radius(margin, slope)
            else:
                fooled = self._remember(perturbation, margin)
                rate = _LAST_RATE + (_FIRST_RATE - _LAST_RATE) * cosine
                radius *= 1.0 - rate if fooled else 1.0 + rate
            length = (_LAST_STEP + (_FIRST_STEP - _LAST_STEP) * cosine) * radius
            perturbation = self._moved(perturbation, self._direction(margin, slope), length, radius)
            if progress is not None:
                progress(step + 1, steps)
        there = self.problem.clip(self.problem.points[self.rows] + perturbation)
        self._remember(perturbation, self.problem.margin(self.rows, there))

    def _margins(self, perturbation: Tensor) -> tuple[Tensor, Tensor]:
        """Return margins `(m,)` and their derivatives in the perturbation, `(m, *d)`."""
        wanted = self.problem.points[self.rows] + perturbation
        there = self.problem.clip(wanted)
        margin, slope = self.problem.margin_and_gradient(self.rows, there)
        if not slope.nan_to_num().any():
            self.problem.refuse_flat(self.rows, there)
        # A clipped entry does not follow the perturbation.
        slope = torch.where(there == wanted, slope, 0.0)
        sound = slope.flatten(1).isfinite().all(1) & margin.isfinite()
        return margin, torch.where(sound.view(-1, *[1] * perturbation.dim()), slope, 0.0)

    def _first_radius(self, margin: Tensor, slope: Tensor) -> float:
        """Return a few times the median distance to the linearised boundaries."""
        steep = norm_of(slope, dual(self.problem.norm))
        return _FIRST_RADIUS * float((margin / steep)[steep > 0].median())

    def _remember(self, perturbation: Tensor, margin: Tensor) -> bool:
        """Keep the perturbation if it is the best yet; return whether it fools enough."""
        rate = float((margin < 0).double().mean())
        length = float(norm_of(perturbation.unsqueeze(0), self.problem.norm))
        enough = rate >= self.wanted
        shorter = enough and (self.rate < self.wanted or length < self.length)
        if shorter or (self.rate < self.wanted and rate > self.rate):
            self.best, self.rate, self.length = perturbation, rate, length
        return enough

    def _direction(self, margin: Tensor, slope: Tensor) -> Tensor:
        """Return the direction in which the margins that matter fall."""
        margin = margin.nan_to_num()
        scale = margin.abs().median().clamp(min=torch.finfo(margin.dtype).tiny)
        width = torch.where(margin > 0, _WIDTH_BEFORE * scale, _WIDTH_BEYOND * scale)
        near = torch.sigmoid(margin / width)
        weight = (near * (1.0 - near)).view(-1, *[1] * (slope.dim() - 1))
        direction = -(weight * slope).mean(0)
        if self.basis is not None:
            direction = (self.basis.T @ (self.basis @ direction.flatten())).view_as(direction)
        return direction

    def _moved(
        self, perturbation: Tensor, direction: Tensor, length: float, radius: float
    ) -> Tensor:
        """Return the perturbation after a step, on the sphere (in the ball, for L-infinity)."""
        if math.isinf(self.problem.norm) and self.basis is None:
            return (perturbation + length * direction.sign()).clamp(-radius, radius)
        size = norm_of(direction.unsqueeze(0), self.problem.norm)
        there = perturbation + direction * (length / torch.where(size > 0, size, 1.0))
        size = norm_of(there.unsqueeze(0), self.problem.norm)
        return there * (radius / torch.where(size > 0, size, 1.0))


def _leading_normals(problem: Problem, rows: Tensor) -> Tensor:
    """Return orthonormal rows that span the main directions of the boundary's normals."""
    result = fab(
        problem.model, problem.points[rows], problem.labels[rows], norm=2.0,
        bounds=(problem.low, problem.high), steps=_NORMAL_STEPS, batch_size=problem.batch_size,
    )  # fmt: skip
    normals = (result.points - result.inputs)[result.success].flatten(1)
    normals = normals / norm_of(normals, 2.0).unsqueeze(1)
    axes = torch.linalg.svd(at_least_single(normals), full_matrices=False).Vh
    return axes[:_SPAN].to(normals.dtype)


def _rate_on(problem: Problem, points: Tensor, perturbation: Tensor) -> float:
    """Return the share of other points whose predicted class the perturbation changes."""
    evaluator = Evaluator(problem.function, problem.model, problem.batch_size)
    before = evaluator.values(points).argmax(1)
    after = evaluator.values(problem.clip(points + perturbation)).argmax(1)
    return float((before != after).double().mean())


def _check(points: Tensor, fooling_rate: float, method: str, held_out: Tensor | None) -> None:
    if not 0.0 < fooling_rate <= 1.0:
        message = f"universal: `fooling_rate` must lie in (0, 1], got {fooling_rate}."
        raise ParameterError(message)
    if method not in get_args(UniversalMethod):
        names = ", ".join(get_args(UniversalMethod))
        message = f"universal: `method` must be one of {names}, got {method!r}."
        raise ParameterError(message)
    if held_out is None:
        return
    check_points("universal", held_out, "held_out")
    check_finite("universal", held_out, "held_out")
    if held_out.shape[1:] != points.shape[1:] or len(held_out) == 0:
        message = (
            f"universal: `held_out` must be points of the shape {tuple(points.shape[1:])}, one at "
            f"least, got {tuple(held_out.shape)}."
        )
        raise ShapeError(message)
