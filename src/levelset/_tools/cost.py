"""What an evaluation of a model costs, counted rather than timed: the same on every machine."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from levelset._tools.batches import swift_batch
from levelset._tools.calling import FAILURES
from levelset._tools.modes import frozen, modules_of
from levelset._typing import Model

__all__ = ["batch_operations", "operations", "useful_threads"]

# Operations of one evaluation that keep a thread busy for about a millisecond, twenty times as
# long as it takes to wake it.
_OPERATIONS_A_THREAD = 10_000_000


def operations(model: Model, points: Tensor) -> int:
    """Return the floating-point operations of the model for one row, by one forward pass.

    Matrix products, convolutions and attention are counted; at least two an entry of the
    parameters, for layers that are not (recurrent ones).
    """
    parameters = sum(p.numel() for module in modules_of(model) for p in module.parameters())
    counter = _Counter()
    try:
        with frozen(model), torch.no_grad(), counter:
            model(points[:1].clone())
    except FAILURES:  # the measurement itself reports it
        counter.total = 0
    return max(counter.total, 2 * parameters, 1)


def batch_operations(model: Model, points: Tensor) -> int:
    """Return the floating-point operations of one evaluation at the size that runs fastest."""
    return min(swift_batch(model, points), len(points)) * operations(model, points)


def useful_threads(model: Model, points: Tensor) -> int:
    """Return how many processor threads an evaluation keeps busy, of those that torch has."""
    batch, most = batch_operations(model, points), torch.get_num_threads()
    return min(max(round(batch / _OPERATIONS_A_THREAD), 1), most)


class _Counter(TorchDispatchMode):
    """Adds up the operations of what is called, by torch's own formulas.

    `torch.utils.flop_counter.FlopCounterMode` does the same, but tells modules apart too, and for
    that imports the compiler: two seconds of CPU.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler, only to keep it away from this mode.
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        out = func(*args, **options)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **options, out_val=out))
        return out
