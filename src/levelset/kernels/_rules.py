"""What each function of torch makes of pairs: the rules of the secant gradient."""

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from levelset.kernels._blocks import Block, Dense, Outer
from levelset.kernels._pairs import Pair, Reader, UnknownLayerError, Use, pair

__all__ = ["RULES", "move"]

Rule: TypeAlias = Callable[[Reader, Any, tuple[Any, ...], dict[str, Any]], Any]


def move(func: Callable[..., Any], value: Pair, *args: Any, **kwargs: Any) -> Any:
    """Apply a linear function to a pair and its tangent."""
    before = func(value.before, *args, **kwargs)
    after = before if value.after is value.before else func(value.after, *args, **kwargs)
    tangent = None if value.tangent is None else func(value.tangent, *args, **kwargs)
    if isinstance(before, Tensor):
        return pair(before, after, tangent)
    tangents = tangent if tangent is not None else [None] * len(before)
    return tuple(pair(b, a, t) for b, a, t in zip(before, after, tangents, strict=True))


def _linear_map(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(args[0], Pair) or any(isinstance(a, Pair) for a in args[1:]):
        raise UnknownLayerError(f"`{func.__name__}` of such arguments")
    return move(func, *args, **kwargs)


def _padding(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    options = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
    if options.get("mode", "constant") == "constant" and options.get("value"):
        raise UnknownLayerError("`pad` with another value than 0")
    return _linear_map(reader, func, args, kwargs)


def _same(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    training = kwargs.get("training", args[2] if len(args) > 2 else False)
    if training and kwargs.get("p", args[1] if len(args) > 1 else 0.5):
        raise UnknownLayerError("dropout in training mode")
    return args[0]


def _join(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    parts = [p if isinstance(p, Pair) else pair(p, p, None) for p in args[0]]
    before = func([p.before for p in parts], *args[1:], **kwargs)
    is_one = all(p.after is p.before for p in parts)
    after = before if is_one else func([p.after for p in parts], *args[1:], **kwargs)
    if all(p.tangent is None for p in parts):
        return pair(before, after, None)
    tangents = [torch.zeros_like(p.before) if p.tangent is None else p.tangent for p in parts]
    return pair(before, after, func(tangents, *args[1:], **kwargs))


def _weighted(
    reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Pair, Any, Any]:
    """Read the arguments of a linear layer or a convolution."""
    options = dict(zip(("input", "weight", "bias"), args, strict=False))
    options |= {k: kwargs.pop(k) for k in ("input", "weight", "bias") if k in kwargs}
    value, weight, bias = options["input"], options["weight"], options.get("bias")
    if not isinstance(value, Pair) or isinstance(weight, Pair) or isinstance(bias, Pair):
        raise UnknownLayerError(f"`{func.__name__}` of such arguments")
    return value, weight, bias


def _linear(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value, weight, bias = _weighted(reader, func, args, dict(kwargs))
    return _product(reader, value, weight, bias, functional.linear, _linear_block)


def _convolution(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    kwargs = dict(kwargs)
    value, weight, bias = _weighted(reader, func, args, kwargs)
    names = ("stride", "padding", "dilation", "groups")
    options = dict(zip(names, args[3:], strict=False)) | kwargs
    axes = weight.dim() - 2
    if value.dim() != axes + 2:
        raise UnknownLayerError("a convolution of a single image")
    options = _sizes(options, tuple(weight.shape[2:]), axes)

    def convolve(values: Tensor, kernel: Tensor, shift: Any = None) -> Tensor:
        return func(values, kernel, shift, **options)

    def block(names: tuple[str, ...], middle: Tensor, fixed: bool, size: torch.Size) -> Any:
        return _convolution_block(names, middle, size, options)

    return _product(reader, value, weight, bias, convolve, block)


def _sizes(options: dict[str, Any], kernel: tuple[int, ...], axes: int) -> dict[str, Any]:
    """Return the options of a convolution, each with one number an axis."""
    full = {
        name: (v,) * axes
        if isinstance(v, int)
        else v
        if isinstance(v, str)
        else tuple(v) * (axes // len(v))
        for name, v in ({"stride": 1, "padding": 0, "dilation": 1} | options).items()
        if name != "groups"
    }
    if full["padding"] == "valid":
        full["padding"] = (0,) * axes
    elif full["padding"] == "same":
        spans = [d * (k - 1) for d, k in zip(full["dilation"], kernel, strict=True)]
        if any(span % 2 for span in spans):
            raise UnknownLayerError("a convolution that is padded on one side more")
        full["padding"] = tuple(span // 2 for span in spans)
    return full | {"groups": options.get("groups", 1)}


def _product(
    reader: Reader, value: Pair, weight: Any, bias: Any, apply: Callable[..., Tensor], block: Any
) -> Pair:
    """Return what a layer with a weight and a bias makes of a pair."""
    name, bias_name = reader.name(weight), reader.name(bias)
    if name is None and bias_name is not None:
        raise UnknownLayerError("a layer with a fixed weight and a bias that is trained")
    old, new = reader.states(name) if name else (weight, weight)
    shift, shift_new = reader.states(bias_name) if bias_name else (bias, bias)
    before = apply(value.before, old, shift)
    is_one = value.after is value.before and new is old
    after = before if is_one else apply(value.after, new, shift_new)
    tangent = None
    if value.tangent is not None:
        tangent = apply(value.tangent, old if new is old else (old + new) / 2)
    if name is not None:
        names = (name,) if bias_name is None else (name, bias_name)
        make = block(names, value.middle, value.tangent is None, weight.shape)
        probe = reader.probe(before.shape, before)
        reader.uses.append(Use(names, probe, make))
        tangent = probe if tangent is None else tangent + probe
    return pair(before, after, tangent)


def _linear_block(
    names: tuple[str, ...], middle: Tensor, fixed: bool, size: torch.Size
) -> Callable[[Tensor, int], Block]:
    if middle.dim() == 2:
        return lambda g, k: Outer(names, middle, g, fixed)
    inner = middle if len(names) == 1 else functional.pad(middle, (0, 1), value=1.0)
    steps = inner.flatten(1, -2)
    return lambda g, k: Dense(names, _summed(steps, g.flatten(1 + k, -2)))


def _summed(inner: Tensor, outer: Tensor) -> Tensor:
    """Return the sum over positions of outer times inner products, a row each."""
    equation = "ntp,ntq->nqp" if outer.dim() == 3 else "ntp,nktq->nkqp"
    return torch.einsum(equation, inner, outer).flatten(-2)


def _convolution_block(
    names: tuple[str, ...], middle: Tensor, size: torch.Size, options: dict[str, Any]
) -> Callable[[Tensor, int], Block]:
    """Return what makes a convolution's gradients, from the patches that it sees."""
    axes, groups = len(size) - 2, options["groups"]
    if axes > 2:
        raise UnknownLayerError("a convolution in three dimensions")
    if axes == 1:  # a row of pixels
        middle = middle.unsqueeze(2)
        size = torch.Size((*size[:2], 1, *size[2:]))
        options = {k: v if k == "groups" else (k != "padding", *v) for k, v in options.items()}
        options = {k: v if k == "groups" else tuple(map(int, v)) for k, v in options.items()}
    patches = functional.unfold(
        middle, tuple(size[2:]), options["dilation"], options["padding"], options["stride"]
    )
    n, _, positions = patches.shape
    patches = patches.view(n, groups, -1, positions)  # (n, g, p, t)
    if len(names) == 2:
        patches = torch.cat([patches, patches.new_ones(n, groups, 1, positions)], 2)

    def make(gradient: Tensor, k: int) -> Block:
        flat = gradient.flatten(2 + k)
        outer = flat.view(*flat.shape[: 1 + k], groups, -1, positions)  # (n, [k,] g, q, t)
        equation = "ngpt,nkgqt->nkgqp" if k else "ngpt,ngqt->ngqp"
        return Dense(names, torch.einsum(equation, patches, outer).flatten(1 + k))

    return make


def _activation(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    func = _OUT_OF_PLACE.get(func, func)
    options = {k: v for k, v in kwargs.items() if k != "inplace"}
    value, more = args[0], args[1:]
    if not isinstance(value, Pair) or any(isinstance(a, Pair) for a in more):
        raise UnknownLayerError(f"`{func.__name__}` of such arguments")

    def apply(values: Tensor) -> Tensor:
        return func(values.clone() if more and func in _MAY_WRITE else values, *more, **options)

    with torch.no_grad():
        before = apply(value.before)
        after = before if value.after is value.before else apply(value.after)
    if value.tangent is None:
        return pair(before, after, None)
    slope = _slope(apply, value, before, after, is_piecewise=func in _PIECEWISE)
    return pair(before, after, value.tangent * slope)


def _slope(
    apply: Callable[[Tensor], Tensor], value: Pair, before: Tensor, after: Tensor, *,
    is_piecewise: bool,
) -> Tensor:  # fmt: skip
    """Return the secant slope of an activation, its derivative where the values do not move."""
    middle = value.middle.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(apply(middle).sum(), middle)
    if value.after is value.before:
        return slope
    change = value.after - value.before
    # The values of linear pieces carry no rounding, so that any change will do there.
    least = 0.0 if is_piecewise else torch.finfo(change.dtype).eps ** 0.75
    moves = change.abs() > least * (1.0 + value.before.abs())
    return torch.where(moves, (after - before) / torch.where(moves, change, 1.0), slope)


def _max_pool(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    options = {k: v for k, v in kwargs.items() if k != "return_indices"}
    value = args[0]
    if kwargs.get("return_indices") or not isinstance(value, Pair):
        raise UnknownLayerError("max pooling with indices")
    indexed = _INDEXED[func]
    axes = _POOL_AXES[func]
    if value.dim() != axes + 2:
        raise UnknownLayerError("max pooling of a single image")
    before, first = indexed(value.before, *args[1:], **options)
    if value.after is value.before:
        after, last = before, first
    else:
        after, last = indexed(value.after, *args[1:], **options)
    if value.tangent is None:
        return pair(before, after, None)
    flat = value.tangent.flatten(2)
    tangent = _pick(flat, first)
    if last is not first:
        # Halfway rules are not exact: the largest entry changes where both are equal.
        lead_before = before - _pick(value.before.flatten(2), last)
        lead_after = after - _pick(value.after.flatten(2), first)
        total = lead_before + lead_after
        share = torch.where(total > 0, lead_after / torch.where(total > 0, total, 1.0), 0.5)
        tangent = share * _pick(flat, last) + (1.0 - share) * tangent
    return pair(before, after, tangent)


def _pick(flat: Tensor, places: Tensor) -> Tensor:
    return flat.gather(2, places.flatten(2)).view_as(places)


def _normalise(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    names = (
        "input",
        "running_mean",
        "running_var",
        "weight",
        "bias",
        "training",
        "momentum",
        "eps",
    )
    options = dict(zip(names, args, strict=False)) | kwargs
    value, mean, variance = (options[name] for name in names[:3])
    if options.get("training") or mean is None or not isinstance(value, Pair):
        raise UnknownLayerError("batch normalisation with the statistics of the batch")
    shape = (1, -1, *[1] * (value.dim() - 2))
    factor = (variance + options.get("eps", 1e-5)).rsqrt().view(shape)
    result = _times(_plus(value, -mean.view(shape)), factor)
    for name, combine in (("weight", _times), ("bias", _plus)):
        weight = options.get(name)
        if weight is not None:
            known = reader.name(weight)
            one = reader.spread(weight, 1 + weight.dim()) if known else weight
            result = combine(result, move(lambda t: t.view(len(t), *shape[1:]), one) if known
                             else one.view(shape))  # fmt: skip
    return result


def _plus(one: Any, other: Any, sign: float = 1.0) -> Pair:
    """Return the sum of a pair and a pair or constant."""
    one, other = _as_pair(one, other), _as_pair(other, one)
    before = one.before + sign * other.before
    is_one = one.after is one.before and other.after is other.before
    after = before if is_one else one.after + sign * other.after
    tangents = [t for t in (one.tangent, _scaled(other.tangent, sign)) if t is not None]
    return pair(before, after, _spread_over(tangents, before))


def _times(one: Any, other: Any) -> Pair:
    """Return the product of a pair and a pair or constant."""
    one, other = _as_pair(one, other), _as_pair(other, one)
    before = one.before * other.before
    is_one = one.after is one.before and other.after is other.before
    after = before if is_one else one.after * other.after
    tangents = [
        t.tangent * s.middle for t, s in ((one, other), (other, one)) if t.tangent is not None
    ]
    return pair(before, after, _spread_over(tangents, before))


def _scaled(tangent: Tensor | None, factor: float) -> Tensor | None:
    return None if tangent is None else factor * tangent


def _spread_over(tangents: list[Tensor], like: Tensor) -> Tensor | None:
    if not tangents:
        return None
    return sum(tangents[1:], start=tangents[0]).expand(like.shape)


def _as_pair(value: Any, like: Any) -> Pair:
    if isinstance(value, Pair):
        return value
    tensor = torch.as_tensor(value, dtype=like.before.dtype, device=like.before.device)
    return pair(tensor, tensor, None)


def _arithmetic(combine: Callable[[Any, Any], Pair]) -> Rule:
    def rule(reader: Reader, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs or len(args) != 2:
            raise UnknownLayerError(f"`{func.__name__}` with options")
        rank = max(a.dim() for a in args if isinstance(a, Tensor))
        one, other = (reader.operand(a, rank) for a in args)
        return combine(one, other)

    return rule


def _over(one: Any, other: Any) -> Pair:
    if isinstance(other, Pair):
        raise UnknownLayerError("a quotient by values")
    return _times(one, 1.0 / other)


_PIECEWISE = {
    functional.relu,
    torch.relu,
    functional.leaky_relu,
    functional.hardtanh,
    functional.relu6,
}
_OUT_OF_PLACE = {
    Tensor.relu_: torch.relu, torch.relu_: torch.relu, functional.relu_: torch.relu,
    Tensor.relu: torch.relu, Tensor.tanh_: torch.tanh, Tensor.sigmoid_: torch.sigmoid,
}  # fmt: skip
_SMOOTH = {
    functional.elu, functional.selu, functional.celu, functional.gelu, functional.silu,
    functional.mish, functional.softplus, functional.tanh, torch.tanh, Tensor.tanh,
    functional.sigmoid, torch.sigmoid, Tensor.sigmoid, functional.hardswish, functional.hardsigmoid,
    functional.softsign, functional.logsigmoid, functional.tanhshrink, torch.sin, torch.cos,
    torch.exp, torch.square, Tensor.square, torch.selu, Tensor.sin, Tensor.exp, torch.erf,
}  # fmt: skip
_MAY_WRITE = {
    functional.relu, functional.leaky_relu, functional.hardtanh, functional.relu6, functional.elu,
    functional.selu, functional.celu, functional.silu, functional.mish, functional.hardswish,
    functional.hardsigmoid,
}  # fmt: skip
_LINEAR_MAPS = (
    torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view, torch.squeeze,
    Tensor.squeeze, torch.unsqueeze, Tensor.unsqueeze, Tensor.contiguous, torch.permute,
    Tensor.permute, torch.transpose, Tensor.transpose, Tensor.clone, torch.clone, Tensor.chunk,
    torch.chunk, Tensor.split, torch.split, Tensor.__getitem__, Tensor.mean, torch.mean, Tensor.sum,
    torch.sum, functional.avg_pool1d, functional.avg_pool2d, functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d, torch.neg, Tensor.neg, Tensor.__neg__, Tensor.unflatten,
    torch.unflatten, torch.movedim, Tensor.movedim, torch.adaptive_avg_pool1d, torch.avg_pool1d,
    functional.pixel_shuffle, torch.unbind, Tensor.unbind, Tensor.expand, Tensor.squeeze,
)  # fmt: skip
_POOLS = {
    functional.max_pool1d: (functional.max_pool1d_with_indices, 1),
    functional.max_pool2d: (functional.max_pool2d_with_indices, 2),
    functional.max_pool3d: (functional.max_pool3d_with_indices, 3),
    torch.max_pool1d: (functional.max_pool1d_with_indices, 1),
    torch.max_pool2d: (functional.max_pool2d_with_indices, 2),
    torch.max_pool3d: (functional.max_pool3d_with_indices, 3),
}
_INDEXED = {func: both[0] for func, both in _POOLS.items()}
_POOL_AXES = {func: both[1] for func, both in _POOLS.items()}
_ARITHMETIC: dict[Any, Callable[[Any, Any], Pair]] = {
    **dict.fromkeys((torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__,
                     Tensor.__radd__, operator.add), _plus),
    **dict.fromkeys((torch.sub, Tensor.sub, Tensor.sub_, Tensor.__sub__, Tensor.__isub__),
                    lambda a, b: _plus(a, b, -1.0)),
    **dict.fromkeys((Tensor.__rsub__, torch.rsub), lambda a, b: _plus(b, a, -1.0)),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__,
                     Tensor.__rmul__, torch.multiply), _times),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.__truediv__, Tensor.__itruediv__), _over),
}  # fmt: skip
RULES: dict[Any, Rule] = {
    functional.linear: _linear,
    **dict.fromkeys((functional.conv1d, functional.conv2d), _convolution),
    **dict.fromkeys((*_PIECEWISE, *_SMOOTH, *_OUT_OF_PLACE), _activation),
    **dict.fromkeys(_POOLS, _max_pool),
    **dict.fromkeys(_LINEAR_MAPS, _linear_map),
    **dict.fromkeys((functional.dropout, functional.dropout1d, functional.dropout2d,
                     functional.dropout3d, functional.alpha_dropout, torch.dropout), _same),
    **dict.fromkeys((torch.cat, torch.concat, torch.stack), _join),
    **{func: _arithmetic(combine) for func, combine in _ARITHMETIC.items()},
    functional.pad: _padding,
    functional.batch_norm: _normalise,
}  # fmt: skip
