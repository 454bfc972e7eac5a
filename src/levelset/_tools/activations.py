"""The input of the last sigmoid or softmax that a callable calls: logits, unsaturated."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["LastActivation"]


class LastActivation(TorchFunctionMode):
    """Inside, the last sigmoid or softmax over classes is remembered with its input."""

    def __init__(self) -> None:
        super().__init__()
        self._last: tuple[Tensor, Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function as it is, and remember it if it is one of those."""
        kwargs = kwargs or {}
        if func not in _SIGMOIDS and func not in _SOFTMAXES:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs["input"]
        if func in _SOFTMAXES and not _is_over_classes(given, *args[1:], **kwargs):
            return func(*args, **kwargs)
        if func in _IN_PLACE:
            given = given.clone()
        out = func(*args, **kwargs)
        self._last = (out, given)
        return out

    def before(self, out: Tensor) -> Tensor | None:
        """Return the input of the activation, shaped as `out`, if that is what it returned."""
        if self._last is None:
            return None
        last, given = self._last
        if out is last:
            return given
        reshaped = (
            out._base is last and out.numel() == last.numel() and out.is_contiguous()
            and last.is_contiguous() and out.storage_offset() == last.storage_offset()
        )  # fmt: skip
        return given.reshape(out.shape) if reshaped else None


_ATEN = torch.ops.aten
_IN_PLACE = {torch.sigmoid_, Tensor.sigmoid_, _ATEN.sigmoid_.default}
_SIGMOIDS = {
    torch.sigmoid, Tensor.sigmoid, functional.sigmoid, torch.special.expit, _ATEN.sigmoid.default,
} | _IN_PLACE  # fmt: skip
_SOFTMAXES = {
    torch.softmax, Tensor.softmax, functional.softmax, torch.special.softmax, _ATEN.softmax.int,
    _ATEN._softmax.default,
}  # fmt: skip


def _is_over_classes(given: Tensor, dim: int | None = None, *rest: Any, **more: Any) -> bool:
    """Return whether a softmax runs over the second axis, of more than one class."""
    dim = more.get("dim", dim)
    if given.dim() < 2 or given.shape[1] < 2:
        return False
    return (1 if dim is None and given.dim() != 3 else (dim or 0) % given.dim()) == 1
