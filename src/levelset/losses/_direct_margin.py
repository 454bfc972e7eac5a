"""Max-margin adversarial training: the loss at the nearest point of the boundary that is found."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive
from levelset._tools.norms import norm_of
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.errors import ParameterError
from levelset.losses._climb import Climb
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._outputs import logits_of
from levelset.losses._samples import margins

__all__ = ["direct_margin"]

_MAX_ITER, _TOL = 20, 1e-3


@checked
def direct_margin(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    plain: float = 1 / 3,
    norm: Norm = math.inf,
    steps: int = 7,
    step_size: float | None = None,
    bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    r"""Return the cross-entropy on the boundary near inputs that are right, and at those wrong.

    $$\frac{1 - \kappa}{n} \Bigl[\sum_{\text{right},\, |p_j - x_j| \le d_{max}} \ell(f(p_j), y_j)
      + \sum_{\text{wrong}} \ell(f(x_j), y_j)\Bigr] + \frac{\kappa}{n} \sum_j \ell(f(x_j), y_j),$$

    with $p_j$ a point of the boundary between an input and the point that gradient steps in the
    ball of radius $d_{max}$ brought across, held constant. Lowering the loss there moves the
    boundary away from the input: its gradient is in proportion to that of the distance. Each input
    has the margin of its own, where [`adversarial`][levelset.losses.adversarial] trains at one
    radius; an input that nothing crosses from is far enough.

    The boundary is that of evaluation mode; the losses are taken in the mode the model is in.

    Cost: up to `steps` forward and backward passes an input, three to eight forward passes for the
    crossing, and two forward and backward passes.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: The largest margin $d_{max}$ that is worth widening, in the units of the points;
            in the paper about 1.5 times that to withstand.
        plain: The weight $\kappa$ of the plain cross-entropy, 0 to 1.
        norm: Infinity or 2.
        steps: Gradient steps.
        step_size: Length of each; `None` for 2.5 times the radius over the steps.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
        generator: Draws the starts; `None` for torch's global generator.
        watch: Called with the [`Diagnostics`][levelset.losses.Diagnostics] of the evaluation.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If an option or a label is out of range, or points lie outside the bounds.
        FieldError: If the model returns another shape, or has no gradient in its points.

    Example:
        >>> import torch
        >>> from levelset.losses import direct_margin
        >>> model = torch.nn.Linear(2, 2)
        >>> loss = direct_margin(model, torch.rand(5, 2), torch.zeros(5).long(), radius=0.1)
        >>> loss.backward()

    References:
        - G. W. Ding et al., "MMA training: direct input space margin maximization through
          adversarial training", ICLR 2020: MMA, with the cross-entropy at the boundary and the
          share of plain cross-entropy that they add. Their boundary point is found by PGD of
          several lengths and bisection.
    """
    check_positive("direct_margin", "radius", radius)
    if not 0.0 <= plain <= 1.0:
        message = f"direct_margin: `plain` must lie in 0 to 1, got {plain}."
        raise ParameterError(message)
    climb = Climb(
        "direct_margin", model, points, radius=radius, norm=norm, bounds=bounds, steps=steps,
        step_size=step_size, generator=generator,
    )  # fmt: skip
    logits = logits_of("direct_margin", model, climb.points, labels)
    if len(points) == 0:
        return logits.sum()
    field, values = margins("direct_margin", model, climb.points, labels, observed=True)
    right = values > 0
    ends = climb.across(field, labels, values)
    crossed, on_boundary = climb.crossings(
        field, labels, values, ends, max_iter=_MAX_ITER, tol=_TOL
    )
    at_inputs = functional.cross_entropy(logits, labels, reduction="none")
    terms = torch.where(right, 0.0, at_inputs)
    rows = (crossed & right).nonzero().flatten()
    if len(rows):
        near = logits_of("direct_margin", model, on_boundary[rows], labels[rows])
        terms = terms.index_add(
            0, rows, functional.cross_entropy(near, labels[rows], reduction="none")
        )
    boundary, at_all = (1.0 - plain) * terms.mean(), plain * at_inputs.mean()
    if watch is not None:
        length = norm_of(on_boundary[rows] - climb.points[rows], climb.norm)
        parts = {"boundary": boundary, "cross_entropy": at_all}
        watch(Diagnostics(parts, torch.ones_like(rows, dtype=torch.bool), length))
    return boundary + at_all
