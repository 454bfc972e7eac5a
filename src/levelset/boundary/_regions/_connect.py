"""Paths between inputs of one class that stay in its region."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from levelset._logits import as_logits
from levelset._projection import Newton, project
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_finite,
    check_points,
    check_whole,
    first_rows,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Rows
from levelset._typing import Counts, Mask, Model, PerPoint, Points, Progress, Summary
from levelset.boundary._regions._cloud import predicted
from levelset.boundary._sections._exact_crossings import exact_crossings
from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.fields import Margin

__all__ = ["Link", "connect"]

# How often pairs that are not joined are tried, each time with a larger share, up to the most.
_ATTEMPTS, _LARGER, _MOST_SHARE = 3, 3.0, 0.9
# How often a gap between two evaluations is halved where the margin may reach zero inside it, as
# the steepest slope seen on its segment says, times a factor.
_REFINEMENTS, _STEEPER = 4, 2.0
# By which part of a segment the linear pieces of a whole one are estimated, and the most that are
# cheap to compute: a few tenths of a second.
_PROBE, _MOST_PIECES = 0.02, 1000

Verify = Literal["auto", "exact", "sampled"]


@dataclass(frozen=True, eq=False, repr=False)
class Link(Rows):
    """Paths between pairs of points, each inside one class region as far as it was looked at.

    Attributes:
        joined: Whether a path was found, `(n,)`.
        straight: Whether the segment itself is one, `(n,)`.
        ratio: Length of the path over that of the segment, `(n,)`; NaN where there is none.
        pieces: Segments of the path, `(n,)`; 0 where there is none.
        margin: Least margin seen on the path, `(n,)`, in logits.
        corners: The path, `(n, c, *d)`, filled up with its end.
        classes: The class of both ends, `(n,)`.
        spacing: Largest distance between two points of the path that were evaluated, `(n,)`, in
            the units of the points.
        proved: Whether the path has no change of class by computation, `(n,)`, and not by samples
            alone.
    """

    _headline: ClassVar = ("pairs", "joined", "straight", "proved", "ratio_max")

    joined: Mask
    straight: Mask
    ratio: PerPoint
    pieces: Counts
    margin: PerPoint
    corners: Tensor
    classes: Counts
    spacing: PerPoint
    proved: Mask

    def summary(self) -> Summary:
        """Return how many pairs are joined, straight, and by how long a way at most."""
        numbers: Summary = {
            "pairs": len(self),
            "joined": int(self.joined.sum()),
            "straight": int(self.straight.sum()),
            "proved": int(self.proved.sum()),
        }
        if bool(self.joined.any()):
            numbers["ratio_max"] = float(self.ratio[self.joined].max())
            numbers["pieces_max"] = int(self.pieces.max())
            numbers["spacing_max"] = float(self.spacing[self.joined].max())
        return numbers


@checked
def connect(
    model: Model,
    start: Points,
    end: Points,
    *,
    share: float = 0.1,
    depth: int = 4,
    checks: int = 33,
    verify: Verify = "auto",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Link:
    r"""Join pairs of inputs of one class by paths inside its region.

    A segment is a path if the margin of the class is positive all along it. It is looked at in
    `checks` points, then up to four times more finely between two of them where the steepest slope
    seen lets the margin reach zero. Where a segment leaves the region, the point of least margin is
    pulled back inside, along the gradient, until its margin is a share of the smaller one at the
    ends, and becomes a corner; both halves are joined in the same way. A target relative to the
    ends suits each pair; one in logits misses the pairs that lie near the boundary. A small share
    makes short paths and a large one finds more of them: pairs that are not joined are tried again
    with three times the share, twice.

    Of a piecewise linear network every piece of the path is then followed by
    [`exact_crossings`][levelset.boundary.exact_crossings], and bent where that meets another class:
    such paths are `proved`. With `auto` that is done where it takes tenths of a second a piece, so
    not for large convolutional networks, where bounds that show that the class stays take about 0.7
    s a piece (ConvNet-4a). Any other path is evidence from a sample of its points, `spacing` apart
    at most.

    Cost: `checks` forward passes a piece, and about five gradients a corner; pairs go together.
    The ways of pairs that stay apart are looked for three times.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`.
        start: One end of each pair, `(n, *d)`.
        end: The other, `(n, *d)`; of the same class by the model.
        share: Margin of a corner, as a share of the smaller margin at the two ends of the pair, at
            first.
        depth: How often a segment may be bent: a path has at most 2 to this power pieces.
        checks: Points at which a segment is looked at first, both ends among them.
        verify: `exact` to compute all changes of class, `sampled` not to, `auto` where it is cheap.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` in rounds of bending.

    Returns:
        The paths.

    Raises:
        ParameterError: If the ends of a pair have different classes, or an option is out of range.
        FieldError: With `exact`, if the model is not piecewise linear.
        ShapeError: If the ends differ in shape.

    Example:
        >>> import torch
        >>> from levelset.boundary import connect
        >>> def ring(points):
        ...     inside = 1.0 - 4.0 * (points.norm(dim=1) - 1.0).square()
        ...     return torch.stack([torch.zeros_like(inside), inside], dim=1)
        >>> ends = torch.tensor([[1.0, 0.0]]), torch.tensor([[-0.9, 0.44]])
        >>> link = connect(ring, *ends)
        >>> bool(link.joined), bool(link.straight), 1.0 < float(link.ratio) < 1.2
        (True, False, True)

    References:
        - Alonso & Bonin, section 2.4, after A. Fawzi et al., "Empirical study of the topology and
          geometry of deep networks", CVPR 2018.
    """
    _check(start, end, share, depth, checks)
    start, end = start.detach(), end.detach()
    with frozen(model):
        paths = _Paths(model, start, end, share, checks, batch_size)
        pieces = 0.0 if verify == "sampled" else _expected_pieces(model, start, end, verify)
        paths.is_exact = verify == "exact" or (verify == "auto" and pieces <= _MOST_PIECES)
        paths.route = "pieces" if pieces <= _MOST_PIECES else "bounds"
        rounds = _ATTEMPTS * (depth + 1)
        for round_ in range(rounds):
            paths.look()
            if progress is not None:
                progress(round_ + 1, rounds)
            if (round_ + 1) % (depth + 1):
                paths.bend()
            elif round_ + 1 < rounds:
                paths.start_again()
    return paths.result()


def _expected_pieces(model: Any, start: Tensor, end: Tensor, verify: Verify) -> float:
    """Return about how many linear pieces a segment has; infinity where it has none."""
    apart = (start != end).flatten(1).any(1).nonzero().flatten()
    if not len(apart):
        return 0.0 if len(start) else math.inf
    first = start[apart[0]]
    try:
        near = torch.lerp(first, end[apart[0]], _PROBE)
        return exact_crossings(model, first, near).pieces / _PROBE
    except FieldError:
        if verify == "exact":
            raise
        return math.inf


class _Above(nn.Module):
    """The margin less a target: labels `(n, 2)` hold the class and the target of each point."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.margin = Margin(model)

    def forward(self, points: Tensor, labels: Tensor) -> Tensor:
        target = labels[:, 1].to(points.dtype)
        values: Tensor = self.margin(points, labels[:, 0].long())
        return values - target


class _Paths:
    """The segments of all paths, each with its pair and its place along it."""

    def __init__(
        self,
        model: Any,
        start: Tensor,
        end: Tensor,
        share: float,
        checks: int,
        batch_size: int | None,
    ) -> None:
        self.start, self.end, self.checks = start, end, checks
        self.raw, self.is_exact = model, False
        self.route: Literal["pieces", "bounds"] = "pieces"
        self.batch_size = batch_size
        self.classes = predicted("connect", model, start, batch_size)
        others = predicted("connect", model, end, batch_size)
        differ = self.classes != others
        if bool(differ.any()):
            row = int(differ.nonzero()[0, 0])
            message = (
                f"connect: `start` and `end` must have one class, but {int(differ.sum())} of "
                f"{len(start)} pairs have two (first: {first_rows(differ)}; pair {row}: class "
                f"{int(self.classes[row])} and {int(others[row])}). Leave these out."
            )
            raise ParameterError(message)
        self.model = as_logits("connect", model, start) if len(start) else model
        self.evaluator = Evaluator("connect", Margin(self.model), batch_size)
        ends = [self.evaluator.values(x, self.classes)[:, 0] for x in (start, end)]
        self.end_margin = torch.minimum(*ends).clamp(min=0.0)
        self.pair = torch.arange(len(start), device=start.device)
        self.place = torch.zeros(len(start), dtype=torch.float64, device=start.device)
        self.share = torch.full_like(self.place, share)
        # The share of its path that a segment stands for, to order them by.
        self.width = torch.ones_like(self.place)
        self.left, self.right = start, end
        self.is_new = torch.ones(len(start), dtype=torch.bool, device=start.device)
        self.lost = torch.zeros_like(self.is_new)
        empty = start.new_full((len(start),), torch.nan)
        self.least, self.where, self.gap = empty, empty.clone(), empty.clone()

    def look(self) -> None:
        """Evaluate the margin along all new segments, and note where each is least."""
        new = self.is_new.nonzero().flatten()
        if len(new):
            fraction = torch.linspace(0.0, 1.0, self.checks).to(self.start)
            t = fraction.expand(len(new), -1)
            margin = self._margins(new, t)
            for _ in range(_REFINEMENTS):
                t, margin, is_finer = self._refine(new, t, margin)
                if not is_finer:
                    break
            self.least[new], at = margin.min(1)
            self.where[new] = t.gather(1, at.unsqueeze(1))[:, 0]
            length = (self.right[new] - self.left[new]).flatten(1).norm(dim=1)
            self.gap[new] = t.diff(dim=1).amax(1) * length
            if self.is_exact:
                self._follow(new)
        self.is_new = torch.zeros_like(self.is_new)

    def _follow(self, rows: Tensor) -> None:
        """Compute the changes of class on segments that look inside, and note where one is out."""
        for row in rows[self.least[rows] > 0].tolist():
            left, right = self.left[row], self.right[row]
            if torch.equal(left, right):
                continue
            fraction = exact_crossings(self.raw, left, right, route=self.route).fraction
            if len(fraction):
                last = fraction[1] if len(fraction) > 1 else 1.0
                self.where[row] = 0.5 * (fraction[0] + last)
                self.least[row] = 0.0

    def bend(self) -> None:
        """Replace segments that leave the region by two, through a point pulled inside."""
        out = (self.least <= 0) & ~self.lost[self.pair]
        rows = out.nonzero().flatten()
        if not len(rows):
            return
        corner, arrived = self._pulled(rows)
        self.lost[self.pair[rows[~arrived]]] = True
        rows, corner = rows[arrived], corner[arrived]
        keep = torch.ones_like(out)
        keep[rows] = False
        half = 0.5 * self.width[rows]
        middle = self.place[rows] + half
        self.width = torch.cat([self.width[keep], half, half])
        self.pair = torch.cat([self.pair[keep], self.pair[rows], self.pair[rows]])
        self.place = torch.cat([self.place[keep], self.place[rows], middle])
        left, right = self.left[rows], self.right[rows]
        self._put(keep, torch.cat([left, corner]), torch.cat([corner, right]))

    def start_again(self) -> None:
        """Put the whole segments of pairs that are not joined back, for corners further inside."""
        apart = self.lost.clone()
        apart[self.pair[self.least <= 0]] = True
        pairs, keep = apart.nonzero().flatten(), ~apart[self.pair]
        larger = (_LARGER * self.share[pairs]).clamp(max=_MOST_SHARE)
        self.share[pairs] = torch.maximum(self.share[pairs], larger)
        self.lost[pairs] = False
        self.pair = torch.cat([self.pair[keep], pairs])
        self.place = torch.cat([self.place[keep], torch.zeros_like(larger)])
        self.width = torch.cat([self.width[keep], torch.ones_like(larger)])
        self._put(keep, self.start[pairs], self.end[pairs])

    def _put(self, keep: Mask, left: Tensor, right: Tensor) -> None:
        """Keep some segments and add others, not yet looked at."""
        self.left, self.right = (
            torch.cat([a[keep], b]) for a, b in ((self.left, left), (self.right, right))
        )
        unknown = self.least.new_full((len(left),), torch.nan)
        for name in ("least", "where", "gap"):
            setattr(self, name, torch.cat([getattr(self, name)[keep], unknown]))
        self.is_new = self.least.isnan()

    def result(self) -> Link:
        """Return the paths, their segments in order."""
        n = len(self.start)
        order = self.place.argsort(stable=True)
        order = order[self.pair[order].argsort(stable=True)]
        pair = self.pair[order]
        pieces = torch.bincount(pair, minlength=n)
        length = (self.right - self.left).flatten(1).norm(dim=1)[order]
        total = length.new_zeros(n).index_add(0, pair, length)
        straight_length = (self.end - self.start).flatten(1).norm(dim=1)
        ratio = torch.where(straight_length > 0, total / straight_length, 1.0)
        least = length.new_full((n,), torch.inf).scatter_reduce(0, pair, self.least[order], "amin")
        gap = length.new_zeros(n).scatter_reduce(0, pair, self.gap[order], "amax")
        joined = (least > 0) & ~self.lost
        most = int(pieces.max()) if n else 1
        corners = self.end.unsqueeze(1).repeat(1, most + 1, *[1] * (self.end.dim() - 1))
        first = pieces.cumsum(0) - pieces
        number = torch.arange(len(pair), device=pair.device) - first[pair]
        corners[pair, number] = self.left[order]
        return Link(
            joined=joined,
            straight=joined & (pieces == 1),
            ratio=torch.where(joined, ratio, torch.nan),
            pieces=torch.where(joined, pieces, 0),
            margin=least,
            corners=corners,
            classes=self.classes,
            spacing=gap,
            proved=joined & self.is_exact,
        )

    def _margins(self, rows: Tensor, t: Tensor) -> Tensor:
        """Return margins at fractions `(m, c)` of segments `rows`, `(m, c)`."""
        values = t.new_empty(t.shape)
        for part in _parts(t.shape, self.start[:1].numel()):
            some, at = rows[part], t[part]
            weight = at.reshape(*at.shape, *[1] * (self.start.dim() - 1))
            points = torch.lerp(self.left[some].unsqueeze(1), self.right[some].unsqueeze(1), weight)
            labels = self.classes[self.pair[some]].repeat_interleave(at.shape[1])
            values[part] = self.evaluator.values(points.flatten(0, 1), labels).view(at.shape)
        return values

    def _refine(self, rows: Tensor, t: Tensor, margin: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Halve the gaps of segments that look inside but where a steeper slope could leave."""
        slope = _STEEPER * (margin.diff(dim=1).abs() / t.diff(dim=1)).amax(1)
        reach = torch.minimum(margin[:, 1:], margin[:, :-1]) - 0.5 * slope[:, None] * t.diff(dim=1)
        doubtful = ((reach <= 0).any(1) & (margin > 0).all(1)).nonzero().flatten()
        if not len(doubtful):
            return t, margin, False
        middle = 0.5 * (t[doubtful, 1:] + t[doubtful, :-1])
        # All rows stay of one length: the others repeat their points.
        more_t, more = t[:, 1:].clone(), margin[:, 1:].clone()
        more_t[doubtful] = middle
        more[doubtful] = self._margins(rows[doubtful], middle)
        t, order = torch.cat([t, more_t], 1).sort(dim=1)
        return t, torch.cat([margin, more], 1).gather(1, order), True

    def _pulled(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return corners with a share of the smaller end margin, and which have it."""
        weight = self.where[rows].view(-1, *[1] * (self.start.dim() - 1))
        lowest = torch.lerp(self.left[rows], self.right[rows], weight)
        labels = self.classes[self.pair[rows]]
        pair = self.pair[rows]
        target = self.share[pair].to(self.end_margin) * self.end_margin[pair]
        both = torch.stack([labels.double(), target.double()], dim=1)
        result = project(
            _Above(self.model), lowest, labels=both, method=Newton(max_iter=30),
            tol=1e-3, batch_size=self.batch_size,
        )  # fmt: skip
        reached = self.evaluator.values(result.points, both[:, 0].long())[:, 0]
        return result.points, reached > 0.5 * target


def _parts(shape: torch.Size, size: int) -> Iterator[slice]:
    """Yield slices of rows whose points fit into memory."""
    rows = max(2**24 // max(shape[1] * size, 1), 1)
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))


def _check(start: Tensor, end: Tensor, share: float, depth: int, checks: int) -> None:
    for name, points in (("start", start), ("end", end)):
        check_points("connect", points, name)
        check_finite("connect", points, name)
    if start.shape != end.shape:
        message = (
            f"connect: `end` must have the shape of `start` {tuple(start.shape)}, got "
            f"{tuple(end.shape)}."
        )
        raise ShapeError(message)
    if not 0.0 < share < 1.0:
        message = f"connect: `share` must lie between 0 and 1, got {share}."
        raise ParameterError(message)
    check_whole("connect", "depth", depth, at_least=0)
    check_whole("connect", "checks", checks, at_least=3)
