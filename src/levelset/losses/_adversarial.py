"""Adversarial training: the loss at the worst point that projected gradient steps find."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.modes import frozen
from levelset._typing import Bounds, Labels, Model, Norm, Points
from levelset.losses._climb import Climb, Starts
from levelset.losses._diagnostics import Diagnostics, Watch
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
    starts: Starts | None = None,
    bounds: Bounds | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Tensor:
    r"""Return the cross-entropy at points of a ball where gradient steps made it large.

    $$\ell\bigl(f(x'), y\bigr), \qquad x' \approx \mathrm{argmax}_{|x' - x| \le \epsilon}\,
      \ell\bigl(f(x'), y\bigr),$$

    the mean over the inputs; x' by `steps` projected gradient steps (PGD), in evaluation mode, and
    held constant. The loss there is taken in the mode the model is in.

    The published starts are random. With `starts="last"` in [`train`][levelset.training.train] a
    search goes on from where it ended an epoch ago, so that one or two steps do.

    Cost: `steps` + 1 forward and backward passes.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`, inside the bounds.
        labels: Their classes, `(n,)`.
        radius: Largest norm of a perturbation, in the units of the points.
        norm: Infinity or 2.
        steps: Gradient steps.
        step_size: Length of each; `None` for 2.5 times the radius over the steps.
        starts: Where the search about each input starts, `(n, *d)`; a row of NaN, or `None`, at a
            random point of the ball. `"last"`, in `train`: where it ended an epoch ago.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
        generator: Draws the starts; `None` for torch's global generator.
        watch: Called with the [`Diagnostics`][levelset.losses.Diagnostics] of the evaluation.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If an option or a label is out of range, or points lie outside the bounds.
        ShapeError: If `starts` has another shape than the points.
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
        - H. Zheng et al., "Efficient adversarial training with transferable adversarial examples",
          CVPR 2020: starts where the search of the epoch before ended.
    """
    climb = Climb(
        "adversarial", model, points, radius=radius, norm=norm, bounds=bounds, steps=steps,
        step_size=step_size, starts=starts, generator=generator,
    )  # fmt: skip
    with frozen(model):
        worst = climb.top(cross_entropies("adversarial", model), labels, climb.start())
    logits = logits_of("adversarial", model, worst, labels)
    loss = functional.cross_entropy(logits, labels) if len(points) else logits.sum()
    if watch is not None:
        watch(Diagnostics({"cross_entropy": loss}, ends={"search": worst}))
    return loss
