"""The surrogate of a network with each ReLU replaced by a softplus, its modules untouched."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive
from levelset._typing import Field
from levelset.boundary._second_order._hessian import ExactDerivatives, ExactHessian
from levelset.boundary._second_order._smoothing import (
    Hessian,
    Part,
    Scale,
    SecondDerivatives,
    Smoothing,
)
from levelset.errors import FieldError

__all__ = ["Softened", "SoftplusSurrogate", "calls_relu"]

Soft = Callable[[Tensor], Tensor]

# Beyond this torch's softplus returns its argument; its slope there is 1 to the last bit.
_THRESHOLD = 40.0


@checked
@dataclass(frozen=True)
class SoftplusSurrogate(Smoothing, Scale):
    r"""The same weights with every ReLU replaced by $\log(1 + e^{\beta z})/\beta$.

    The Hessian of the surrogate is a linear operator, so Lanczos and traces work in any number of
    dimensions. `beta` sets the scale as `h` does: the surrogate rounds each kink over a width of
    about $1/\beta$ in the units of the pre-activations. Value, gradient and normal are the
    surrogate's too. ReLU and leaky ReLU are replaced wherever torch's functions are called; the
    module is not touched. Max-pooling stays: its winners at the point are taken as fixed.

    Attributes:
        beta: Sharpness; the ReLU is its limit at infinity.
    """

    beta: float

    def __post_init__(self) -> None:
        """Check the sharpness."""
        check_positive("SoftplusSurrogate", "beta", self.beta)

    @property
    def words(self) -> str:
        return f"a softplus of sharpness {self.beta:.3g} for each ReLU"

    def operator(self, part: Part) -> Hessian:
        return ExactHessian(part, Softened(part.function, part.field, self.beta))

    def second_derivatives(
        self, function: str, model: Field, batch_size: int | None
    ) -> SecondDerivatives:
        return ExactDerivatives(function, Softened(function, model, self.beta), model, batch_size)


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
        field(points.clone())
    return mode.replaced > 0


def _relu(soft: Soft, input_: Tensor, inplace: bool = False) -> Tensor:
    return soft(input_)


def _leaky_relu(
    soft: Soft, input_: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    return negative_slope * input_ + (1.0 - negative_slope) * soft(input_)


def _prelu(soft: Soft, input_: Tensor, weight: Tensor) -> Tensor:
    slope = weight if weight.numel() == 1 else weight.view(-1, *[1] * (input_.dim() - 2))
    return slope * input_ + (1.0 - slope) * soft(input_)


def _hardtanh(
    soft: Soft, input_: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return min_val + soft(input_ - min_val) - soft(input_ - max_val)


def _relu6(soft: Soft, input_: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(soft, input_, 0.0, 6.0)


def _threshold(
    soft: Soft, input_: Tensor, threshold: float, value: float, inplace: bool = False
) -> Tensor | None:
    return soft(input_) if threshold == 0 and value == 0 else None


def _clamp(soft: Soft, input_: Tensor, min: Any = None, max: Any = None) -> Tensor | None:  # noqa: A002
    return soft(input_) if max is None and _is_zero(min) else None


def _maximum(soft: Soft, input_: Tensor, other: Tensor) -> Tensor | None:
    if _is_zero(input_):
        input_, other = other, input_
    return soft(input_) + other if _is_zero(other) else None


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not bool(value.any())
    return bool(value == 0) and value is not None


_ATEN = torch.ops.aten
# What each of torch's functions is, in terms of a soft ReLU; None where it is none.
_FORMS: dict[Any, Callable[..., Tensor | None]] = {
    **dict.fromkeys((
        functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
        _ATEN.relu.default, _ATEN.relu_.default,
    ), _relu),
    **dict.fromkeys((
        functional.leaky_relu, functional.leaky_relu_, torch._C._nn.leaky_relu,
        _ATEN.leaky_relu.default, _ATEN.leaky_relu_.default,
    ), _leaky_relu),
    **dict.fromkeys((functional.prelu, torch.prelu, Tensor.prelu, _ATEN.prelu.default), _prelu),
    **dict.fromkeys((
        functional.hardtanh, functional.hardtanh_, torch._C._nn.hardtanh, _ATEN.hardtanh.default,
        _ATEN.hardtanh_.default,
    ), _hardtanh),
    **dict.fromkeys((functional.relu6, torch._C._nn.relu6), _relu6),
    **dict.fromkeys((
        functional.threshold, torch.threshold,
        _ATEN.threshold.default, _ATEN.threshold_.default,
    ), _threshold),
    **dict.fromkeys((
        torch.clamp, torch.clamp_, torch.clip, torch.clip_, torch.clamp_min, torch.clamp_min_,
        Tensor.clamp, Tensor.clamp_, Tensor.clip, Tensor.clip_, Tensor.clamp_min,
        Tensor.clamp_min_, _ATEN.clamp.default, _ATEN.clamp_.default, _ATEN.clamp_min.default,
        _ATEN.clamp_min_.default,
    ), _clamp),
    **dict.fromkeys((
        torch.maximum, Tensor.maximum, torch.fmax, Tensor.fmax, _ATEN.maximum.default,
    ), _maximum),
}  # fmt: skip


class _Replacing(TorchFunctionMode):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.soft = partial(functional.softplus, beta=beta, threshold=_THRESHOLD)
        self.replaced = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace ReLUs, pass everything else on."""
        kwargs = kwargs or {}
        form = _FORMS.get(func)
        if form is None:
            return func(*args, **kwargs)
        named = dict(kwargs)
        input_ = args[0] if args else named.pop("input")
        in_place = _writes(func, args, kwargs)
        # A copy, as softplus keeps its argument for the backward pass.
        start = input_.clone() if in_place else input_
        out = form(self.soft, start, *args[1:], **named)
        if out is None:
            return func(*args, **kwargs)
        self.replaced += 1
        return input_.copy_(out) if in_place else out


def _writes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call writes into its argument: `relu_`, or `inplace=True`."""
    by_name = func.__name__.split(".")[0].endswith("_")
    return by_name or any(value is True for value in (*args[1:], *kwargs.values()))
