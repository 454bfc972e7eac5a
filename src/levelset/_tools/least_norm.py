"""The shortest solution of an under-determined linear system, row by row."""

import torch
from torch import Tensor

__all__ = ["least_norm"]


def least_norm(jacobian: Tensor, values: Tensor) -> Tensor:
    r"""Return the shortest $\delta$ with $J\delta = r$ in the least-squares sense, for each row.

    For one equation this is $J^T r / |J|^2$. For more, the thin factorisation $J^T = QR$ brings
    the problem down to `l` by `l`, where a singular value decomposition handles dependent
    equations; the Moore-Penrose inverse on the side of the points is never formed, and the
    condition of $J$ is not squared. A vanishing Jacobian gives zero.

    Args:
        jacobian: `(n, l, e)`.
        values: Right-hand sides r, `(n, l)`; the result is linear in them and carries their graph.

    Returns:
        The solutions, `(n, e)`.
    """
    if jacobian.shape[1] == 1:
        gradient = jacobian[:, 0]
        # Scaled by the largest entry, so that squares neither overflow nor vanish.
        size = gradient.abs().amax(1, keepdim=True)
        unit = gradient / torch.where(size > 0, size, 1.0)
        square = (unit * unit).sum(1, keepdim=True)
        factor = torch.where(size > 0, values / (size * torch.where(size > 0, square, 1.0)), 0.0)
        return unit * factor
    q, r = torch.linalg.qr(jacobian.transpose(1, 2))
    u, s, vh = torch.linalg.svd(r.transpose(1, 2), full_matrices=False)
    floor = s[:, :1] * (max(jacobian.shape[1:]) * torch.finfo(s.dtype).eps)
    inverse = torch.where(s > floor, 1.0 / torch.where(s > floor, s, 1.0), 0.0)
    reduced = vh.transpose(1, 2) @ (inverse.unsqueeze(2) * (u.transpose(1, 2) @ values.unsqueeze(2)))
    return (q @ reduced).squeeze(2)
