"""Where the class changes along a segment, and where a piecewise linear network bends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._relaxation._piecewise import in_single, read_piecewise
from levelset._relaxation._program import Program
from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, check_points
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Rows
from levelset._typing import Counts, Floats, Integers, Model, Points, Progress, Summary
from levelset.boundary._sections._bounds import CellBounds
from levelset.boundary._sections._plane import Frame, batch_of
from levelset.boundary._sections._segment import Stretch, stretch, ties
from levelset.errors import ParameterError, ShapeError

__all__ = ["Crossings", "exact_crossings"]

_REMEDY = "`levelset.intersect` finds one change of class between two points of any model."
# Numbers of a layer at all knots of a stretch, and the knots that suit: 32 MiB in float64.
_ELEMENTS, _MOST_KNOTS = 2**22, 1024
# Odd, so that stretches do not end where networks with round numbers bend.
_FIRST = 1.0 / 62.831853
_STRETCHES = 10_000
# Intervals that bounds are first made of, and how often those are halved of which nothing follows.
_INTERVALS, _DEPTH = 64, 7


@dataclass(frozen=True, eq=False, repr=False)
class Crossings(Rows):
    """The changes of class along a segment, in order.

    Attributes:
        fraction: How far along, `(c,)`, 0 at the start and 1 at the end; float64.
        points: The points there, `(c, *d)`.
        before: The classes before, `(c,)`.
        after: The classes after, `(c,)`.
        pieces: Linear pieces of the network on the segment; with `route="bounds"` those that were
            computed.
        knots: Where the pieces begin and end, `(pieces + 1,)`, from 0 to 1; `None` unless asked
            for.
    """

    _headline: ClassVar = ("fraction", "before", "after", "pieces")

    fraction: Tensor
    points: Points
    before: Counts
    after: Counts
    pieces: int
    knots: Tensor | None = None

    def summary(self) -> Summary:
        """Return how often the class changes, and how many linear pieces there are."""
        return {"points": len(self), "pieces": self.pieces}


@checked
def exact_crossings(
    model: Model,
    start: Tensor,
    end: Tensor,
    *,
    regions: bool = False,
    route: Literal["pieces", "bounds"] = "pieces",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Crossings:
    """Compute every change of class along a segment of a piecewise linear classifier.

    The segment is cut layer by layer where units pass 0 and where entries of pooling windows tie,
    so that the network is affine between two knots; the class changes where the two largest logits
    tie. In float64, a stretch of the segment at a time, with lengths that keep memory bounded.

    Layers and evaluation as for [`exact_section`][levelset.boundary.exact_section].

    Route `bounds` leaves out stretches on which linear bounds of the network prove that the class
    stays: of ever shorter ones, one class alone may be the largest, or the difference of two, which
    is of one sign at both ends, changes in one direction only. The rest is cut exactly. The changes
    are the same; how many pieces there are is not known then.

    Cost: about one pass through the network in float64 for each linear piece: half a millisecond
    for ConvNet-4a, which has some 10,000 pieces from one digit to another. By bounds some hundred
    intervals, at about ten passes each.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`; a module.
        start: Where the segment begins, `(*d)`; `(1, *d)` is taken too.
        end: Where it ends, of the same shape.
        regions: Whether to return all knots, where the linear region changes.
        route: `"pieces"` for all linear pieces, `"bounds"` for the changes of class alone.
        batch_size: Knots that a stretch is meant to have; `None` for as many as fit into 32 MiB.
        progress: Called as `progress(done, total)` in thousandths of the segment.

    Returns:
        The crossings. Where a class only touches the largest logit there is none.

    Raises:
        FieldError: If the model has a layer that is smooth or not known, or code that cannot be
            traced.
        ParameterError: If start and end are the same, or `regions` are to come by bounds.
        ShapeError: If they differ in shape.
        DataError: If one is not finite.

    Example:
        >>> import torch
        >>> from levelset.boundary import exact_crossings
        >>> model = torch.nn.Linear(1, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        >>> _ = model.bias.data.copy_(torch.tensor([0.0, 1.0]))
        >>> crossings = exact_crossings(model, torch.tensor([0.0]), torch.tensor([2.0]))
        >>> f"{float(crossings.fraction):.6f}"  # x = 1 - x at x = 1/2
        '0.250000'
    """
    for name, each in (("start", start), ("end", end)):
        check_points("exact_crossings", each.unsqueeze(0), name)
        check_finite("exact_crossings", each.unsqueeze(0), name)
    if start.shape != end.shape:
        message = (
            f"exact_crossings: `end` must have the shape of `start`, {tuple(start.shape)}, got "
            f"{tuple(end.shape)}."
        )
        raise ShapeError(message)
    if torch.equal(start, end):
        message = "exact_crossings: `end` must be another point than `start`."
        raise ParameterError(message)
    if regions and route == "bounds":
        message = "exact_crossings: `route` must be 'pieces' where `regions` are asked for."
        raise ParameterError(message)
    first, last = batch_of("exact_crossings", model, start.detach(), end.detach())
    like = first[:0]
    with frozen(model), torch.no_grad():
        model = as_logits("exact_crossings", model, first)
        values = Evaluator("exact_crossings", model).values(first)
        program = read_piecewise("exact_crossings", model, first.double(), values, _REMEDY)
        basis = torch.cat([first.double(), last.double() - first.double()])
        if route == "pieces":
            parts = _stretches(program, basis, batch_size)
        else:
            single = in_single("exact_crossings", model, first)
            parts = _undecided(program, single, basis, batch_size)
        pieces = 1
        changes: list[tuple[Floats, Integers, Integers]] = []
        knots = [np.zeros(1)]
        for part in parts:
            pieces += len(part.knots) - 2
            changes.append(_changes(part))
            if regions:
                knots.append(part.knots[1:-1])
            if progress is not None:
                progress(round(1000 * part.knots[-1]), 1000)
    knots.append(np.ones(1))
    fraction, before, after = _joined(changes)
    place = torch.from_numpy(fraction).to(basis)
    points = basis[:1] + place.view(-1, *[1] * (basis.dim() - 1)) * basis[1:]
    return Crossings(
        fraction=place,
        points=points.to(like),
        before=torch.from_numpy(before).to(like.device),
        after=torch.from_numpy(after).to(like.device),
        pieces=pieces,
        knots=torch.from_numpy(np.concatenate(knots)).to(basis) if regions else None,
    )


def _undecided(
    program: Program, single: Program, basis: Tensor, wanted: int | None
) -> Iterator[Stretch]:
    """Yield the stretches of a segment on which the class may change, in order."""
    like = basis[:0]
    frame = Frame(basis[:1], basis[1:], 0.0 * basis[1:], (0.0, 0.0), (1.0, 0.0), like)
    bounds = CellBounds(program, single, frame)
    # Odd, as the length of a first stretch is.
    begin = torch.linspace(0.0, 1.0, _INTERVALS + 1, dtype=torch.float64)
    begin[1:-1] += (0.5 - _FIRST) / _INTERVALS
    begin, end = begin[:-1], begin[1:]
    open_: list[tuple[float, float]] = []
    for _ in range(_DEPTH):
        flat = torch.zeros_like(begin)
        found = bounds.bound(torch.stack([begin, flat], 1), torch.stack([end, flat], 1))
        steady = found.steady[:, 0].cpu()
        ends = torch.stack([begin[steady], end[steady]], 1).view(-1, 1)
        values = program.values(basis[:1] + ends.view(-1, *[1] * (basis.dim() - 1)) * basis[1:])
        top = values[program.output].argmax(1).view(-1, 2).cpu()
        two = top[:, 0] != top[:, 1]
        open_ += zip(begin[steady][two].tolist(), end[steady][two].tolist(), strict=True)
        rest = ((found.rival != -1).cpu() & ~steady).nonzero().flatten()
        middle = (begin[rest] + end[rest]) / 2
        begin = torch.stack([begin[rest], middle], 1).flatten()
        end = torch.stack([middle, end[rest]], 1).flatten()
        if not len(rest):
            break
    open_ += zip(begin.tolist(), end.tolist(), strict=True)
    for low, high in sorted(open_):
        yield from _stretches(program, basis, wanted, low, high)


def _stretches(
    program: Program, basis: Tensor, wanted: int | None, begin: float = 0.0, last: float = 1.0
) -> Iterator[Stretch]:
    """Yield the stretches of a segment, each as long as lets it have the knots that are wanted."""
    widest = max(each.numel() for each in program.values(basis[:1]).values())
    most = max(wanted, 8) if wanted else min(max(_ELEMENTS // widest, 16), _MOST_KNOTS)
    length = _FIRST
    for _ in range(_STRETCHES):
        end = last if begin + 1.5 * length >= last else begin + length
        part = stretch(program, basis, begin, end)
        yield part
        if end == last:
            return
        begin = end
        length *= float(np.clip(most / (len(part.knots) - 1), 0.25, 4.0))
    message = "exact_crossings: `batch_size` must be larger for so many linear pieces."
    raise ParameterError(message)


def _changes(part: Stretch) -> tuple[Floats, Integers, Integers]:
    """Return where the class changes on a stretch, and the classes before and after."""
    knots, logits = part.knots, part.logits
    near = logits >= logits.max(1, keepdims=True) - part.slack
    settled = (near[:-1] & near[1:]).any(1)
    open_ = np.flatnonzero(~settled)
    row, share = ties(logits[open_], logits[open_ + 1])
    at = open_[row]
    marks = np.concatenate([knots, knots[at] + share * (knots[at + 1] - knots[at])])
    values = np.concatenate([logits, logits[at] + share[:, None] * (logits[at + 1] - logits[at])])
    order = np.argsort(marks, kind="stable")
    marks, values = marks[order], values[order]
    middle = (values[1:] + values[:-1]) / 2
    top = (middle >= middle.max(1, keepdims=True) - part.slack).argmax(1)
    change = np.flatnonzero(top[1:] != top[:-1])
    ends = np.array([marks[0], marks[-1]])
    # The classes at both ends come along, for changes between two stretches.
    return (
        np.concatenate([ends[:1], marks[change + 1], ends[1:]]),
        np.concatenate([top[:1], top[change], top[-1:]]),
        np.concatenate([top[:1], top[change + 1], top[-1:]]),
    )


def _joined(
    parts: list[tuple[Floats, Integers, Integers]],
) -> tuple[Floats, Integers, Integers]:
    """Return the changes of all stretches, also of those where one follows on another."""
    none = np.zeros(0, dtype=np.int64)
    columns = zip((np.zeros(0), none, none), *parts, strict=True)
    fraction, before, after = (np.concatenate(each) for each in columns)
    # What follows an end is the beginning of the next stretch.
    before[1:] = np.where(before[1:] == after[1:], after[:-1], before[1:])
    real = before != after
    real[:1] = False
    return fraction[real], before[real], after[real]
