"""Calling a field with each ReLU replaced by a softplus, without touching its modules."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from levelset._typing import Field
from levelset.errors import FieldError

__all__ = ["Softened", "calls_relu"]

_RELU = frozenset({
    functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
    torch.ops.aten.relu.default, torch.ops.aten.relu_.default,
})  # fmt: skip
_LEAKY = frozenset({
    functional.leaky_relu, functional.leaky_relu_, torch._C._nn.leaky_relu,
    torch.ops.aten.leaky_relu.default, torch.ops.aten.leaky_relu_.default,
})  # fmt: skip
# Beyond this torch's softplus returns its argument; its slope there is 1 to the last bit.
_THRESHOLD = 40.0


class Softened:
    """A field whose ReLUs are softplus functions while this object calls it.

    Args:
        function: Name of the public function at work, for messages.
        field: The field; anything that calls torch's functions eagerly.
        beta: Sharpness of the softplus.
    """

    def __init__(self, function: str, field: Field, beta: float) -> None:
        self.function, self.field, self.beta = function, field, beta

    def __call__(self, points: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the surrogate's values."""
        with _Replacing(self.beta) as mode:
            out = self.field(points) if labels is None else self.field(points, labels)
        if not mode.replaced and len(points):
            message = (
                f"{self.function}: SoftplusSurrogate must find a ReLU to replace, got a field that "
                "calls none (compiled and scripted models hide theirs). Leave `smoothing` out for "
                "a smooth field, or take CentralDifference or GaussianSmoothing."
            )
            raise FieldError(message)
        return out


def calls_relu(field: Field, points: Tensor) -> bool:
    """Return whether a field calls a ReLU that can be replaced."""
    with torch.no_grad(), _Replacing(1.0) as mode:
        field(points)
    return mode.replaced > 0


class _Replacing(TorchFunctionMode):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta, self.replaced = beta, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace ReLUs, pass everything else on."""
        kwargs = kwargs or {}
        if func in _RELU:
            self.replaced += 1
            return self._soft(args[0] if args else kwargs["input"])
        if func in _LEAKY:
            self.replaced += 1
            given = args[0] if args else kwargs["input"]
            slope = args[1] if len(args) > 1 else kwargs.get("negative_slope", 0.01)
            return slope * given + (1.0 - slope) * self._soft(given)
        return func(*args, **kwargs)

    def _soft(self, given: Tensor) -> Tensor:
        return functional.softplus(given, beta=self.beta, threshold=_THRESHOLD)
