"""Asking a classifier for the classes of noisy copies, of many points at once, at its own speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.batches import swift_batch
from levelset._tools.calling import Caller
from levelset.boundary._sampling._noise import Noise
from levelset.errors import FieldError

__all__ = ["Task", "Voter", "Votes"]

# Rows in one buffer off the CPU, in numbers.
_DEVICE_ELEMENTS = 2**26
# Rows that are filled together at least, so that small `batch_size` costs no more noise.
_LEAST_ROWS = 16
# Points that show whether the model writes into its input.
_FIRST = 4
# How often to ask again for classes at noise that changes at least this share of them, and the
# shares that may differ by rounding: in the same batches, in others.
_PROBES, _PROBED_SHARE, _ROUNDED_SHARES = 6, 0.1, (0.002, 0.03)


class Task(NamedTuple):
    """Noisy copies to make of one point: at one size of the noise, `draws` directions of it."""

    row: int
    sigma: float
    draws: int


@dataclass(frozen=True, eq=False)
class Votes:
    """Classes of noisy copies, in the order of the tasks.

    Attributes:
        task: Which task each direction belongs to, `(m,)`.
        plus: Class at x + sigma z, `(m,)`.
        minus: Class at x - sigma z, `(m,)`; `plus` itself where copies do not come in pairs.
        counts: For each task how many directions kept the class of the point on no side, on one, on
            both, `(t, 3)`; without pairs, on none or on one.
    """

    task: Tensor
    plus: Tensor
    minus: Tensor
    counts: Tensor


class Voter:
    """Classifies noisy copies of points, in full batches in the network's best layout.

    The copies x + sigma z (and x - sigma z, if `paired`) of all tasks go through one buffer that
    is reused, laid out channels last, so that neither copying nor fresh memory costs time.

    Args:
        function: Name of the public function at work, for messages.
        model: Maps `(n, *d)` to logits `(n, k)`, to labels `(n,)` of integers or booleans, or to
            the values `(n,)` of one field, whose sides are the classes.
        points: `(n, *d)`.
        noise: Where the directions come from.
        paired: Take each direction both ways.
        batch_size: Most rows an evaluation; `None` for the number that runs fastest.

    Attributes:
        classes: The class of each point, `(n,)`.
        evaluations: Forward passes spent on each point, `(n,)`, that of the point included.
        logits: How many logits the model returns; 0 if it returns labels.
    """

    def __init__(
        self,
        function: str,
        model: Any,
        points: Tensor,
        noise: Noise,
        *,
        paired: bool = True,
        batch_size: int | None = None,
    ) -> None:
        model = as_logits(function, model, points.detach(), labels=True)
        self.function, self.noise, self.paired = function, noise, paired
        self.shape = points.shape[1:]
        self._flat = _flatten(points.detach()).clone()
        self._caller, self._writes = Caller(function, model, "model"), False
        swift = swift_batch(model, points, gradient=False)
        if points.device.type != "cpu":
            swift = max(_DEVICE_ELEMENTS // max(noise.size, 1), 1)
        self._batch = swift if batch_size is None else min(swift, batch_size)
        sides = 2 if paired else 1
        directions = max(self._batch, _LEAST_ROWS) // sides
        self._buffer = self._flat.new_empty(directions, sides, noise.size)
        # Views made once and for all, for making one costs as much as filling ten rows.
        self._sides = self._buffer.unbind(1)
        self._copies = _unflatten(self._buffer.flatten(0, 1), self.shape)
        self.logits = 0
        self._highest: list[Tensor] = []
        with torch.no_grad():
            self._writes = self._writes_into(self._flat[:_FIRST])
            self.classes, again = self._all(self._flat), self._all(self._flat)
        self._raise_if_nan()
        self.evaluations = torch.ones_like(self.classes)
        self._raise_if_random(self.classes != again, "points")
        self._probed, self._probes = False, _PROBES
        # Copies asked about again and those that differ: in the same batches, in others.
        self._doubts = torch.zeros(2, 2, dtype=torch.int64)

    @torch.no_grad()
    def vote(self, tasks: Sequence[Task]) -> Votes:
        """Classify the noisy copies that the tasks ask for."""
        labels, filled = [self.classes[:0]], 0
        capacity = self._buffer.shape[0]
        for task in tasks:
            point, left = self._flat[task.row : task.row + 1], task.draws
            while left:
                drawn, scale = self.noise.take_unscaled(task.row, min(left, capacity - filled))
                count = drawn.shape[0]  # `len` of a tensor is slow, and this is the inner loop
                for side, place in enumerate(self._sides):
                    sigma = -task.sigma if side else task.sigma
                    out = place.narrow(0, filled, count)
                    if scale is None:
                        torch.add(point, drawn, alpha=sigma, out=out)
                    else:
                        torch.addcmul(point, drawn, scale, value=sigma, out=out)
                filled, left = filled + count, left - count
                if filled == capacity:
                    labels.append(self._classes_of_copies(filled))
                    filled = 0
        if filled:
            labels.append(self._classes_of_copies(filled))
        self._raise_if_nan(max((task.sigma for task in tasks), default=0.0))
        votes = self._counted(tasks, torch.cat(labels).view(-1, self._buffer.shape[1]))
        moved = 1.0 - float(votes.counts[:, -1].sum()) / max(int(votes.counts.sum()), 1)
        self._probe(self._buffer.flatten(0, 1), labels[-1], moved)
        return votes

    @torch.no_grad()
    def keep(self, requests: Sequence[tuple[int, Tensor, Tensor]]) -> list[Tensor]:
        """Return which given copies keep the class of their point.

        Args:
            requests: For each of some points its row, directions `(m, e)` and how far to go along
                each, `(m,)`.
        """
        sizes = [len(far) for _, _, far in requests]
        for (row, _, _), size in zip(requests, sizes, strict=True):
            self.evaluations[row] += size
        kept, buffered, filled = [], [], 0
        for row, directions, radii in requests:
            far = radii.to(directions.device, directions.dtype)
            for part, reach in zip(
                torch.split(directions, self._batch), torch.split(far, self._batch), strict=True
            ):
                buffered.append((self._flat[row] + reach.unsqueeze(1) * part, row))
                filled += len(part)
                if filled >= self._batch:
                    kept.append(self._keep(buffered))
                    buffered, filled = [], 0
        if buffered:
            kept.append(self._keep(buffered))
        self._raise_if_nan()
        joined = torch.cat(kept) if kept else torch.zeros(0, dtype=torch.bool)
        return list(torch.split(joined, sizes))

    def _keep(self, buffered: list[tuple[Tensor, int]]) -> Tensor:
        own = torch.cat([self.classes[row].expand(len(part)) for part, row in buffered])
        copies = torch.cat([part for part, _ in buffered])
        labels = self._all(copies)
        self._probe(copies, labels, float((labels != own).double().mean()))
        return labels == own

    def _counted(self, tasks: Sequence[Task], labels: Tensor) -> Votes:
        """Return the classes `(m, 1 or 2)` of all copies as votes, and count what they cost."""
        device, sides = labels.device, labels.shape[1]
        rows = torch.tensor([task.row for task in tasks], dtype=torch.int64, device=device)
        sizes = torch.tensor([task.draws for task in tasks], dtype=torch.int64, device=device)
        self.evaluations.index_add_(0, rows, sides * sizes)
        task = torch.repeat_interleave(torch.arange(len(tasks), device=device), sizes)
        kept = (labels == self.classes[rows][task].unsqueeze(1)).sum(1)
        counts = torch.bincount(3 * task + kept, minlength=3 * len(tasks)).view(-1, 3)
        return Votes(task, labels[:, 0], labels[:, -1], counts)

    def _classes_of_copies(self, filled: int) -> Tensor:
        """Return the classes of the first copies in the buffer."""
        rows = filled * self._buffer.shape[1]
        if self._probed and rows == self._copies.shape[0] <= self._batch:
            return self._classify(self._copies)
        copies = self._buffer[:filled].flatten(0, 1)
        if self._probed:
            return self._all(copies)
        self._probed, before = True, copies.clone()
        labels = self._all(before)
        # Some models write only beyond a bound, where no point lies but its noisy copies do.
        self._writes = self._writes or not torch.equal(before, copies)
        # In the same batches, for rounding may depend on them.
        self._raise_if_random(labels != self._all(copies), "noisy copies")
        return labels

    def _probe(self, copies: Tensor, labels: Tensor, moved: float) -> None:
        """Ask for classes `(m,)` again where many copies change theirs: all, then every other one.

        Far from the boundary a random model, or one that looks at the whole batch, gives itself
        away seldom. In the other batch some may differ by rounding, most in half precision.
        """
        rows = len(labels)
        if not self._probes or moved < _PROBED_SHARE or not 1 < rows <= self._batch:
            return
        self._probes -= 1
        copies = copies[:rows]
        again = self._classify(_unflatten(copies, self.shape)) != labels
        apart = self._classify(_unflatten(copies[::2].contiguous(), self.shape)) != labels[::2]
        self._doubts += torch.tensor([[rows, int(again.sum())], [len(apart), int(apart.sum())]])
        for (asked, differed), least in zip(self._doubts.tolist(), _ROUNDED_SHARES, strict=True):
            if differed > max(1, least * asked):
                self._raise_if_random(torch.arange(asked) < differed, "noisy copies")

    def _all(self, flat: Tensor) -> Tensor:
        """Return the classes of rows in the buffer's layout."""
        if not flat.shape[0]:
            return torch.zeros(0, dtype=torch.int64, device=flat.device)
        parts = torch.split(flat, self._batch)
        return torch.cat([self._classify(_unflatten(part, self.shape)) for part in parts])

    def _classify(self, points: Tensor) -> Tensor:
        return self._labels(self._caller(points, owned=not self._writes), points.shape[0])

    def _writes_into(self, points: Tensor) -> bool:
        """Return whether the model writes into its input, by rows of the buffer's layout."""
        copy = points.clone()
        self._all(copy)
        return not torch.equal(copy, points)

    def _labels(self, out: Any, rows: int) -> Tensor:
        if isinstance(out, Tensor) and out.dim() in (1, 2) and out.shape[0] == rows:
            if out.dim() == 2 and out.shape[1] > 1 and out.is_floating_point():
                self.logits = out.shape[1]
                highest, labels = out.max(1)  # NaN if any logit is
                self._highest.append(highest)
                return labels
            if out.dim() == 1 or out.shape[1] == 1:
                values = out.reshape(rows)
                if values.is_floating_point():
                    self._highest.append(values.clone())  # it may be a view of the buffer
                    return (values > 0).long()
                if not values.is_complex():
                    return values.long()
        got = (
            f"{tuple(out.shape)} of {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
        )
        message = (
            f"{self.function}: `model` must map points ({rows}, ...) to logits ({rows}, k) or to "
            f"labels ({rows},), got {got}."
        )
        raise FieldError(message)

    def _raise_if_nan(self, sigma: float = 0.0) -> None:
        """Refuse NaN among all that the model returned since this was last called."""
        highest, self._highest = self._highest, []
        if highest and bool(torch.cat(highest).isnan().any()):
            where, remedy = "", "Check its weights and the scale of the points"
            if sigma:
                where = f" on copies with noise of up to {sigma:.3g}"
                remedy += ", or give a smaller `max_sigma` if that noise is more than it can take"
            message = f"{self.function}: `model` must return numbers, got NaN{where}. {remedy}."
            raise FieldError(message)

    def _raise_if_random(self, different: Tensor, what: str) -> None:
        if bool(different.any()):
            message = (
                f"{self.function}: `model` must return the same class twice, but two evaluations "
                f"differ on {int(different.sum())} of {len(different)} {what}. Does it draw random "
                "numbers in evaluation mode, or use statistics of the batch?"
            )
            raise FieldError(message)


def _flatten(points: Tensor) -> Tensor:
    """Return `(n, e)`, pixels of an image by place first and channel last."""
    laid = points.permute(0, 2, 3, 1) if points.dim() == 4 else points
    return laid.reshape(len(points), -1) if len(points) else points.new_empty(0, 0)


def _unflatten(flat: Tensor, shape: torch.Size) -> Tensor:
    """Return the points of rows `(m, e)`, as a view: images in channels-last strides."""
    if len(shape) != 3:
        return flat.view(-1, *shape)
    c, h, w = shape
    return flat.view(-1, h, w, c).permute(0, 3, 1, 2)
