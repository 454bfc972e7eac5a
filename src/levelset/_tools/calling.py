"""Calling fields and models that other people wrote: their layout, precision and batch size."""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any

import torch
from torch import Tensor

from levelset._tools.batches import row_batches
from levelset._tools.memory import Room
from levelset._tools.modes import modules_of
from levelset.errors import FieldError, LevelSetError, LevelSetWarning

__all__ = [
    "FAILURES",
    "Caller",
    "Convention",
    "like_parameters",
    "plain_copy",
    "swift_copy",
    "tensor_of",
    "undifferentiable",
]

FAILURES = (
    RuntimeError, TypeError, AttributeError, IndexError, KeyError, ValueError, AssertionError,
)  # fmt: skip
"""What a callable raises when it is called in a way that it does not expect."""

# Numbers in the largest fixed batch that is tried, and how many sizes are.
_MOST_ELEMENTS, _TRIALS = 2**26, 8


@dataclass(frozen=True)
class Convention:
    """How a callable wants its points.

    Attributes:
        copied: Whether it needs a copy even of points that are ours, as it writes into them.
        plain: Whether it needs ordinary strides, as those do that `view` activations.
        dtype: The precision it needs; `None` for that of the points.
        rows: The one batch size it takes; `None` for any.
    """

    copied: bool = False
    plain: bool = False
    dtype: torch.dtype | None = None
    rows: int | None = None


@dataclass(eq=False)
class Caller:
    """Calls a field or model on copies of points, by the convention that it needs.

    The callable may write into what it is handed: that is never the caller's tensor, nor a view of
    it. Where it fails, it is called again on ordinary strides, in the precision of its parameters,
    and in the batch size that its message names; what works is remembered.

    Attributes:
        function: Name of the public function at work, for messages.
        field: What is called, `(n, *d) [, labels]`.
        name: What messages call it: the argument of the public function.
        convention: What is known of how to call it.
    """

    function: str
    field: Any
    name: str = "field"
    convention: Convention = dataclass_field(default_factory=Convention)
    _room: Room = dataclass_field(init=False)

    def __post_init__(self) -> None:
        """Begin to know how much fits into memory."""
        self._room = Room(self.function)

    def __call__(self, points: Tensor, labels: Tensor | None = None, *, owned: bool = False) -> Any:
        """Return what the callable returns for points.

        Args:
            points: Where, `(n, *d)`.
            labels: Passed on, one a row.
            owned: Whether the points are a copy that nobody reads again, to be handed on as it is.

        Where memory runs out and no graph is built, the points go through in halves from then on.

        Raises:
            FieldError: If it fails in every way that is tried.
        """
        most = self._room.most
        whole = most is None or len(points) <= most or torch.is_grad_enabled()
        try:
            if whole:
                return self._call(self.convention, points, labels, owned=owned)
        except LevelSetError:
            raise
        except torch.OutOfMemoryError as error:
            if torch.is_grad_enabled():  # who takes the gradient knows which rows to do again
                raise
            self._room.shrink(len(points), error)
        except FAILURES as error:
            return self._adapt(points, labels, error)
        return self._in_parts(points, labels)

    def _in_parts(self, points: Tensor, labels: Tensor | None) -> Tensor:
        """Call on the most rows that fit at a time."""

        def part(rows: slice) -> Tensor:
            some = None if labels is None else labels[rows]
            out = self._call(self.convention, points[rows], some)
            return tensor_of(self.function, self.name, out, rows.stop - rows.start)

        n = len(points)
        return torch.cat([out for _, out in self._room.batches(n, n, part)])

    def _call(
        self, how: Convention, points: Tensor, labels: Tensor | None, *, owned: bool = False
    ) -> Any:
        copies = points
        if how.dtype is not None and points.is_floating_point():
            copies = points.to(how.dtype)
        if copies is points and (how.copied or not owned):
            copies = self.laid_out(points, how)
        if how.rows is None or how.rows == len(points):
            return self.field(copies) if labels is None else self.field(copies, labels)
        return self._padded(how.rows, copies, labels)

    def laid_out(self, points: Tensor, how: Convention | None = None) -> Tensor:
        """Return a copy of the points in the strides that suit the callable best."""
        plain = (self.convention if how is None else how).plain
        return plain_copy(points) if plain else swift_copy(points)

    def _padded(self, size: int, points: Tensor, labels: Tensor | None) -> Tensor:
        """Call on batches of one size, the last one filled up with copies of its last row."""
        n = len(points)
        if n == 0:
            points = points.new_zeros(1, *points.shape[1:])
            labels = None if labels is None else labels.new_zeros(1, *labels.shape[1:])
        parts = []
        for rows in row_batches(len(points), size):
            index = torch.arange(rows.start, rows.start + size, device=points.device)
            index = index.clamp(max=len(points) - 1)
            part = points[index]
            out = self.field(part) if labels is None else self.field(part, labels[index])
            tensor = tensor_of(self.function, self.name, out, size)
            parts.append(tensor[: rows.stop - rows.start])
        return torch.cat(parts)[:n]

    def _adapt(self, points: Tensor, labels: Tensor | None, error: Exception) -> Any:
        """Find another way to call, call so, and remember it."""
        reason = error
        for how in self._other_ways(points):
            try:
                out = self._call(how, points, labels)
            except FAILURES as failure:
                reason = error if how.dtype is None else failure
                out = self._in_fixed_batches(how, _sizes(failure, points), points, labels)
                if out is not None:
                    return out
            else:
                self.convention = how
                return out
        raise explained(self.function, self.name, self.field, points, reason) from reason

    def _other_ways(self, points: Tensor) -> Iterator[Convention]:
        present = replace(self.convention, copied=True)
        if points.requires_grad and not present.plain:
            yield present  # writes into its input, which torch refuses on a leaf
        plain = replace(present, plain=True, dtype=None, rows=None)
        yield plain
        for dtype in _precisions(self.field):
            if dtype != points.dtype:
                yield replace(plain, dtype=dtype)

    def _in_fixed_batches(
        self, how: Convention, sizes: list[int], points: Tensor, labels: Tensor | None
    ) -> Tensor | None:
        for size in sizes:
            convention = replace(how, rows=size)
            try:
                out: Tensor = self._call(convention, points, labels)
            except FAILURES:
                continue
            if len(out) != len(points):
                continue
            message = (
                f"{self.function}: `{self.name}` takes batches of {size} rows only, so points go "
                "through it that many at a time, the last batch filled up. Export or write it with "
                "a first axis of any length to avoid this."
            )
            warnings.warn(message, LevelSetWarning, stacklevel=2)
            self.convention = convention
            return out
        return None


def swift_copy(points: Tensor) -> Tensor:
    """Return a copy of the points in the strides that convolutions run fastest on."""
    if points.dim() != 4 or points.device.type != "cpu":
        return plain_copy(points)
    n, c, h, w = points.shape
    # Written out because `channels_last` is ambiguous, and so ignored, for one channel.
    copy = torch.empty_strided(
        (n, c, h, w), (c * h * w, 1, w * c, c), dtype=points.dtype, device=points.device
    )
    return copy.copy_(points)


def plain_copy(points: Tensor) -> Tensor:
    """Return a copy in ordinary strides, tied to the points if they carry a graph.

    `contiguous` would keep channels-last strides where there is one channel.
    """
    return points.clone(memory_format=torch.contiguous_format)


def tensor_of(function: str, name: str, out: Any, rows: int) -> Tensor:
    """Return the one tensor among the outputs of a callable that holds a row a point.

    It is the output itself, its `logits` (as an attribute or a key), or the only tensor of one or
    two axes with as many rows as points in a tuple, list or dict.

    Raises:
        FieldError: If there is none, or more than one.
    """
    if isinstance(out, Tensor):
        return out
    named = out.get("logits") if isinstance(out, Mapping) else getattr(out, "logits", None)
    if isinstance(named, Tensor):
        return named
    parts: list[Any] = []
    if isinstance(out, tuple | list | Mapping):
        parts = list(out.values() if isinstance(out, Mapping) else out)
    fitting = [
        part
        for part in parts
        if isinstance(part, Tensor) and part.is_floating_point() and part.dim() in (1, 2)
        and len(part) == rows
    ]  # fmt: skip
    if len(fitting) == 1:
        return fitting[0]
    message = f"{function}: `{name}` must return a tensor, got {type(out).__name__}"
    if isinstance(out, torch.nn.Module):
        message += ", a module. Call it first: it builds the model."
    elif isinstance(out, Mapping):
        message += (
            f" with the keys {', '.join(map(str, out))}. Say which one: "
            "`lambda x: model(x)['name']`."
        )
    elif parts:
        message += f" of {len(parts)}. Say which one, as in `lambda x: model(x)[0]`."
    else:
        message += "."
    raise FieldError(message)


def undifferentiable(function: str) -> str:
    """Return the message for a field whose values carry no gradient."""
    message = (
        f"{function}: `field` must be differentiable in its points, but its values carry no "
        "gradient. Does it detach them, or run without gradients?"
    )
    if torch.is_inference_mode_enabled():
        message += " This call is made under `torch.inference_mode()`, which has none: leave it."
    return message


def explained(function: str, name: str, field: Any, points: Tensor, error: Exception) -> FieldError:
    """Return the failure of a callable as an error that says what to do about it."""
    parameters = _tensors(field)
    model = (
        f" with parameters on {parameters[0].device} of {parameters[0].dtype}" if parameters else ""
    )
    first = _reason(error)
    if not isinstance(error, RuntimeError):
        first = f"{type(error).__name__}: {first}"
    message = (
        f"{function}: `{name}`{model} failed on points of shape {tuple(points.shape)} on "
        f"{points.device} of {points.dtype}: {first}"
    )
    remedy = _remedy(name, str(error), parameters)
    return FieldError(f"{message.rstrip('.')}. {remedy}" if remedy else message)


def _reason(error: Exception) -> str:
    """Return the line of a message that says why; TorchScript puts it last, after a trace."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return lines[-1] if "TorchScript" in lines[0] else lines[0]


def _remedy(name: str, reason: str, parameters: list[Tensor]) -> str:
    """Return what to do about a failure, for those that many models share."""
    if "nference tensor" in reason or "nference mode" in reason:
        return (
            "Tensors made under `torch.inference_mode()` have no gradients: measure outside of it, "
            "and load the model outside of it."
        )
    if any(parameter.is_meta for parameter in parameters):
        return f"The weights of `{name}` are on the meta device: load them first."
    if "scalar types: Long, Int" in reason or "'indices'" in reason:
        return (
            f"`{name}` begins with an Embedding, which takes integers. Measure the vectors that it "
            "returns: give the rest of the model, and `embedding(tokens)` as points."
        )
    if "required positional argument" in reason or "required keyword" in reason:
        return "It is called with the points alone: wrap it, as in `lambda x: model(x, mask)`."
    if "invalid data type 'str'" in reason or "too many indices" in reason:
        return (
            "It is called with the points alone: if it takes a dict, wrap it, as in "
            "`lambda x: model({'pixel_values': x})`."
        )
    return ""


def like_parameters(field: Any) -> Tensor:
    """Return an empty tensor in the precision and on the device of a module; else float64."""
    tensors = _tensors(field) if isinstance(field, torch.nn.Module) else []
    return tensors[0].detach().new_zeros(0) if tensors else torch.zeros(0, dtype=torch.float64)


def _precisions(field: Any) -> list[torch.dtype]:
    """Return the floating-point types of the parameters and buffers, the first one first."""
    return list(dict.fromkeys(tensor.dtype for tensor in _tensors(field)))


def _tensors(field: Any) -> list[Tensor]:
    both = [t for module in modules_of(field) for t in (*module.parameters(), *module.buffers())]
    return [tensor for tensor in both if tensor.is_floating_point()]


def _sizes(error: Exception, points: Tensor) -> list[int]:
    """Return the batch sizes that a message may speak of, but that of the points."""
    if not isinstance(error, RuntimeError | AssertionError):
        return []
    numbers = dict.fromkeys(map(int, re.findall(r"(?<![\w.])\d{1,4}(?![\w.]\d)", _reason(error))))
    most = _MOST_ELEMENTS // max(points[:1].numel(), 1)
    return [n for n in numbers if 0 < n <= most and n != len(points)][:_TRIALS]
