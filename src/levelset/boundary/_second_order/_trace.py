"""The trace of a symmetric operator from a few products, with its standard error."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["trace_beyond"]


def trace_beyond(
    product: Callable[[Tensor], Tensor],
    basis: Tensor,
    draw: Callable[[int], Tensor],
    products: int,
) -> tuple[Tensor, Tensor]:
    r"""Estimate the part of a trace that lies outside a subspace whose part is known.

    Hutch++ splits the trace into that of a subspace Q that holds most of the operator, known
    exactly, and the rest, $E\,g^T (I - QQ^T) A (I - QQ^T) g$ over random signs g. Here Q is the
    Krylov space of a Lanczos iteration, a better sketch than the one application of A to random
    vectors of the original, and already paid for.

    Cost: `products` products a point.

    Args:
        product: Maps `(m, e)` to A v.
        basis: Orthonormal rows of Q, `(m, s, e)`.
        draw: Returns normal numbers `(m, e)`, others for each number; their signs are used.
        products: Number of vectors g, at least 2.

    Returns:
        The estimate of the rest and its standard error, `(m,)` each.

    References:
        - R. A. Meyer, C. Musco, C. Musco, D. P. Woodruff, "Hutch++: optimal stochastic trace
          estimation", SOSA 2021.
        - T. Chen, E. Hallman, "Krylov-aware stochastic trace estimation", SIAM J. Matrix Anal.
          Appl. 44 (2023), 1218-1244.
    """
    found = []
    for number in range(products):
        signs = torch.where(draw(number) < 0, -1.0, 1.0).to(basis.dtype)
        rest = signs - ((basis @ signs.unsqueeze(2)).transpose(1, 2) @ basis).squeeze(1)
        found.append((rest * product(rest)).sum(1))
    each = torch.stack(found, dim=1)
    return each.mean(1), each.std(1) / products**0.5
