"""What a classifier returns, read as logits: one output or several, logits or probabilities."""

import warnings
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from levelset._tools.calling import FAILURES, Caller, tensor_of
from levelset._tools.modes import frozen
from levelset.errors import FieldError, LevelSetWarning, ParameterError

__all__ = ["AsLogits", "Outputs", "Reader", "as_logits", "margin_of"]

Outputs: TypeAlias = Literal["logits", "logit", "probabilities", "probability"]
"""What a model returns: `(n, k)` logits or probabilities, or one a point, `(n,)` or `(n, 1)`."""

# How far the sum of probabilities may be from 1: at least, and in units of rounding.
_SUM, _SUM_ROUNDING = 1e-4, 32.0
# Rows that are looked at to tell what a model returns, and the sizes of the patterns that are
# looked at where those leave it open.
_FIRST, _SCALES = 3, (1.0, 1e3)


class Reader:
    """Calls a model and reads what it returns as logits `(n, k)`, k at least 2.

    One output a point is a binary classifier: a logit f becomes (0, f), so that class 1 is where
    f > 0, and a probability p becomes (0, log p - log(1 - p)). Rows of probabilities become their
    logarithms. Where the last thing that a model does is a sigmoid or a softmax, the logits are
    the input of that, which does not saturate. Integers are class labels, and stay what they are.

    What a model returns is settled at the first call: by the last function it calls, else by the
    outputs there, else by those on patterns that do not depend on the points.

    Args:
        outputs: What the model returns; `None` to find out.

    Attributes:
        outputs: What the model returns, once that is settled; `None` for labels.
        eps: The unit of rounding of the model's outputs.
    """

    def __init__(self, outputs: Outputs | None = None) -> None:
        if outputs is not None and outputs not in get_args(Outputs):
            names = ", ".join(get_args(Outputs))
            message = f"Classifier: `outputs` must be one of {names}, or None, got {outputs!r}."
            raise ParameterError(message)
        self.outputs, self.eps = outputs, 0.0
        self.is_settled = self.is_plain = self._before = self._writes = False
        self._caller: Caller | None = None

    def __call__(self, function: str, model: Any, points: Tensor) -> Tensor:
        """Return the logits of points; labels, if the model returns integers.

        Args:
            function: Name of the public function at work, for messages.
            model: The model, always the same one.
            points: Where, `(n, *d)`.

        Raises:
            FieldError: If the model fails, or returns something else.
        """
        if self._caller is None or self._caller.field is not model:
            self._caller = Caller(function, model, "model")
        if not self.is_settled:
            return self._first(self._caller, points)
        if not self._before:
            out = self._tensor(self._caller(points, owned=not self._writes), points)
            return self._read(out, points)
        with LastActivation() as last:
            out = self._tensor(self._caller(points, owned=not self._writes), points)
        before = last.before(out)
        return self._read(out, points) if before is None else _of_inputs(before, points)

    def _first(self, caller: Caller, points: Tensor) -> Tensor:
        """Call the model and settle what it returns, unless there are no points to tell by."""
        copies = points.clone()
        with LastActivation() as last:
            raw = caller(copies, owned=True)
        out = self._tensor(raw, points)
        if len(points) == 0 or _is_traced(points):
            return self._read(out, points)
        self._writes = _changed(copies, points)
        before = last.before(out)
        if not out.is_floating_point():
            self._check_labels(caller.function, out)
        elif self.outputs is not None:
            self._check(caller.function, out)
            self._before = before is not None and self.outputs in ("probability", "probabilities")
        else:
            self.outputs = self._detect(caller, points, out, before)
            self._before = before is not None
        self.is_settled = True
        self.eps = torch.finfo(out.dtype).eps if out.is_floating_point() else 0.0
        self.is_plain = (
            raw is out and self.outputs in ("logits", None) and not self._before
            and not (out.is_floating_point() and out.dtype != points.dtype)
        )  # fmt: skip
        if self._before and before is not None:
            return _of_inputs(before, points)
        return self._read(out, points)

    def note_needs(self) -> None:
        """Count a model that has to be called in another precision or batch size as not plain."""
        how = None if self._caller is None else self._caller.convention
        needs = how is not None and (how.dtype is not None or how.rows is not None)
        self.is_plain = self.is_plain and not needs

    def _tensor(self, raw: Any, points: Tensor) -> Tensor:
        assert self._caller is not None, "a reader calls before it reads"
        function, n = self._caller.function, len(points)
        out = tensor_of(function, "model", raw, n)
        if out.dim() not in (1, 2) or len(out) != n or (out.dim() == 2 and out.shape[1] == 0 < n):
            message = (
                f"{function}: `model` must map points {tuple(points.shape)} to ({n}, k), got "
                f"{tuple(out.shape)}. With one output it may return ({n},) or ({n}, 1)."
            )
            raise FieldError(message)
        return out

    def _detect(
        self, caller: Caller, points: Tensor, out: Tensor, before: Tensor | None
    ) -> Outputs:
        """Return what a model returns, and say so where its outputs are not taken as they are."""
        single = _is_single(out)
        if before is not None:
            kind: Outputs = "probability" if single else "probabilities"
            _say(caller.function, kind, "its last function is a sigmoid or a softmax")
            return kind
        if single:
            kind = self._detect_one(caller, points, out)
        else:
            kind = "logits"
            if _sum_to_one(out) and _elsewhere(caller, points, _sum_to_one) is not False:
                kind = "probabilities"
        if kind in ("probability", "probabilities"):
            many = "they are never negative and sum to 1"
            _say(caller.function, kind, "it never leaves 0 to 1" if single else many)
        return kind

    def _detect_one(self, caller: Caller, points: Tensor, out: Tensor) -> Outputs:
        if not _in_unit(out):
            return "logit"
        inside = _elsewhere(caller, points, _in_unit)
        if inside is None:
            message = (
                f"{caller.function}: `model` returns one number a point, which may be a logit or a "
                f"probability: all {len(out)} lie between 0 and 1. Say which one with "
                "`Classifier(model, outputs='logit')` or `outputs='probability'`."
            )
            raise FieldError(message)
        return "probability" if inside else "logit"

    def _check(self, function: str, out: Tensor) -> None:
        """Refuse outputs that are not what the caller says they are."""
        single, wanted = _is_single(out), self.outputs in ("logit", "probability")
        if single != wanted:
            shape = "(n,) or (n, 1)" if wanted else "(n, k) with k of at least 2"
            message = (
                f"{function}: `outputs` {self.outputs!r} means {shape}, got {tuple(out.shape)}."
            )
            raise FieldError(message)
        probable = self.outputs in ("probability", "probabilities")
        if probable and not (_in_unit(out, slack=_SUM) or bool(out.isnan().any())):
            low, high = float(out.min()), float(out.max())
            message = (
                f"{function}: `outputs` {self.outputs!r} means numbers from 0 to 1, got {low:.3g} "
                f"to {high:.3g}. Say `outputs={'logit' if wanted else 'logits'!r}`."
            )
            raise FieldError(message)

    def _check_labels(self, function: str, out: Tensor) -> None:
        if self.outputs is not None or out.is_complex():
            message = (
                f"{function}: `model` must return floating-point {self.outputs or 'logits'}, got "
                f"{out.dtype}."
            )
            raise FieldError(message)

    def _read(self, out: Tensor, points: Tensor) -> Tensor:
        if not out.is_floating_point():
            return out
        out = out.to(points.dtype)
        if self.outputs == "probability":
            # 1 is read as the number before it: finite, and on the side that it is on.
            eps, tiny = torch.finfo(out.dtype).eps, torch.finfo(out.dtype).tiny
            p = out.clamp(tiny, 1.0 - eps / 2)
            return _with_zero(p.log() - (-p).log1p())
        if self.outputs == "probabilities":
            return out.clamp(min=torch.finfo(out.dtype).tiny).log()
        return _with_zero(out) if _is_single(out) else out


class AsLogits(nn.Module):
    """A model that returns logits `(n, k)` in the dtype of the points, whatever it is made of.

    Args:
        model: Any classifier that [`Reader`][] reads.
        outputs: What it returns; `None` to find out.
    """

    def __init__(self, model: Any, outputs: Outputs | None = None) -> None:
        super().__init__()
        self.model = model
        self.reader, self._said = Reader(outputs), outputs

    def extra_repr(self) -> str:
        """Return what the caller said that the model returns."""
        return "" if self._said is None else f"outputs={self._said!r}"

    def read(self, function: str, points: Tensor) -> Tensor:
        """Return the logits of points, or labels; `function` is for messages."""
        return self.reader(function, self.model, points)

    def forward(self, points: Tensor) -> Tensor:
        """Return the logits of points, or labels `(n,)` of a model that answers with them."""
        return self.read(type(self).__name__, points)


def as_logits(function: str, model: Any, points: Tensor, *, labels: bool = False) -> Any:
    """Return a model as one that returns logits `(n, k)`: itself, if that is what it does.

    Cost: two forward passes, of three rows and of two.

    Args:
        function: Name of the public function at work, for messages.
        model: A classifier of any kind that is accepted; held still by the caller.
        points: Some points, `(n, *d)`; the first three are looked at.
        labels: Whether a model will do that answers with integer labels.

    Raises:
        FieldError: If the model fails, or returns something else.

    Warns:
        LevelSetWarning: If it returns probabilities and was not said to.
    """
    if len(points) == 0:
        return model
    reader = model if isinstance(model, AsLogits) else AsLogits(model)
    if not reader.reader.is_settled:
        with torch.no_grad():
            out = reader.read(function, points[:_FIRST])
            # Again with another number of rows, as some programs take only one.
            reader.read(function, points[:1].repeat_interleave(2, 0))
            reader.reader.note_needs()
        if not labels and not out.is_floating_point():
            message = (
                f"{function}: `model` must return floating-point logits (n, k), got "
                f"{tuple(out.shape)} of {out.dtype} for {len(out)} points."
            )
            raise FieldError(message)
    return model if reader.reader.is_plain else reader


def _say(function: str, kind: Outputs, reason: str) -> None:
    other = {"probability": "logit", "probabilities": "logits"}[kind]
    what = "one probability a point" if kind == "probability" else "probabilities"
    message = (
        f"{function}: `model` returns {what} ({reason}), which are measured as the logits behind "
        f"them. Give `Classifier(model, outputs={kind!r})` to say so, or `outputs={other!r}` if "
        "they are logits themselves."
    )
    warnings.warn(message, LevelSetWarning, stacklevel=2)


def _elsewhere(caller: Caller, points: Tensor, holds: Any) -> bool | None:
    """Return whether something holds of the outputs on patterns; `None` if there are none."""
    places = torch.arange(1, points[0].numel() + 1, dtype=torch.float64)
    waves = torch.stack([(12.9898 * places).sin(), (78.233 * places).cos()])
    rows = torch.cat([sign * scale * waves for scale in _SCALES for sign in (1.0, -1.0)])
    patterns = rows.to(points).view(-1, *points.shape[1:])
    try:
        with torch.no_grad(), frozen(caller.field):
            out = tensor_of(caller.function, "model", caller(patterns), len(patterns))
    except FAILURES:
        return None
    sound = out[out.reshape(len(out), -1).isfinite().all(1)]
    return bool(holds(sound)) if len(sound) else None


def _is_single(out: Tensor) -> bool:
    return out.dim() == 1 or out.shape[1] == 1


def _in_unit(out: Tensor, slack: float = 0.0) -> bool:
    return bool(((out >= -slack) & (out <= 1.0 + slack)).all())


def _sum_to_one(out: Tensor) -> bool:
    slack = max(_SUM, _SUM_ROUNDING * torch.finfo(out.dtype).eps)
    return bool((out >= 0).all()) and bool(((out.double().sum(1) - 1.0).abs() <= slack).all())


def _of_inputs(before: Tensor, points: Tensor) -> Tensor:
    """Return the logits that the inputs of a sigmoid or a softmax are."""
    before = before.to(points.dtype)
    return _with_zero(before) if _is_single(before) else before


def _with_zero(values: Tensor) -> Tensor:
    values = values.reshape(len(values))
    return torch.stack([torch.zeros_like(values), values], dim=1)


def _changed(copies: Tensor, points: Tensor) -> bool:
    """Return whether a copy of points was written into."""
    return not torch.equal(copies.detach().nan_to_num(), points.detach().nan_to_num())


def _is_traced(points: Tensor) -> bool:
    """Return whether values cannot be looked at, as torch is tracing or transforming a program."""
    return (
        torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_functorch_wrapped_tensor(points)
    )  # fmt: skip


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
        before = args[0] if args else kwargs["input"]
        if func in _SOFTMAXES and not _is_over_classes(before, *args[1:], **kwargs):
            return func(*args, **kwargs)
        if func in _IN_PLACE:
            before = before.clone()
        out = func(*args, **kwargs)
        self._last = (out, before)
        return out

    def before(self, out: Tensor) -> Tensor | None:
        """Return the input of the activation, shaped as `out`, if that is what it returned."""
        if self._last is None:
            return None
        last, before = self._last
        if out is last:
            return before
        reshaped = (
            out._base is last and out.numel() == last.numel() and out.is_contiguous()
            and last.is_contiguous() and out.storage_offset() == last.storage_offset()
        )  # fmt: skip
        return before.reshape(out.shape) if reshaped else None


def margin_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much the logit of each label is above all others, `(n,)`."""
    column = labels.unsqueeze(1)
    rivals = logits.scatter(1, column, -torch.inf)
    return logits.gather(1, column).squeeze(1) - rivals.amax(1)


_ATEN = torch.ops.aten
_IN_PLACE = {torch.sigmoid_, Tensor.sigmoid_, _ATEN.sigmoid_.default}
_SIGMOIDS = {
    torch.sigmoid, Tensor.sigmoid, functional.sigmoid, torch.special.expit, _ATEN.sigmoid.default,
} | _IN_PLACE  # fmt: skip
_SOFTMAXES = {
    torch.softmax, Tensor.softmax, functional.softmax, torch.special.softmax, _ATEN.softmax.int,
    _ATEN._softmax.default,
}  # fmt: skip


def _is_over_classes(input_: Tensor, dim: int | None = None, *others: Any, **more: Any) -> bool:
    """Return whether a softmax runs over the second axis, of more than one class."""
    dim = more.get("dim", dim)
    if input_.dim() < 2 or input_.shape[1] < 2:
        return False
    return (1 if dim is None and input_.dim() != 3 else (dim or 0) % input_.dim()) == 1
