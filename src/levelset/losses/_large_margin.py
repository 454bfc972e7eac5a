"""The large-margin loss: the distance to the boundary by one Newton step."""

import math

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.calling import undifferentiable
from levelset._tools.checks import check_points, check_positive, check_whole
from levelset._tools.norms import check_norm, dual, norm_of
from levelset._typing import Labels, Model, Norm, Points
from levelset.errors import FieldError
from levelset.losses._outputs import logits_of

__all__ = ["large_margin"]

# Added to the norm of the gradient, as in the paper.
_SMALL = 1e-6


@checked
def large_margin(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    radius: float,
    norm: Norm = math.inf,
    rivals: int = 1,
    through_gradient: bool = False,
) -> Tensor:
    r"""Return by how much the linearised distance to the boundary falls short of a radius.

    $$\max_j \max\Bigl\{0,\; \gamma - \frac{f_y(x) - f_j(x)}
      {|\nabla f_y(x) - \nabla f_j(x)|_q + 10^{-6}}\Bigr\},$$

    the mean over the inputs, with q the dual of the norm and j the `rivals` highest other classes.
    The quotient is the length of one Newton step to the tie of y and j, negative where j is ahead:
    the distance itself for affine models, and an estimate elsewhere, which a network may learn to
    deceive. [`robust_distance`][levelset.losses.robust_distance] measures to points that lie on
    the boundary.

    Cost: a forward and `rivals` + 1 backward passes; about twice that `through_gradient`.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        radius: The distance $\gamma$ to keep, in the units of the points.
        norm: Of the distance: infinity, 2 or 1.
        rivals: How many other classes, the highest first; the paper takes all.
        through_gradient: Whether the denominator is differentiated too; the paper holds it
            constant. Of a piecewise linear network it has a gradient all the same.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If an option or a label is out of range.
        FieldError: If the model returns another shape, or has no gradient in its points.

    Example:
        >>> import torch
        >>> from levelset.losses import large_margin
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        >>> _ = model.bias.data.zero_()
        >>> loss = large_margin(model, torch.tensor([[1.0, 0.5]]), torch.tensor([0]), radius=0.5)
        >>> round(float(loss.detach()), 4)  # 0.5 - (3 - 2) / (3 + 4)
        0.3571

    References:
        - G. F. Elsayed et al., "Large margin deep networks for classification", NeurIPS 2018, for
          the layer of the inputs alone; they sum over the other classes, or take the largest.
    """
    check_positive("large_margin", "radius", radius)
    norm = check_norm("large_margin", norm, (math.inf, 2.0, 1.0))
    check_whole("large_margin", "rivals", rivals)
    check_points("large_margin", points)
    leaf = points.detach().clone().requires_grad_()
    logits = logits_of("large_margin", model, leaf, labels)
    if len(points) == 0:
        return logits.sum()
    if not logits.requires_grad:
        raise FieldError(undifferentiable("large_margin").replace("`field`", "`model`"))
    own = labels.unsqueeze(1)
    count = min(rivals, logits.shape[1] - 1)
    others = logits.detach().scatter(1, own, -math.inf).topk(count, dim=1).indices
    gaps = logits.gather(1, own) - logits.gather(1, others)
    lengths = []
    for j in range(count):
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(
                gaps[:, j].sum(), leaf, retain_graph=True, create_graph=through_gradient,
                allow_unused=True,
            )  # fmt: skip
        if gradient is None:
            raise FieldError(undifferentiable("large_margin").replace("`field`", "`model`"))
        lengths.append(norm_of(gradient, dual(norm)))
    short = (radius - gaps / (torch.stack(lengths, dim=1) + _SMALL)).clamp(min=0.0)
    return short.amax(1).mean()
