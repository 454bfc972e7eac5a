"""Giving projected points their gradient in the parameters: the papers' sample network."""

import warnings

import torch
from torch import Tensor

from levelset._projection import Projection
from levelset._tools.arguments import checked
from levelset._tools.calling import Caller, tensor_of, undifferentiable
from levelset._tools.least_norm import least_norm
from levelset._tools.modes import draws_or_couples
from levelset._typing import Field
from levelset.errors import FieldError, ModeWarning

__all__ = ["attach"]


@checked
def attach(field: Field, projection: Projection) -> Tensor:
    r"""Tie projected points to the parameters of their field again.

    The result has exactly the values of `projection.points`, and the gradient

    $$D_\theta p = -D_xF(p)^{+}\, D_\theta F(p)$$

    with which a point of the level set moves as the parameters do, by the shortest way: along the
    normal. It is the opposite of `detach`. Any loss of the returned points trains the level set:
    its distance from data, its smoothness, its place.

    A point that missed the level set is served all the same: it rides on the level it has. A
    point where the gradient in x vanishes, or is not finite, stays in place and gets no gradient.
    Leave out points where the field itself is NaN: they stay in place too, but the field's own
    backward pass makes NaN of no gradient.

    It runs in the mode the field is in. Under dropout the one forward pass is the one that is
    drawn; the values do not depend on it. It is *not* twice differentiable: the Jacobian in x is
    held constant, as in the paper.

    Cost: one forward and `l` backward passes in the points, and the graph of that forward pass
    for the caller's own backward pass.

    Args:
        field: The field that was projected on; maps `(n, *d)` to `(n,)` or `(n, l)`.
        projection: What `project`, `intersect` or `Projection.at` returned.

    Returns:
        The points, `(n, *d)`, differentiable in the parameters of the field.

    Raises:
        FieldError: If the field has no gradient in its points, or returns another shape.

    Warns:
        ModeWarning: If a Dropout or BatchNorm layer is in training mode: then the gradient is of
            another field than the one projected on.

    Example:
        >>> import torch
        >>> from levelset import attach, project
        >>> line = torch.nn.Linear(2, 1)
        >>> field = lambda x: line(x).squeeze(1)
        >>> sample = attach(field, project(field, torch.randn(5, 2)))
        >>> sample.square().sum().backward()
        >>> line.bias.grad is not None
        True

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, section 2.2, Eq. 6 to 9
          and Lemma 2. Their network subtracts a stored level c from the value; here the value's
          own detached copy is subtracted, so that the points stay put to the bit in any mode.
    """
    layer = draws_or_couples(field)
    if layer is not None:
        message = (
            f"attach: {layer} is in training mode, so the gradient belongs to another field than "
            "the one that was projected on. Call `.eval()` on the field, or on that layer."
        )
        warnings.warn(message, ModeWarning, stacklevel=3)
    points = projection.points.detach()
    with torch.enable_grad():
        leaf = points.clone().requires_grad_()
        # A copy, as a field may write into its input.
        out = Caller("attach", field)(leaf.clone(), projection.labels, owned=True)
        values = tensor_of("attach", "field", out, len(leaf))
        if values.dim() not in (1, 2) or len(values) != len(leaf):
            message = f"attach: `field` must return (n,) or (n, l), got {tuple(values.shape)}."
            raise FieldError(message)
        if not values.requires_grad:
            raise FieldError(undifferentiable("attach"))
        values = (values.unsqueeze(1) if values.dim() == 1 else values).to(points.dtype)
        jacobian = torch.stack(
            [
                torch.autograd.grad(v.sum(), leaf, retain_graph=True, materialize_grads=True)[0]
                for v in values.unbind(1)
            ],
            dim=1,
        ).flatten(2)
        # Zero; its gradient is that of the field.
        change = torch.where(values.isfinite(), values - values.detach(), 0.0)
        move = least_norm(jacobian, change).view_as(points)
    return points - (move + 0.0)  # adding zero turns -0 into 0, and 0 leaves every bit
