"""The shortest solution of an under-determined linear system, row by row."""

import torch
from torch import Tensor

from levelset._tools.precision import at_least_single

__all__ = ["least_norm"]


def least_norm(jacobian: Tensor, values: Tensor) -> Tensor:
    r"""Return the shortest $\delta$ with $J\delta = r$ in the least-squares sense, for each row.

    For one equation this is $J^T r / |J|^2$. For more, the thin factorisation $J^T = QR$ brings
    the problem down to `l` by `l`, where a singular value decomposition handles dependent
    equations; the Moore-Penrose inverse on the side of the points is never formed, and the
    condition of $J$ is not squared. A Jacobian that vanishes or is not finite gives zero.

    Args:
        jacobian: `(n, l, e)`.
        values: Right-hand sides r, `(n, l)`; the result is linear in them and carries their graph.

    Returns:
        The solutions, `(n, e)`.
    """
    if jacobian.shape[1] == 1:
        return _along_gradient(jacobian[:, 0], values)
    sound = jacobian.isfinite().flatten(1).all(1).view(-1, 1, 1)
    jacobian, dtype = at_least_single(torch.where(sound, jacobian, 0.0)), jacobian.dtype
    q, r = torch.linalg.qr(jacobian.transpose(1, 2))
    u, s, vh = torch.linalg.svd(r.transpose(1, 2), full_matrices=False)
    floor = s[:, :1] * (max(jacobian.shape[1:]) * torch.finfo(s.dtype).eps)
    inverse = torch.where(s > floor, 1.0 / torch.where(s > floor, s, 1.0), 0.0)
    reduced = vh.transpose(1, 2) @ (
        inverse.unsqueeze(2) * (u.transpose(1, 2) @ values.to(u.dtype).unsqueeze(2))
    )
    return (q @ reduced).squeeze(2).to(dtype)


def _along_gradient(gradient: Tensor, values: Tensor) -> Tensor:
    """Return $g r / |g|^2$; gradients whose square overflows or vanishes are scaled first."""
    square = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).square()
    sound = (square > torch.finfo(square.dtype).tiny) & square.isfinite()
    if bool(sound.all()):
        return gradient * (values / square)
    size = gradient.abs().amax(1, keepdim=True)
    some = (size > 0) & size.isfinite()
    unit = torch.where(some, gradient / torch.where(some, size, 1.0), 0.0)
    square = torch.where(some, (unit * unit).sum(1, keepdim=True), 1.0)
    return unit * torch.where(some, values / torch.where(some, size, 1.0) / square, 0.0)
