"""Gradients of two-layer networks integrated exactly along a step of the weights.

The values of the first layer are linear in the time t from 0 to 1, as their input is fixed. So each
unit is on in one interval, whose ends are the zeros of linear functions, and what is integrated, a
polynomial between them, has a closed form.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from levelset.kernels._pairs import Pair, Reader, UnknownLayerError, pair
from levelset.kernels._rules import RULES

__all__ = ["EXACT_RULES"]

_WHERE = "a layer beyond Linear or Conv, ReLU, Linear, for which breakpoints are not known"


class _Integrated(Pair):
    """Activations over a step.

    Attributes:
        area: Their integral over t.
        ones: Integral of the slope.
        later: Integral of the slope times t.
    """

    area: Tensor
    ones: Tensor
    later: Tensor

    @property
    def middle(self) -> Tensor:
        """The integral, in place of the mean of the ends."""
        return self.area


class _Last(Pair):
    """Values after the second layer, which are no longer linear in t."""


def _integrate(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Integrate a ReLU, or one with a slope below 0, over the step."""
    value = args[0]
    leak = 0.0
    if func is functional.leaky_relu:
        leak = kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01)
    if isinstance(value, _Integrated | _Last) or value.tangent is None:
        raise UnknownLayerError(_WHERE)
    old, new = value.before, value.after
    # The unit is on from `low` to `high`.
    crossing = (old / torch.where(old == new, 1.0, old - new)).clamp(0.0, 1.0)
    is_on, ends_on = old > 0, new > 0
    low = torch.where(is_on, 0.0, torch.where(ends_on, crossing, 1.0))
    high = torch.where(ends_on, 1.0, torch.where(is_on, crossing, low))
    ones, times = high - low, (high.square() - low.square()) / 2
    area = old * ones + (new - old) * times
    ends = (torch.where(is_on, old, leak * old), torch.where(ends_on, new, leak * new))
    result = _as(_Integrated, pair(*ends, value.tangent))
    result.ones = leak + (1.0 - leak) * ones
    result.later = leak / 2 + (1.0 - leak) * times
    result.area = leak * (old + new) / 2 + (1.0 - leak) * area
    return result


def _linear(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Carry activations through a linear layer whose weights move."""
    value = args[0]
    if not isinstance(value, _Integrated):
        return _first(reader, func, args, kwargs)
    flat = pair(value.before, value.after, None)
    flat = _as(_Integrated, flat)
    flat.area = value.area
    inner = RULES[func](reader, func, (flat, *args[1:]), kwargs)
    name = reader.name(args[1] if len(args) > 1 else kwargs["weight"])
    if name is None or value.tangent is None:
        raise UnknownLayerError(_WHERE)
    old, new = reader.states(name)
    tangent = functional.linear(value.tangent * value.ones, old)
    tangent = tangent + functional.linear(value.tangent * value.later, new - old)
    return _as(_Last, pair(inner.before, inner.after, inner.tangent + tangent))


def _first(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Carry inputs through the first layer."""
    if args[0].tangent is not None:
        raise UnknownLayerError(_WHERE)
    return RULES[func](reader, func, args, kwargs)


def _as(kind: type[Pair], value: Pair) -> Any:
    """Return a pair as one of another kind."""
    made = Tensor._make_subclass(kind, value.before)
    made.before, made.after, made.tangent = value.before, value.after, value.tangent
    return made


def _refuse(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise UnknownLayerError(_WHERE)


def _moved(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Change the shape of a pair, with all that it holds."""
    value = args[0]
    made = RULES[func](reader, func, args, kwargs)
    if not isinstance(value, _Integrated | _Last):
        return made
    result = _as(type(value), made)
    if isinstance(value, _Last):
        return result
    for part in ("area", "ones", "later"):
        setattr(result, part, func(getattr(value, part), *args[1:], **kwargs))
    return result


_SHAPES = (torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view)
_RELUS = {
    func: rule for func, rule in RULES.items()
    if func in (functional.relu, torch.relu, functional.leaky_relu, Tensor.relu, torch.relu_)
}  # fmt: skip
EXACT_RULES: dict[Any, Any] = {
    **dict.fromkeys(RULES, _refuse),
    **dict.fromkeys(_SHAPES, _moved),
    **dict.fromkeys(_RELUS, _integrate),
    functional.linear: _linear,
}
EXACT_RULES |= {func: RULES[func] for func in (functional.dropout,)}
EXACT_RULES |= dict.fromkeys((functional.conv2d,), _linear)
