"""Training on interval bounds (IBP): the worst logits of a whole ball."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from levelset._logits import AsLogits
from levelset._relaxation._program import ball_range, margins_of
from levelset._relaxation._trace import trace
from levelset._tools.arguments import checked
from levelset._tools.bounds import fit_bounds
from levelset._tools.calling import swift_copy
from levelset._tools.checks import check_points, check_positive
from levelset._tools.modes import frozen
from levelset._typing import Bounds, Labels, Model, Points
from levelset.errors import ParameterError
from levelset.fields import bounds_of
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._outputs import logits_of

__all__ = ["interval_bound"]


@checked
def interval_bound(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    kappa: float = 0.5,
    bounds: Bounds | None = None,
    watch: Watch | None = None,
) -> Tensor:
    r"""Return the cross-entropy of the logits, mixed with that of the worst logits of a box.

    $$\kappa\, \ell(f(x), y) + (1 - \kappa)\, \ell(\hat z(x), y), \qquad
      \hat z_y = 0, \quad \hat z_j = \max_{|x' - x|_\infty \le \epsilon} f_j(x') - f_y(x'),$$

    the mean over the inputs, where the maximum is an upper bound: the range of every unit is taken
    through the network layer by layer, up to the last activation, and the last affine layers are
    taken together with the difference of two logits. The same bounds certify the network that
    comes of it: see [`certified_radius`][levelset.boundary.certified_radius].

    From random weights it wants patience: `radius` is best raised from near 0, and `kappa` lowered
    from 1, over the first third of the steps.

    The logits are asked of the model in the mode it is in. The bounds are those of evaluation mode:
    BatchNorm with its running statistics, no Dropout.

    Cost: a forward and backward pass of the model, two more of its layers for the bounds, and
    reading its code.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`; a module, of the layers that
            [`certified_radius`][levelset.boundary.certified_radius] knows.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: The L-infinity radius, in the units of the points.
        kappa: Weight of the plain cross-entropy, 0 to 1.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
        watch: Called with the [`Diagnostics`][levelset.losses.Diagnostics] of the evaluation.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If `radius` is not positive, `kappa` not in 0 to 1, or points lie outside
            the bounds.
        FieldError: If the model has a layer whose bounds are not known, or returns another shape.

    Example:
        >>> import torch
        >>> from levelset.losses import interval_bound
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)
        ... )
        >>> points, labels = torch.rand(5, 2), torch.zeros(5).long()
        >>> losses = [interval_bound(model, points, labels, radius=r) for r in (0.01, 0.1)]
        >>> bool(losses[0] < losses[1])
        True

    References:
        - S. Gowal et al., "Scalable verified training for provably robust image classification",
          ICCV 2019.
    """
    check_positive("interval_bound", "radius", radius)
    if not 0.0 <= kappa <= 1.0:
        message = f"interval_bound: `kappa` must lie in 0 to 1, got {kappa}."
        raise ParameterError(message)
    check_points("interval_bound", points)
    points = points.detach()
    with frozen(model):
        sides = bounds_of("interval_bound", model, points) if bounds is None else bounds
    box = fit_bounds("interval_bound", sides, points)
    reader = AsLogits(model)
    logits = logits_of("interval_bound", reader, points, labels)
    if len(points) == 0:
        return logits.sum()
    # With no weight it has no part in the derivative.
    plain = functional.cross_entropy(logits if kappa else logits.detach(), labels)
    if kappa == 1.0:
        return plain
    plain_model = model if reader.reader.is_plain else reader
    program = trace("interval_bound", plain_model, points)
    reach = points.new_full((len(points),), radius)
    ball = ball_range(swift_copy(points), reach, math.inf, box, 0.0)
    ranges = program.ranges(ball, 0.0)
    coefficients = margins_of(labels, logits.shape[1], points.dtype)
    margins = program.lower(coefficients, ranges, 0.0, to_first_bend=True).to(points.dtype)
    worst = torch.cat([margins.new_zeros(len(points), 1), -margins], dim=1)
    first = torch.zeros_like(labels)
    terms = {
        "cross_entropy": kappa * plain,
        "bound": (1.0 - kappa) * functional.cross_entropy(worst, first),
    }
    if watch is not None:
        watch(Diagnostics(terms))
    return terms["cross_entropy"] + terms["bound"]
