"""The second derivative that a field has itself, by automatic differentiation."""

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function, grad
from torch.func import jvp
from torch.nn import functional
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from levelset._tools.batches import row_batches, swift_batch
from levelset._tools.calling import Caller, tensor_of, undifferentiable
from levelset._tools.evaluation import Evaluator
from levelset._typing import Field
from levelset.boundary._second_order._refusals import one_equation
from levelset.boundary._second_order._smoothing import (
    Hessian,
    Part,
    SecondDerivatives,
    Smoothing,
)
from levelset.errors import FieldError

__all__ = ["OWN", "ExactDerivatives", "ExactHessian", "LinearConvolutions"]

# Copies of one point in one second-order pass, in numbers: 56 of an MNIST image. Measured on LeNet:
# with 28 the fixed cost of each operation is a fifth of all, with 112 nothing more is gained.
_COPIED_ELEMENTS = 44_000
# Share by which two ways to one second derivative may differ by rounding, in float32.
_ROUNDING = 0.01
# Channels of an input to which a product of matrices goes back faster, on a processor.
_FEW = 3


@dataclass(frozen=True)
class _Own(Smoothing):
    """The field's own second derivative: what `smoothing=None` stands for."""

    form = "the exact form"
    words = "the network's own second derivative"

    def operator(self, part: Part) -> Hessian:
        return ExactHessian(part)


OWN = _Own()


class ExactHessian(Hessian):
    """The exact second derivative; each product differentiates the graph of the gradient."""

    def __init__(self, part: Part, called: Field | None = None) -> None:
        self.function, self.points, self.labels = part.function, part.points, part.labels
        self.caller = Caller(part.function, part.field if called is None else called)
        self.leaf, values, self.graph = self._differentiate(part.points, part.labels)
        self.values, self.gradient = values, self.graph.detach().flatten(1)

    def product(self, vectors: Tensor) -> Tensor:
        return self._backward(self.graph, self.leaf, vectors.view_as(self.leaf)).flatten(1)

    def dense(self) -> Tensor:
        m, e = self.gradient.shape
        together = max(_COPIED_ELEMENTS // e, 8)
        if m >= together:  # many small points: each axis for all of them at once
            axes = torch.eye(e, dtype=self.gradient.dtype, device=self.gradient.device)
            matrix = torch.stack([self.product(axis.expand(m, e)) for axis in axes], dim=2)
        else:
            matrix = torch.stack([self._matrix(row, min(together, e)) for row in range(m)])
        return (matrix + matrix.transpose(1, 2)) / 2

    def _matrix(self, row: int, together: int) -> Tensor:
        """Return the matrix `(e, e)` of one point, from one graph of several copies of it."""
        copies = self.points[row : row + 1].expand(together, *self.points.shape[1:])
        labels = self.labels
        if labels is not None:
            labels = labels[row : row + 1].expand(together, *labels.shape[1:])
        leaf, _, graph = self._differentiate(copies, labels)
        e = leaf[0].numel()
        axes = torch.eye(e, dtype=leaf.dtype, device=leaf.device)
        parts = []
        for rows in row_batches(e, together):
            part = leaf.new_zeros(together, e)
            part[: rows.stop - rows.start] = axes[rows]
            products = self._backward(graph, leaf, part.view_as(leaf)).flatten(1)
            parts.append(products[: rows.stop - rows.start])
        return torch.cat(parts)

    def _differentiate(
        self, points: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            leaf = points.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            with LinearConvolutions():  # no leaf, for fields that write into their input
                out = self.caller(leaf.clone(), labels, owned=True)
            out = tensor_of(self.function, "field", out, len(points))
            values = one_equation(self.function, out, points)
            if not values.requires_grad:
                raise FieldError(undifferentiable(self.function))
            (gradient,) = torch.autograd.grad(
                values.sum(), leaf, create_graph=True, materialize_grads=True
            )
        return leaf, values.detach(), gradient

    def _backward(self, graph: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
        if not graph.requires_grad:  # the gradient does not depend on the points
            return torch.zeros_like(leaf)
        try:
            (image,) = torch.autograd.grad(
                graph, leaf, vectors, retain_graph=True, materialize_grads=True
            )
        except RuntimeError as error:
            message = (
                f"{self.function}: `field` must be twice differentiable in its points, but its "
                f"gradient is not: {str(error).splitlines()[0]} Give `smoothing=CentralDifference("
                "h)` or `GaussianSmoothing(sigma)`, which need its gradient only."
            )
            raise FieldError(message) from error
        return image


class ExactDerivatives(SecondDerivatives):
    """Second derivatives of all logits, in forward mode where that can be trusted.

    Args:
        function: Name of the public function at work, for messages.
        called: What is differentiated.
        model: What it calls, whose layers tell how many points to take at once.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
    """

    def __init__(self, function: str, called: Field, model: Field, batch_size: int | None) -> None:
        self.called, self.model, self.batch_size = called, model, batch_size
        self.evaluator = Evaluator(function, called, batch_size)
        self.forward: bool | None = None

    def along(self, points: Tensor, logits: Tensor, directions: Tensor) -> Tensor:
        m, c = directions.shape[:2]
        copies = points.repeat_interleave(c, 0)
        along = directions.reshape(copies.shape)
        size = self.batch_size or swift_batch(self.model, points)
        parts = [self._of(copies[r], along[r]) for r in row_batches(m * c, size)]
        return torch.cat(parts).view(m, c, -1)

    def _of(self, points: Tensor, along: Tensor) -> Tensor:
        if self.forward is None:
            ramp = torch.linspace(-1.0, 2.0, points[0].numel()).to(points).view_as(points[:1])
            self.forward = _is_forward(self.called, points[:1], ramp)
        both = _in_forward_mode if self.forward else _in_reverse_mode
        return both(self.called, points, along).to(points.dtype)


def _is_forward(field: Field, points: Tensor, along: Tensor) -> bool:
    """Return whether forward mode can be trusted, twice, with a field.

    Some operations have none, and torch's layer norm returns a wrong second derivative (2.13).
    """
    truth = _in_reverse_mode(field, points, along)
    try:
        image = _in_forward_mode(field, points, along)
    except RuntimeError:
        return False
    return bool((image - truth).abs().max() <= _ROUNDING * truth.abs().max())


def _in_forward_mode(field: Field, points: Tensor, along: Tensor) -> Tensor:
    """Return the second derivatives `(m, k)` along one direction a point, of all logits at once."""

    def first(at: Tensor) -> Tensor:
        slope: Tensor = jvp(lambda x: field(x.clone()), (at,), (along,))[1]
        return slope

    with torch.no_grad(), warnings.catch_warnings():
        # Torch compiles its own rules with it, at the first derivative in forward mode.
        warnings.filterwarnings("ignore", "`torch.jit.script` is", DeprecationWarning)
        image: Tensor = jvp(first, (points,), (along,))[1]
    return image


def _in_reverse_mode(field: Field, points: Tensor, along: Tensor) -> Tensor:
    """Return the same, a Hessian product a logit."""
    columns = []
    with torch.enable_grad():
        leaf = points.detach().clone().requires_grad_()
        for logit in field(leaf.clone()).unbind(1):  # no leaf: fields may write into their input
            (slope,) = grad(logit.sum(), leaf, create_graph=True, materialize_grads=True)
            column = torch.zeros_like(leaf)
            if slope.requires_grad:
                (column,) = grad((slope * along).sum(), leaf, retain_graph=True,
                                 materialize_grads=True)  # fmt: skip
            columns.append((column * along).flatten(1).sum(1))
    return torch.stack(columns, dim=1)


class LinearConvolutions(TorchFunctionMode):
    """Inside, two-dimensional convolutions with held weights are linear maps of their input.

    Values and derivatives are the same up to rounding; others are left as they are, as are those
    of scripted and compiled modules.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace convolutions, pass everything else on."""
        kwargs = kwargs or {}
        if func is torch.conv2d and torch.is_grad_enabled():
            out = _linear(*args, **kwargs)
            if out is not None:
                return out
        return func(*args, **kwargs)


class _Options(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def _linear(
    input: Tensor,  # noqa: A002  the names are torch's, and given as keywords
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution as a linear map, or None for one that is left as it is."""
    learns = weight.requires_grad or (bias is not None and bias.requires_grad)
    if learns or not input.requires_grad or input.dim() != 4 or isinstance(padding, str):
        return None
    options = _Options(_pair(stride), _pair(padding), _pair(dilation), groups)
    out: Tensor = _Convolution.apply(input, weight, options)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.view(-1, 1, 1)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


class _Convolution(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(points: Tensor, weight: Tensor, options: _Options) -> Tensor:
        return functional.conv2d(points, weight, None, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        points, weight, ctx.options = inputs
        ctx.size = points.shape
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        back = _Adjoint.apply(slopes, weight, ctx.options, ctx.size)  # type: ignore[no-untyped-call]
        return back, None, None


class _Adjoint(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(slopes: Tensor, weight: Tensor, options: _Options, size: tuple[int, ...]) -> Tensor:
        if size[1] > _FEW or options.groups > 1 or slopes.device.type != "cpu":
            back: Tensor = conv2d_input(size, weight, slopes, *options)  # type: ignore[no-untyped-call]
            return back
        patches = weight.flatten(1).t() @ slopes.flatten(2)
        return functional.fold(
            patches, size[2:], weight.shape[2:],
            dilation=options.dilation, padding=options.padding, stride=options.stride,
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, ctx.options, _ = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, vectors: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        back = _Convolution.apply(vectors, weight, ctx.options)  # type: ignore[no-untyped-call]
        return back, None, None, None
