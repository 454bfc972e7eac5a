"""Curvature regularisation (CURE)."""

import torch
from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.checks import check_points, check_positive
from levelset._typing import Field, Labels, Points
from levelset.errors import FieldError, ParameterError
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._outputs import logits_of

__all__ = ["curvature"]


@checked
def curvature(
    model: Field,
    points: Points,
    labels: Labels,
    *,
    weight: float = 4.0,
    h: float = 1.5,
    watch: Watch | None = None,
) -> Tensor:
    r"""Return the cross-entropy with a penalty on its curvature along the gradient.

    $$\ell(x) + \lambda\,|\nabla \ell(x + h z) - \nabla \ell(x)|^2, \qquad
      z = \frac{\mathrm{sign}\,\nabla\ell(x)}{|\mathrm{sign}\,\nabla\ell(x)|},$$

    the mean over the inputs. The difference of the gradients is the Hessian times h z where the
    loss is smooth, and stays meaningful on ReLU networks; z is held fixed, as in the paper. The
    model is evaluated in its present mode.

    Cost: about four forward and backward passes a step.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        weight: The factor lambda of the penalty, at least 0.
        h: Length of the step along z, in the units of the points.
        watch: Called with the [`Diagnostics`][levelset.losses.Diagnostics] of the evaluation.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If `weight` is negative or `h` not positive.
        FieldError: If the model's loss has no gradient in the points.

    Example:
        >>> import torch
        >>> from levelset.losses import curvature
        >>> model = torch.nn.Linear(2, 2)
        >>> points, labels = torch.rand(5, 2), torch.zeros(5).long()
        >>> loss = curvature(model, points, labels, weight=0.0)
        >>> plain = torch.nn.functional.cross_entropy(model(points), labels)
        >>> torch.allclose(loss, plain)
        True

    References:
        - S. Moosavi-Dezfooli et al., "Robustness via curvature regularization, and vice versa",
          CVPR 2019.
    """
    check_points("curvature", points)
    check_positive("curvature", "h", h)
    if not weight >= 0:
        message = f"curvature: `weight` must be at least 0, got {weight}."
        raise ParameterError(message)
    leaf = points.detach().clone().requires_grad_()
    losses = _losses(model, leaf, labels)
    if len(points) == 0:
        return losses.sum()
    plain = losses.mean()
    if weight == 0:
        return plain
    gradient = _gradient(losses, leaf)
    sign = gradient.detach().sign()
    length = sign.flatten(1).norm(dim=1).clamp_min(torch.finfo(sign.dtype).tiny)
    ahead = leaf.detach() + h * sign / length.view(-1, *[1] * (sign.dim() - 1))
    ahead.requires_grad_()
    change = _gradient(_losses(model, ahead, labels), ahead) - gradient
    penalty = weight * change.flatten(1).square().sum(1).mean()
    if watch is not None:
        watch(Diagnostics({"cross_entropy": plain, "penalty": penalty}))
    return plain + penalty


def _losses(model: Field, points: Tensor, labels: Tensor) -> Tensor:
    with torch.enable_grad():
        logits = logits_of("curvature", model, points, labels)
        return functional.cross_entropy(logits, labels.long(), reduction="none")


def _gradient(losses: Tensor, points: Tensor) -> Tensor:
    gradient = None
    if losses.requires_grad:
        (gradient,) = torch.autograd.grad(
            losses.sum(), points, create_graph=True, allow_unused=True
        )
    if gradient is None:
        message = (
            "curvature: `model` must be differentiable in its points, but its loss carries no "
            "gradient. Does it detach them, or run without gradients?"
        )
        raise FieldError(message)
    return gradient
