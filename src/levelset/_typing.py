"""The words for shapes that signatures use, with one letter for one thing.

`n` points, `*d` the axes of one point, `l` equations of a field, `k` classes. A type checker sees
plain tensors; the tests check the shapes through jaxtyping's import hook.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

__all__ = ["Counts", "Field", "Labels", "Logits", "Mask", "PerPoint", "Points", "Progress"]

Points: TypeAlias = Float[Tensor, "n *d"]
PerPoint: TypeAlias = Float[Tensor, " n"]
Logits: TypeAlias = Float[Tensor, "n k"]
Mask: TypeAlias = Bool[Tensor, " n"]
Counts: TypeAlias = Int[Tensor, " n"]
Labels: TypeAlias = Integer[Tensor, " n"]

Field: TypeAlias = Callable[..., Tensor]
"""A function whose level sets are studied: `(n, *d) [, labels (n,)] -> (n,)` or `(n, l)`.

Rows are mapped independently. A module is held in evaluation mode while it is measured; a closure
hides its module from that, so wrap it in one, or hold it with `frozen` yourself.
"""


@runtime_checkable
class Progress(Protocol):
    """A hook that is told how far a computation is."""

    def __call__(self, done: int, total: int, /) -> None:
        """Take `done` of `total` units as finished."""
