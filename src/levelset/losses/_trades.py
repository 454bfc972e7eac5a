"""TRADES: the cross-entropy, and how far the answer moves within a ball."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from levelset._logits import AsLogits
from levelset._tools.arguments import checked
from levelset._tools.modes import frozen
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.errors import ParameterError
from levelset.losses._climb import Climb
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._outputs import logits_of

__all__ = ["trades"]


@checked
def trades(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    beta: float = 6.0,
    norm: Norm = math.inf,
    steps: int = 7,
    step_size: float | None = None,
    bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    r"""Return the cross-entropy plus the divergence between the answers at an input and near it.

    $$\ell\bigl(f(x), y\bigr) + \beta\, \mathrm{KL}\bigl(p(x) \,\|\, p(x')\bigr), \qquad
      x' \approx \mathrm{argmax}_{|x' - x| \le \epsilon}\,
      \mathrm{KL}\bigl(p(x) \,\|\, p(x')\bigr),$$

    the mean over the inputs, with p the softmax of the logits; x' by `steps` projected gradient
    steps from a random start, in evaluation mode, and held constant. Both terms are taken in the
    mode the model is in.

    Cost: `steps` + 2 forward and backward passes.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: Largest norm of a perturbation, in the units of the points.
        beta: Weight of the divergence, 0 or more.
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
        >>> from levelset.losses import trades
        >>> model = torch.nn.Linear(2, 2)
        >>> points, labels = torch.rand(5, 2), torch.zeros(5).long()
        >>> plain = torch.nn.functional.cross_entropy(model(points), labels)
        >>> bool(trades(model, points, labels, radius=0.1) > plain)
        True

    References:
        - H. Zhang et al., "Theoretically principled trade-off between robustness and accuracy",
          ICML 2019. Their steps start 0.001 times a normal vector away; here in the whole ball.
    """
    if not (math.isfinite(beta) and beta >= 0):
        message = f"trades: `beta` must be 0 or positive, got {beta}."
        raise ParameterError(message)
    climb = Climb(
        "trades", model, points, radius=radius, norm=norm, bounds=bounds, steps=steps,
        step_size=step_size, generator=generator,
    )  # fmt: skip
    reader = AsLogits(model)
    logits = logits_of("trades", reader, climb.points, labels)
    if len(points) == 0:
        return logits.sum()
    with frozen(model), torch.no_grad():
        still = logits_of("trades", reader, climb.points, labels).log_softmax(1)

    def divergence(near: Tensor, target: Tensor) -> Tensor:
        return _divergence(target, reader.read("trades", near).log_softmax(1))

    with frozen(model):
        worst = climb.top(divergence, still, climb.start())
    moved = logits_of("trades", reader, worst, labels)
    plain = functional.cross_entropy(logits, labels)
    apart = beta * _divergence(logits.log_softmax(1), moved.log_softmax(1)).mean()
    if watch is not None:
        watch(Diagnostics({"cross_entropy": plain, "divergence": apart}))
    return plain + apart


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return KL(p || q) of each row, of logarithms."""
    return functional.kl_div(other, one, reduction="none", log_target=True).sum(1)
