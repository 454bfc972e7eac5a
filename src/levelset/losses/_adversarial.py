"""Adversarial training: the loss at the worst point that projected gradient steps find."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.modes import frozen
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.losses._climb import Climb
from levelset.losses._outputs import cross_entropies, logits_of

__all__ = ["adversarial"]


@checked
def adversarial(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    norm: Norm = math.inf,
    steps: int = 7,
    step_size: float | None = None,
    bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return the cross-entropy at points of a ball where gradient steps made it large.

    $$\ell\bigl(f(x'), y\bigr), \qquad x' \approx \mathrm{argmax}_{|x' - x| \le \epsilon}\,
      \ell\bigl(f(x'), y\bigr),$$

    the mean over the inputs; x' by `steps` projected gradient steps (PGD) from a random start, in
    evaluation mode, and held constant. The loss there is taken in the mode the model is in.

    Cost: `steps` + 1 forward and backward passes.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity or 2.
        steps: Gradient steps.
        step_size: Length of each; `None` for 2.5 times the radius over the steps.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
        generator: Draws the starts; `None` for torch's global generator.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If an option or a label is out of range, or points lie outside the bounds.
        FieldError: If the model returns another shape, or has no gradient in its points.

    Example:
        >>> import torch
        >>> from levelset.losses import adversarial
        >>> model = torch.nn.Linear(2, 2)
        >>> points, labels = torch.rand(5, 2), torch.zeros(5).long()
        >>> plain = torch.nn.functional.cross_entropy(model(points), labels)
        >>> bool(adversarial(model, points, labels, radius=0.1) > plain)
        True

    References:
        - A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR
          2018.
    """
    climb = Climb(
        "adversarial", model, points, radius=radius, norm=norm, bounds=bounds, steps=steps,
        step_size=step_size, generator=generator,
    )  # fmt: skip
    with frozen(model):
        worst, _ = climb.top(cross_entropies("adversarial", model), labels, climb.start())
    logits = logits_of("adversarial", model, worst, labels)
    return functional.cross_entropy(logits, labels) if len(points) else logits.sum()
