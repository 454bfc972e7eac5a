"""Probes of a field before it is trusted: is it one, and how much of it fits in memory."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.calling import Caller, tensor_of
from levelset._tools.checks import check_points, check_positive
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._typing import Field, FieldLabels, Points
from levelset.errors import FieldError, ShapeError
from levelset.fields import Margin

__all__ = ["FieldCheck", "check_classifier", "check_field", "suggest_batch_size"]


@dataclass(frozen=True)
class FieldCheck:
    """What a probe of a field found.

    Attributes:
        points: How many points were tried.
        coupling: Largest difference between a row evaluated alone and among others, relative to
            the largest value.
        randomness: Largest difference between two evaluations of the same rows, likewise.
        non_finite: Points with a NaN or infinite value.
        zero_gradients: Points whose gradient vanishes or is not finite.
        problems: What makes the field unfit, in words; empty if nothing does.
    """

    points: int
    coupling: float
    randomness: float
    non_finite: int
    zero_gradients: int
    problems: tuple[str, ...]

    def raise_if_unfit(self) -> "FieldCheck":
        """Return itself, or raise a `FieldError` with every problem."""
        if self.problems:
            raise FieldError("check_field: " + " ".join(self.problems))
        return self


@checked
def check_field(field: Field, points: Points, labels: FieldLabels = None) -> FieldCheck:
    """Try whether a callable is a field: one row, one value, always the same, with a gradient.

    Runs the points together, together again, and each alone, and takes one gradient. The model is
    held in evaluation mode and left as it was found. Gradients that vanish are counted and not
    called a problem unless all do: saturated networks have them.

    Cost: `2n` evaluations in batches, `n` one by one, `n` gradients. A handful of points will do.

    Args:
        field: The callable to try.
        points: Where to try it, `(n, *d)`.
        labels: Passed to the field, `(n, ...)`.

    Returns:
        Counts and largest differences; `raise_if_unfit()` turns problems into a `FieldError`.

    Raises:
        FieldError: If the shape of the values is wrong, or they carry no gradient.

    Example:
        >>> import torch
        >>> from levelset import check_field
        >>> check_field(lambda x: x[:, 0] - x.mean(), torch.randn(5, 2)).problems[0][:36]
        '`field` must map each row on its own'
    """
    check_points("check_field", points)
    with frozen(field):
        together, jacobian = Evaluator("check_field", field).value_and_jacobian(points, labels)
        return _judged(field, points, labels, together, jacobian)


def check_classifier(model: Any, points: Points) -> FieldCheck:
    """Try whether a classifier maps each row on its own, with a margin that has a gradient.

    All logits are compared, but one gradient a point is taken, that of the margin: of k logits
    some may be constant, as that of (0, f) is or that of a class masked out, and k gradients of
    large inputs fill the memory.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: Where to try it, `(n, *d)`.
    """
    with frozen(model):
        together = Evaluator("check_field", model).values(points)
        margin = Evaluator("check_field", Margin(model))
        _, jacobian = margin.value_and_jacobian(points, together.argmax(1))
        return _judged(model, points, None, together, jacobian)


def _judged(
    field: Field, points: Tensor, labels: Tensor | None, together: Tensor, jacobian: Tensor
) -> FieldCheck:
    """Return the findings, from the values together `(n, l)` and gradients `(n, m, e)`."""
    again = Evaluator("check_field", field).values(points, labels)
    alone = _alone(field, points, labels, together)
    finite = together.isfinite().all(1)
    scale = float(together[finite].abs().max()) if finite.any() else 1.0
    coupling = _difference(alone, together, finite) / (scale or 1.0)
    randomness = _difference(again, together, finite) / (scale or 1.0)
    lengths = jacobian.norm(dim=2).amin(1) if len(points) else together.new_zeros(0)
    flat = int((~(lengths > 0) | ~lengths.isfinite()).sum())
    problems = _problems(together, randomness, coupling, int((~finite).sum()), flat)
    return FieldCheck(
        len(points), coupling, randomness, int((~finite).sum()), flat, tuple(problems)
    )


@checked
def suggest_batch_size(
    field: Field, points: Points, *, memory: int, labels: FieldLabels = None
) -> int:
    """Return how many points an evaluation with gradient may hold within a number of bytes.

    Doubles from one point up, with one probe each, and counts what the probe keeps for its
    backward pass, twice over, for the gradients of it. Nothing is timed and no device is asked,
    so the answer is the same everywhere.

    Args:
        field: The field.
        points: A sample of the points, `(n, *d)`; repeated as needed.
        memory: Bytes to stay within.
        labels: Passed to the field, `(n, ...)`.

    Returns:
        A power of two, at least 1 and at most 65,536.
    """
    check_points("suggest_batch_size", points)
    check_positive("suggest_batch_size", "memory", memory)
    if len(points) == 0:
        message = "suggest_batch_size: `points` must hold at least one point, got 0."
        raise ShapeError(message)
    size, caller = 1, Caller("suggest_batch_size", field)
    with frozen(field):
        while size < 65_536 and _bytes_kept(caller, points, labels, 2 * size) <= memory:
            size *= 2
    return size


def _bytes_kept(caller: Caller, points: Tensor, labels: Tensor | None, size: int) -> int:
    rows = torch.arange(size, device=points.device) % len(points)
    part = points[rows].detach().requires_grad_()
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        # A copy that is no leaf, as a field may write into its input.
        copies = part.clone()
        out = caller(copies, None if labels is None else labels[rows], owned=True)
        out = tensor_of(caller.function, "field", out, size)
    return 2 * (sum(sizes.values()) + part.numel() * part.element_size() + out.numel())


def _alone(field: Field, points: Tensor, labels: Tensor | None, together: Tensor) -> Tensor:
    """Return the values of each row alone; NaN if the field refuses to take one row."""
    try:
        return Evaluator("check_field", field, batch_size=1).values(points, labels)
    except ValueError:  # BatchNorm's way to say that it needs several rows
        return torch.full_like(together, torch.nan)


def _difference(a: Tensor, b: Tensor, rows: Tensor) -> float:
    return float((a - b)[rows].abs().nan_to_num(torch.inf).max()) if rows.any() else 0.0


def _problems(
    values: Tensor, randomness: float, coupling: float, non_finite: int, flat: int
) -> list[str]:
    slack = torch.finfo(values.dtype).eps ** 0.5
    problems = []
    if non_finite:
        problems.append(
            f"`field` must return finite values, got NaN or infinity on {non_finite} of "
            f"{len(values)} points. Check its weights and the scale of the points."
        )
    if randomness > slack:
        problems.append(
            "`field` must return the same twice, but two evaluations differ by "
            f"{randomness:.1e}. Does it draw random numbers in evaluation mode?"
        )
    elif coupling > slack:
        problems.append(
            "`field` must map each row on its own, but a row alone and among others differs by "
            f"{coupling:.1e}. Does it use statistics of the batch?"
        )
    if len(values) and flat == len(values):
        problems.append(
            "`field` must have a gradient somewhere, but it vanishes on all "
            f"{len(values)} points. Is it piecewise constant, or saturated?"
        )
    return problems
