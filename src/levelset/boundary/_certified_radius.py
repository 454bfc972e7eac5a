"""How far each input is from the boundary at least: a lower bound that holds for certain."""

import math

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._relaxation._program import Program, ball_range, margins_of
from levelset._relaxation._trace import trace
from levelset._tools.arguments import checked
from levelset._tools.bounds import fit_bounds
from levelset._tools.checks import check_finite, check_labels, check_points, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.memory import Room
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_of
from levelset._tools.rounding import resolution
from levelset._typing import Bounds, Labels, Model, Norm, PerPoint, Points, Progress
from levelset.errors import FieldError, ParameterError
from levelset.fields import bounds_of

__all__ = ["certified_radius"]

# Numbers of a batch in the widest layer, times the classes: 16 MiB in float32.
_ELEMENTS = 2**22
_MOST_ROWS = 256
# The first radius that is tried, as a share of the way to the far side of the box, and what stands
# for that way where there is no box.
_FIRST, _UNBOUNDED = 1e-3, 2.0**20
# A radius below this share of the way is reported as 0.
_LEAST = 1e-9
_TRIALS = 200


@checked
def certified_radius(
    model: Model,
    points: Points,
    labels: Labels | None = None,
    *,
    norm: Norm = math.inf,
    bounds: Bounds | None = None,
    tolerance: float = 1e-3,
    max_units: int = 512,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> PerPoint:
    r"""Return for each input a radius within which the model gives no other class, for certain.

    A radius r is sound if for every other class j

    $$\min_{|x' - x| \le r} f_y(x') - f_j(x') > 0,$$

    where the minimum is bounded from below in two ways, of which the better one counts: *interval
    bounds*, the smallest and largest value of every unit, layer by layer; and a *linear
    relaxation*, in which each activation lies between two lines, so that the margin is carried back
    to the input as one linear function (CROWN). In layers of up to `max_units` units the ranges
    that the lines are laid through are found by the same relaxation, in wider ones by intervals.
    The largest sound radius is found by false position and bisection.

    It is a *lower bound* of the distance to the boundary, as
    [`distance`][levelset.boundary.distance] is an upper bound, and as a rule it is far below: by
    some tens of percent for small networks and for those that were trained for it
    ([`interval_bound`][levelset.losses.interval_bound]), and by orders of magnitude for others of
    more than a few layers. A small radius does not say that the boundary is near. It is exact for
    affine models where the bounds do not bind. Unlike the certified radius of
    [`persistence`][levelset.boundary.persistence] it is about the model itself, not a smoothed one,
    and holds without a probability.

    It holds for the network in exact arithmetic and as its own dtype evaluates it, in any order
    of summation: every bound is rounded outwards. It does not hold for what a device makes of
    float32 in less precision, such as TF32 or Winograd's convolutions on CUDA.

    Layers: Linear, Conv2d, BatchNorm, ReLU, LeakyReLU, Hardtanh, ReLU6, ELU, Softplus, Tanh,
    Sigmoid, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten, Dropout, Identity, ZeroPad2d and the
    other paddings of images, a softmax or sigmoid at the end, and branches that are added or
    joined, in any module whose code torch.fx can trace.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost: about ten trials of a radius, each of two forward passes and k backward ones in memory for
    k copies of an input, and two backward passes for every unit of the layers inside that may be on
    either side of 0. On the packaged digits network, one core: 0.015 s an image with intervals
    inside, 0.15 s by default, 6.5 s with `max_units=2048`, for a median of 21, 30 and 57 % of the
    distance found.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`; a module.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`; an input with another prediction has radius 0. `None` for
            the model's own predictions.
        norm: Infinity or 2.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
            Inputs outside do not count. `(-inf, inf)` for none.
        tolerance: The search stops where the interval between a sound and an unsound radius is
            this share of the sound one.
        max_units: Widest layer whose ranges are tightened by the relaxation; 0 for none.
        batch_size: Most points at once; `None` for as many as fit into 16 MiB or so.
        progress: Called as `progress(done, total)` after each batch.

    Returns:
        Radii in the units of the points, `(n,)`: 0 for inputs that are misclassified, or whose
        class not even the smallest ball keeps for certain; infinity where no input within the
        bounds has another class.

    Raises:
        FieldError: If the model has a layer whose bounds are not known, or code that cannot be
            traced, or does something else than its layers say.
        ParameterError: If points lie outside the bounds, labels are out of range, or an option is.

    Example:
        >>> import torch
        >>> from levelset.boundary import certified_radius
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        >>> _ = model.bias.data.zero_()
        >>> radius = certified_radius(model, torch.tensor([[1.0, 0.5]]))
        >>> bool(0.142 < radius < 1 / 7)  # |3 * 1 - 4 * 0.5| / (3 + 4)
        True

    References:
        - S. Gowal et al., "Scalable verified training for provably robust image classification",
          ICCV 2019: interval bounds.
        - H. Zhang et al., "Efficient neural network robustness certification with general
          activation functions", NeurIPS 2018: CROWN.
        - H. Zhang et al., "Towards stable and efficient training of verifiably robust neural
          networks", ICLR 2020: the relaxation with intervals inside.
    """
    norm = check_norm("certified_radius", norm, (math.inf, 2.0))
    check_whole("certified_radius", "max_units", max_units, at_least=0)
    if not 0.0 < tolerance < 1.0:
        message = f"certified_radius: `tolerance` must lie between 0 and 1, got {tolerance}."
        raise ParameterError(message)
    check_points("certified_radius", points)
    check_finite("certified_radius", points)
    points = points.detach()
    with frozen(model), torch.no_grad():
        sides = bounds_of("certified_radius", model, points) if bounds is None else bounds
        box = fit_bounds("certified_radius", sides, points)
        model = as_logits("certified_radius", model, points)
        logits = Evaluator("certified_radius", model, batch_size).values(points)
        labels = logits.argmax(1) if labels is None and logits.shape[1] else labels
        if len(points) == 0 or labels is None:
            return points.new_zeros(len(points))
        labels = labels.to(points.device)
        check_labels("certified_radius", labels, points, logits.shape[1])
        program = trace("certified_radius", model, points)
        unit = resolution(model, points) / 2
        search = _Search(program, norm, box, unit, tolerance, max_units)
        search.check(points[:1], logits[:1])
        rows = min(batch_size or search.rows(points[:1], logits.shape[1]), len(points))
        radii = logits.new_zeros(len(points))

        def found(part: slice) -> Tensor:
            return search.radii(points[part], labels[part], logits[part])

        for part, some in Room("certified_radius").batches(len(points), rows, found):
            radii[part] = some
            if progress is not None:
                progress(part.stop, len(points))
    return radii


class _Search:
    """Looks for the largest sound radius of each of a batch of inputs."""

    def __init__(
        self,
        program: Program,
        norm: float,
        box: tuple[Tensor, Tensor],
        unit: float,
        tolerance: float,
        max_units: int,
    ) -> None:
        self.program, self.norm, self.box, self.unit = program, norm, box, unit
        self.tolerance, self.max_units = tolerance, max_units

    def rows(self, point: Tensor, classes: int) -> int:
        """Return how many inputs to bound at once."""
        start = ball_range(point, point.new_zeros(1), self.norm, self.box, self.unit)
        widest = max(each.low.numel() for each in self.program.ranges(start, self.unit))
        return min(max(_ELEMENTS // (widest * classes), 1), _MOST_ROWS)

    def check(self, point: Tensor, logits: Tensor) -> None:
        """Refuse a program that is not the model.

        Raises:
            FieldError: If they do not.
        """
        if not self.program.agrees(point, logits, self.unit):
            message = (
                "certified_radius: `model` returns something else than its layers do one after "
                "another, so that their bounds say nothing of it. Does it have hooks, a `forward` "
                "of its own, write into what it reads again, or branch on values?"
            )
            raise FieldError(message)

    def radii(self, points: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
        """Return the largest sound radius of each point, `(n,)`."""
        own = logits.gather(1, labels.unsqueeze(1))
        right = (own > logits.scatter(1, labels.unsqueeze(1), -math.inf)).all(1)
        reach = self._reach(points)
        low, high = torch.zeros_like(reach), torch.full_like(reach, math.inf)
        at_low, at_high = self.least(points, labels, low), -torch.ones_like(reach)
        open_rows = (right & (at_low > 0)).nonzero().flatten()
        trial = _FIRST * reach
        for step in range(_TRIALS):
            if len(open_rows) == 0:
                break
            here = trial[open_rows]
            value = self.least(points[open_rows], labels[open_rows], here)
            sound = value > 0
            low[open_rows[sound]], at_low[open_rows[sound]] = here[sound], value[sound]
            high[open_rows[~sound]], at_high[open_rows[~sound]] = here[~sound], value[~sound]
            trial = self._next(low, high, at_low, at_high, reach, bisect=step % 3 == 2)
            done = (high - low <= self.tolerance * low) | (high <= _LEAST * reach)
            open_rows = open_rows[~(done | (low >= reach))[open_rows]]
        return torch.where(low >= reach, math.inf, low) * right

    def _next(
        self, low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor, reach: Tensor, *,
        bisect: bool,
    ) -> Tensor:  # fmt: skip
        """Return the radii to try next: further out while no unsound one is known, else between."""
        share = at_low / (at_low - at_high)
        share = share.nan_to_num(0.5).clamp(0.1, 0.9)
        between = low + (high - low) * (0.5 if bisect else share)
        return torch.where(high.isinf(), torch.minimum(4.0 * low, reach), between)

    def least(self, points: Tensor, labels: Tensor, radius: Tensor) -> Tensor:
        """Return a lower bound of the margin within a radius of each point, `(n,)`."""
        start = ball_range(points, radius, self.norm, self.box, self.unit)
        ranges = self.program.ranges(start, self.unit, max_units=self.max_units)
        classes = ranges[self.program.output].low.shape[1]
        coefficients = margins_of(labels, classes, points.dtype)
        bounds = self.program.lower(coefficients, ranges, self.unit).amin(1)
        return (bounds - 8.0 * self.unit * bounds.abs()).nan_to_num(-1.0).to(points.dtype)

    def _reach(self, points: Tensor) -> Tensor:
        """Return the radius at which a ball holds the whole box, `(n,)`."""
        low, high = self.box
        far = torch.maximum(points - low, high - points).expand_as(points)
        far = norm_of(far, self.norm) * (1.0 + 8.0 * self.unit)
        size = norm_of(points, self.norm) + 1.0
        return torch.where(far.isfinite(), far, _UNBOUNDED * size)
