"""Values at two states of the weights, and what carries them through the functions of a model."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from levelset.kernels._blocks import Block, Dense

__all__ = ["Pair", "Reader", "UnknownLayerError", "Use", "pair"]


class UnknownLayerError(Exception):
    """A function that has no rule; the message says which."""


class Pair(Tensor):
    """Values before and after a step.

    Attributes:
        before: The values with the first weights.
        after: Those with the second; the same object where both are one.
        tangent: Carries the graph; `None` where the values do not depend on the weights.
    """

    before: Tensor
    after: Tensor
    tangent: Tensor | None

    @property
    def middle(self) -> Tensor:
        """The mean of both."""
        return self.before if self.after is self.before else (self.before + self.after) / 2


def pair(before: Tensor, after: Tensor, tangent: Tensor | None) -> Pair:
    """Return a pair."""
    made = Tensor._make_subclass(Pair, before)
    made.before, made.after, made.tangent = before, after, tangent
    return made


class Use:
    """One use of a weight: where its gradient is read off.

    Attributes:
        names: Of the weights.
        probe: Zeros that are added where the weight acts; the outputs' gradient in it is what the
            weight's own is made of.
        make: Makes the block from that gradient, `(n, ...)` or `(n, k, ...)`.
    """

    def __init__(
        self, names: tuple[str, ...], probe: Tensor, make: Callable[[Tensor, int], Block]
    ) -> None:
        self.names, self.probe, self.make = names, probe, make

    def block(self, gradient: Tensor) -> Block:
        """Return the block of a gradient in the probe."""
        return self.make(gradient, gradient.dim() - self.probe.dim())


class Reader(TorchFunctionMode):
    """Carries pairs through the functions that a model calls.

    Attributes:
        uses: Of the weights, in the order of the calls.
    """

    def __init__(
        self,
        model: nn.Module,
        before: dict[str, Tensor],
        after: dict[str, Tensor],
        rows: int,
        rules: Mapping[Any, Any],
    ) -> None:
        super().__init__()
        self._names = {id(p): n for n, p in model.named_parameters() if n in before}
        self._before, self._after, self._rows, self._rules = before, after, rows, rules
        self.uses: list[Use] = []

    def name(self, weight: Any) -> str | None:
        """Return the name of a weight that counts; `None` for any other object."""
        return self._names.get(id(weight)) if isinstance(weight, nn.Parameter) else None

    def states(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a weight before and after."""
        one = self._before[name]
        return one, one if self._after is self._before else self._after[name]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function: by its rule if a pair or a weight is among its arguments."""
        kwargs = kwargs or {}
        inside = [*args, *kwargs.values()]
        inside = [
            v for each in inside for v in (each if isinstance(each, list | tuple) else [each])
        ]
        has_pair = any(isinstance(v, Pair) for v in inside)
        if not has_pair and not any(self.name(v) for v in inside):
            return func(*args, **kwargs)
        if func in _QUERIES:
            plain = [a.before if isinstance(a, Pair) else a for a in args]
            return func(*plain, **kwargs)
        rule = self._rules.get(func)
        if rule is None or not has_pair:
            name = getattr(func, "__name__", str(func))
            raise UnknownLayerError(f"the function `{name}`")
        return rule(self, func, args, kwargs)

    def probe(self, shape: tuple[int, ...] | torch.Size, like: Tensor) -> Tensor:
        """Return zeros with a graph."""
        return torch.zeros(shape, dtype=like.dtype, device=like.device, requires_grad=True)

    def spread(self, weight: Any, rank: int) -> Pair:
        """Return a weight that acts entry by entry as a pair, with a tangent for each row."""
        name = self.name(weight)
        if name is None:
            return pair(weight, weight, None)
        before, after = self.states(name)
        shape = (1,) * (rank - before.dim()) + tuple(before.shape)
        if len(shape) != rank or (rank and shape[0] != 1):
            raise UnknownLayerError(f"the weight `{name}` with an entry for each row")
        probe = self.probe((self._rows, *shape[1:]), before)
        use = Use((name,), probe, lambda g, k: Dense((name,), g.flatten(1 + k)))
        self.uses.append(use)
        old = before.view(shape)
        return pair(old, old if after is before else after.view(shape), probe)

    def operand(self, value: Any, rank: int) -> Any:
        """Return an argument of an arithmetic function as a pair or a constant."""
        return self.spread(value, rank) if self.name(value) else value


_PROPERTIES = ("shape", "ndim", "dtype", "device", "requires_grad", "is_cuda")
_QUERIES = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, Tensor.is_floating_point, Tensor.stride,
    Tensor.is_contiguous, *(getattr(Tensor, name).__get__ for name in _PROPERTIES),
}  # fmt: skip
