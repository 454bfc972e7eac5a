"""What an evaluation of a model costs, counted rather than timed: the same on every machine."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from levelset._tools.modes import frozen, modules_of

__all__ = ["operations"]


def operations(model: nn.Module, points: Tensor) -> int:
    """Return the floating-point operations of the model for one row, by one forward pass.

    Matrix products, convolutions and attention are counted; at least two an entry of the
    parameters, for layers that are not (recurrent ones).
    """
    parameters = sum(p.numel() for module in modules_of(model) for p in module.parameters())
    counter = FlopCounterMode(display=False)
    try:
        with frozen(model), torch.no_grad(), counter:
            model(points[:1].clone())
        counted = counter.get_total_flops()
    except (RuntimeError, TypeError, ValueError):  # what is wrong is said when it is measured
        counted = 0
    return max(counted, 2 * parameters, 1)
