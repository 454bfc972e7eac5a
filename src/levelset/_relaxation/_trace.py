"""Reading a model as steps: its layers by their kind, what joins them by tracing its code."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from levelset._logits import AsLogits
from levelset._relaxation._affine import Dense, Difference, Join, Mean, Sum
from levelset._relaxation._layers import LAYERS, SUPPORTED, Build, constant, reshaped, scaled
from levelset._relaxation._program import Node, Program
from levelset._tools.calling import FAILURES
from levelset._tools.modes import frozen
from levelset.errors import FieldError
from levelset.fields import Classifier

__all__ = ["Purpose", "trace"]

# Rows that go through the layers while they are read, to learn the shapes.
_ROWS = 2

# Functions that do what a layer does, with the names of their arguments after the first.
_AS_LAYERS: dict[Any, tuple[type[nn.Module], str]] = {
    functional.relu: (nn.ReLU, ""),
    torch.relu: (nn.ReLU, ""),
    "relu": (nn.ReLU, ""),
    "relu_": (nn.ReLU, ""),
    functional.leaky_relu: (nn.LeakyReLU, "negative_slope"),
    functional.hardtanh: (nn.Hardtanh, "min_val max_val"),
    functional.relu6: (nn.ReLU6, ""),
    functional.elu: (nn.ELU, "alpha"),
    functional.softplus: (nn.Softplus, "beta threshold"),
    torch.tanh: (nn.Tanh, ""),
    functional.tanh: (nn.Tanh, ""),
    "tanh": (nn.Tanh, ""),
    torch.sigmoid: (nn.Sigmoid, ""),
    functional.sigmoid: (nn.Sigmoid, ""),
    "sigmoid": (nn.Sigmoid, ""),
    torch.softmax: (nn.Softmax, "dim"),
    functional.softmax: (nn.Softmax, "dim"),
    "softmax": (nn.Softmax, "dim"),
    torch.log_softmax: (nn.LogSoftmax, "dim"),
    functional.log_softmax: (nn.LogSoftmax, "dim"),
    "log_softmax": (nn.LogSoftmax, "dim"),
    functional.dropout: (nn.Dropout, "p"),
    functional.max_pool2d: (nn.MaxPool2d, "kernel_size stride padding dilation ceil_mode"),
    torch.max_pool2d: (nn.MaxPool2d, "kernel_size stride padding dilation ceil_mode"),
    functional.avg_pool2d: (
        nn.AvgPool2d, "kernel_size stride padding ceil_mode count_include_pad divisor_override"
    ),
    functional.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, "output_size"),
}  # fmt: skip
# Of these arguments a layer's own are left out: they change nothing in evaluation mode.
_IGNORED = {"inplace", "training", "_stacklevel", "dtype", "return_indices"}
_MOVES = (
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze,
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous",
)  # fmt: skip
_SHAPES = ("size", "dim", getattr, len)
_PLUS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MINUS = (operator.sub, operator.isub, torch.sub, "sub", "sub_")
_TIMES = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
_NEGATED = (operator.neg, torch.neg, "neg")
_OVER = (operator.truediv, operator.itruediv, torch.div, "div", "div_")


@dataclass(frozen=True, eq=False)
class _Value:
    """What a node holds.

    Attributes:
        node: Its number.
        rows: Its entries for the first rows.
        is_head: Whether a softmax follows, which is left out as it keeps the order of the classes.
    """

    node: int
    rows: Tensor
    is_head: bool = False


@dataclass(frozen=True)
class Purpose:
    """What a model is read for, in the words of messages.

    Attributes:
        lacks: What is wrong with a layer that is not known.
        supported: The layers that are.
        remedy: What to do.
        argument: What the caller calls the model.
    """

    lacks: str = "whose bounds are not known"
    supported: str = SUPPORTED
    remedy: str = ""
    argument: str = "model"


def trace(function: str, model: Any, points: Tensor, purpose: Purpose = Purpose()) -> Program:
    """Return the steps of a model, whose parameters keep their graph.

    Layers are read as they are in evaluation mode.

    Args:
        function: Name of the public function at work, for messages.
        model: A classifier.
        points: Some inputs, `(n, *d)`, at least one.
        purpose: What it is read for.

    Raises:
        FieldError: If the model is no module, if its code cannot be traced, or if it has a layer
            whose bounds are not known.
    """
    reader = _Reader(function, points.dtype, purpose)
    dtypes = [t.dtype for t in _tensors(model) if t.is_floating_point()]
    rows = points.detach()[:1].repeat_interleave(_ROWS, 0).to(dtypes[0] if dtypes else None)
    with frozen(model), torch.no_grad():
        end = reader.module(model, (_Value(0, rows),), "model")
    nodes = tuple(Node(build(), inputs, title) for build, inputs, title in reader.steps)
    return Program(nodes, end.node)


def _tensors(model: Any) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []


class _Tracer(fx.Tracer):
    """Traces the code of a model down to torch's own layers, and to classifiers of ours."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether to leave a module whole."""
        return isinstance(m, AsLogits) or super().is_leaf_module(m, module_qualified_name)


class _Reader:
    """Reads modules, one inside another.

    Attributes:
        function: Name of the public function at work.
        dtype: Of the points: parameters are brought into it.
        purpose: What the model is read for.
        steps: How each is built, the nodes that it takes, and its name. They are built in the end,
            when parameters need gradients again.
    """

    def __init__(self, function: str, dtype: torch.dtype, purpose: Purpose) -> None:
        self.function, self.dtype, self.purpose = function, dtype, purpose
        self.steps: list[tuple[Build, tuple[int, ...], str]] = []
        self._sigmoids: dict[int, _Value] = {}

    def module(self, module: Any, arguments: tuple[Any, ...], name: str) -> _Value:
        """Return what a module makes of values."""
        if isinstance(module, AsLogits):
            return self._classifier(module, arguments[0], name)
        if isinstance(module, nn.Module) and _Tracer().is_leaf_module(module, name):
            return self._layer(module, arguments, name)
        return self._code(module, arguments, name)

    def _add(self, build: Build, inputs: tuple[_Value, ...], rows: Tensor, name: str) -> _Value:
        if any(value.is_head for value in inputs):
            raise self._unknown(f"{name} after a softmax")
        self.steps.append((build, tuple(value.node for value in inputs), name))
        return _Value(len(self.steps), rows)

    def _unknown(self, what: str) -> FieldError:
        purpose = self.purpose
        message = (
            f"{self.function}: `{purpose.argument}` has {what}, {purpose.lacks}. Supported: "
            f"{purpose.supported}.{purpose.remedy}"
        )
        return FieldError(message)

    def _layer(self, layer: nn.Module, arguments: tuple[Any, ...], name: str) -> _Value:
        """Return what a layer of torch makes of a value."""
        title = f"the layer `{name}` ({type(layer).__name__})"
        (value,) = arguments if len(arguments) == 1 else (None,)
        if not isinstance(value, _Value):
            raise self._unknown(title)
        rows = layer(value.rows.clone())
        if isinstance(layer, nn.Softmax | nn.LogSoftmax):
            return _Value(value.node, rows, is_head=True)
        for kind, read in LAYERS.items():
            build = read(layer, value.rows, self.dtype) if isinstance(layer, kind) else None
            if build is not None:
                result = self._add(build, (value,), rows, title)
                if isinstance(layer, nn.Sigmoid):
                    self._sigmoids[result.node] = value
                return result
        if isinstance(layer, nn.Identity | nn.modules.dropout._DropoutNd):
            return value
        raise self._unknown(title)

    def _classifier(self, model: AsLogits, value: _Value, name: str) -> _Value:
        """Return the logits that a classifier of ours reads from its model."""
        if isinstance(model, Classifier):
            one = torch.ones((), dtype=self.dtype, device=value.rows.device)
            mean, std = (_per_channel(v, value.rows) for v in (model.mean, model.std))
            if mean is not None or std is not None:
                factor = one if std is None else one / std.to(self.dtype)
                shift = 0.0 * factor if mean is None else -mean.to(self.dtype) * factor
                rows = value.rows * factor + shift
                value = self._add(scaled(factor, shift), (value,), rows.to(value.rows), name)
        end = self.module(model.model, (value,), f"{name}.model")
        outputs = model.reader.outputs
        if outputs in ("probability", "probabilities") and not end.is_head:
            if end.node not in self._sigmoids or outputs == "probabilities":
                raise self._unknown("probabilities that no softmax or sigmoid makes")
            end = self._sigmoids[end.node]
        if outputs not in ("logit", "probability"):
            return end
        if end.rows.dim() == 1:
            end = self._add(reshaped((1,)), (end,), end.rows.unsqueeze(1), name)
        weight = torch.tensor([[0.0], [1.0]], dtype=self.dtype, device=end.rows.device)
        rows = functional.linear(end.rows, weight.to(end.rows))
        return self._add(lambda: Dense(weight, None), (end,), rows, name)

    def _code(self, module: Any, arguments: tuple[Any, ...], name: str) -> _Value:
        """Return what a module of layers makes of values, by tracing its code."""
        tracer = _Tracer()
        try:
            graph = tracer.trace(module)
        except Exception as error:
            what = type(module).__name__
            message = (
                f"{self.function}: the code of `{name}` ({what}) cannot be traced, so its layers "
                f"are not known: {str(error).splitlines()[0] if str(error) else error!r}. Write it "
                "as a torch.nn.Module whose forward does not depend on values, of layers of torch."
                f"{self.purpose.remedy}"
            )
            raise FieldError(message) from error
        known: dict[fx.Node, Any] = {}
        waiting = list(arguments)
        for node in graph.nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: known[n])
            if node.op == "placeholder":
                known[node] = waiting.pop(0) if waiting else (args or (None,))[0]
            elif node.op == "get_attr":
                known[node] = operator.attrgetter(node.target)(tracer.root)
            elif node.op == "call_module":
                inner = module.get_submodule(node.target)
                known[node] = self.module(inner, args, f"{name}.{node.target}")
            elif node.op == "output":
                (result,) = args
                if not isinstance(result, _Value):
                    raise self._unknown(f"code in `{name}` that returns {type(result).__name__}")
                return result
            else:
                known[node] = self._call(node.target, args, kwargs, name)
        raise AssertionError("a graph ends with its output")

    def _call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        """Return what a function or method, known by its name, makes of values."""
        title = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        bare = fx.node.map_aggregate((args, kwargs), _rows_of)
        run = getattr(bare[0][0], target) if isinstance(target, str) else target
        try:
            rows = run(*(bare[0][1:] if isinstance(target, str) else bare[0]), **bare[1])
        except FAILURES as error:
            message = f"{self.function}: `{title}` in the code of `{name}` failed: {error}"
            raise FieldError(message) from error
        if target in _SHAPES or not _has_value(args, kwargs):
            return rows
        where = f"`{title}` in the code of `{name}`"
        if target in _AS_LAYERS:
            layer = self._as_layer(target, args, kwargs, where).eval()
            return self._layer(layer, args[:1], title)
        if target in _MOVES and isinstance(args[0], _Value) and isinstance(rows, Tensor):
            if len(rows) != _ROWS or rows.numel() != args[0].rows.numel():
                raise self._unknown(where)
            return self._add(reshaped(tuple(rows.shape[1:])), (args[0],), rows, where)
        build, inputs = self._arithmetic(target, args, kwargs, where)
        return self._add(build, inputs, rows, where)

    def _as_layer(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], where: str
    ) -> nn.Module:
        kind, names = _AS_LAYERS[target]
        options = dict(zip(names.split(), args[1:], strict=False)) | kwargs
        options = {k: v for k, v in options.items() if k not in _IGNORED and k != "input"}
        if not args or not isinstance(args[0], _Value) or not set(options) <= set(names.split()):
            raise self._unknown(where)
        return kind(**options)

    def _arithmetic(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], where: str
    ) -> tuple[Build, tuple[_Value, ...]]:
        if target in (torch.cat, torch.concat):
            parts = tuple(args[0])
            axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
            axis = axis % parts[0].rows.dim() if isinstance(parts[0], _Value) else 0
            if all(isinstance(part, _Value) for part in parts) and axis > 0:
                return lambda: Join(axis), parts
        if target in (torch.mean, "mean") and isinstance(args[0], _Value) and len(args) < 4:
            options = dict(zip(("dim", "keepdim"), args[1:], strict=False)) | kwargs
            return self._mean(args[0], options, where)
        if target in _NEGATED and isinstance(args[0], _Value):
            one = torch.ones((), dtype=self.dtype, device=args[0].rows.device)
            return scaled(-one, 0.0 * one), (args[0],)
        if len(args) == 2 and not kwargs:
            one, other = args
            if isinstance(one, _Value) and isinstance(other, _Value):
                kind = Sum if target in _PLUS else Difference if target in _MINUS else None
                if kind is not None and one.rows.shape == other.rows.shape:
                    return kind, (one, other)
            elif target in (*_PLUS, *_MINUS, *_TIMES, *_OVER):
                return self._with_constant(target, one, other, where)
        raise self._unknown(where)

    def _mean(
        self, value: _Value, options: dict[str, Any], where: str
    ) -> tuple[Build, tuple[_Value, ...]]:
        dims, keep = options.get("dim"), bool(options.get("keepdim", False))
        axes = [d % value.rows.dim() for d in ((dims,) if isinstance(dims, int) else dims or (0,))]
        if 0 in axes or not set(options) <= {"dim", "keepdim"}:
            raise self._unknown(where)
        terms = value.rows[0].numel()
        return lambda: Mean(lambda z: z.mean(axes, keepdim=keep), terms), (value,)

    def _with_constant(
        self, target: Any, one: Any, other: Any, where: str
    ) -> tuple[Build, tuple[_Value, ...]]:
        """Return a value plus, less, times or over a number or a tensor of its own shape."""
        value, number = (one, other) if isinstance(one, _Value) else (other, one)
        number = constant(number, value.rows, self.dtype)
        backwards = value is other
        if number is None or (backwards and target in _OVER):
            raise self._unknown(where)
        one_ = torch.ones_like(number)
        if target in _PLUS:
            return scaled(one_, number), (value,)
        if target in _MINUS:
            pair = (-one_, number) if backwards else (one_, -number)
            return scaled(*pair), (value,)
        factor = one_ / number if target in _OVER else number
        return scaled(factor, 0.0 * factor), (value,)


def _rows_of(value: Any) -> Any:
    return value.rows if isinstance(value, _Value) else value


def _has_value(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    traced: list[bool] = []

    def look(value: Any) -> Any:
        traced.append(isinstance(value, _Value))
        return value

    fx.node.map_aggregate((args, kwargs), look)
    return any(traced)


def _per_channel(value: Tensor | None, rows: Tensor) -> Tensor | None:
    """Return one number, or one a channel, so that it broadcasts against the points."""
    if value is None or value.dim() == 0:
        return value
    return value.view(-1, *[1] * (rows.dim() - 2))
