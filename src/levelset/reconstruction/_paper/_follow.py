"""One Newton step and an attached sample, out of one evaluation of the field."""

import torch
from torch import Tensor, nn

from levelset._tools.least_norm import least_norm
from levelset._typing import PerPoint, Points

__all__ = ["follow"]


def follow(
    network: nn.Module, points: Points, share: PerPoint, *, max_step: float
) -> tuple[Tensor, Tensor]:
    r"""Move points towards the zero level set by one Newton step, and attach them there.

    A sample that lay on the level set before the parameters took a small step lies close to it
    afterwards. `project` would take a Newton step from it, and `attach` evaluate the field and
    its derivative once more at the end. Both are made of one evaluation here: the value at the
    point moves it, its derivative ties it to the parameters, as in Eq. 9 with c = 0:

    $$p(\theta) = p - s\,D_xF(p;\theta_0)^{+} F(p;\theta_0)
      - D_xF(p;\theta_0)^{+} \bigl[F(p;\theta) - F(p;\theta_0)\bigr].$$

    What it leaves out is of second order in the step. With s = 0 a point stays, on its own level:
    that is `attach` of `Projection.at`.

    Args:
        network: The field; maps `(n, d)` to `(n,)` or `(n, l)`.
        points: Where the samples are, `(n, d)`.
        share: The part s of the Newton step each takes, 0 or 1, `(n,)`.
        max_step: Longest step; a step that is cut leaves its sample on a level of its own.

    Returns:
        The samples, `(n, d)`, differentiable in the parameters, and the levels they are on to
        first order, `(n,)`: 0 after a whole step. For more than one equation all levels are 0.
    """
    leaf = points.detach().clone().requires_grad_()
    values = network(leaf)
    values = values.unsqueeze(1) if values.dim() == 1 else values
    rows = values.unbind(1)
    jacobian = torch.stack(
        [torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in rows], dim=1
    )
    held = values.detach()
    step = least_norm(jacobian, held)
    step = torch.where(step.isfinite().all(1, keepdim=True), step, 0.0)
    length = torch.linalg.vector_norm(step, dim=1)
    taken = share * (max_step / length.clamp(min=max_step))
    levels = (1.0 - taken) * held[:, 0] if len(rows) == 1 else torch.zeros_like(share)
    moved = points.detach() - taken[:, None] * step
    return moved - least_norm(jacobian, values - held), levels
