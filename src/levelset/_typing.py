"""The words for shapes that signatures use, with one letter for one thing.

`n` points, `*d` the axes of one point, `l` equations of a field, `k` classes. A type checker sees
plain tensors; the tests check the shapes through jaxtyping's import hook.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Booleans",
    "Bounds",
    "Corners",
    "Counts",
    "Field",
    "FieldLabels",
    "Floats",
    "Integers",
    "Labels",
    "Logits",
    "Mask",
    "Model",
    "Norm",
    "Norms",
    "PerPoint",
    "Points",
    "Progress",
    "Singles",
    "Summary",
]

Points: TypeAlias = Float[Tensor, "n *d"]
PerPoint: TypeAlias = Float[Tensor, " n"]
Logits: TypeAlias = Float[Tensor, "n k"]
Mask: TypeAlias = Bool[Tensor, " n"]
Counts: TypeAlias = Int[Tensor, " n"]
Labels: TypeAlias = Integer[Tensor, " n"]

Floats: TypeAlias = NDArray[np.float64]
"""Arrays of NumPy, in double precision; with `Singles`, `Integers` and `Booleans` beside it."""
Singles: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]
Booleans: TypeAlias = NDArray[np.bool_]

Summary: TypeAlias = dict[str, int | float]
"""The numbers of a result, ready for JSON."""

# The last word of each tells `_tools.arguments` how to read such an argument.
Norm: TypeAlias = Annotated[Any, "norm"]
"""A norm as a number or as it is written: `2`, `inf`, `"l2"`, `"Linf"`."""
Norms: TypeAlias = Annotated[Any, "norms"]
"""Several norms, or a single one."""
Model: TypeAlias = Annotated[Any, "model"]
"""A classifier: a module or another callable, `(n, *d)` to logits or probabilities, `(n, k)`."""
Bounds: TypeAlias = Annotated[Any, "bounds"]
"""`(low, high)`, each a number, one number a channel `(c,)`, or of the shape of a point."""
Corners: TypeAlias = Tensor | Sequence[Any]
"""The lowest and the highest corner of a box, `(2, d)`; two numbers mean a cube."""
FieldLabels: TypeAlias = Annotated[Any, "field labels"]
"""What a field takes with each point: `(n, ...)`, a tensor, array or list; one integer for all."""

Field: TypeAlias = Callable[..., Tensor]
"""A function whose level sets are studied: `(n, *d) [, labels (n,)] -> (n,)` or `(n, l)`.

Rows are mapped independently. A module is held in evaluation mode while it is measured, also one
that a function calls by name; hold one that it reaches in another way with `frozen` yourself.
"""


@runtime_checkable
class Progress(Protocol):
    """A progress hook."""

    def __call__(self, done: int, total: int, /) -> None:
        """Take `done` of `total` units as finished."""
