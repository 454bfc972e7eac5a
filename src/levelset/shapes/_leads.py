"""Which of several linear functions is the largest along segments, and where that changes."""

from typing import NamedTuple

import torch
from torch import Tensor

from levelset._tools.checks import check_columns, check_finite, check_same_rows
from levelset.errors import ShapeError

__all__ = ["ClassChanges", "Leads", "check_segments", "leads"]


class ClassChanges(NamedTuple):
    """Where segments change class, one row a change, along each segment in order.

    Attributes:
        segments: The segment of each change, `(c,)`.
        shares: Where on it, as a share of the way, `(c,)`.
        points: The places, `(c, d)`.
        before: The class that ends there, `(c,)`.
        after: The class that begins there, `(c,)`.
        normals: Unit normals of the boundary there, towards the new class, `(c, d)`.
    """

    segments: Tensor
    shares: Tensor
    points: Tensor
    before: Tensor
    after: Tensor
    normals: Tensor


def check_segments(function: str, start: Tensor, end: Tensor, columns: int) -> None:
    """Refuse ends of segments that are not finite `(n, columns)` of one dtype."""
    check_same_rows(function, start, end, "end")
    for name, ends in (("start", start), ("end", end)):
        check_columns(function, ends, columns, name)
        check_finite(function, ends, name)
    if start.dtype != end.dtype:
        message = (
            f"{function}: `start` and `end` must have one dtype, got {start.dtype} and {end.dtype}."
        )
        raise ShapeError(message)


class Leads(NamedTuple):
    """The largest functions at both ends, `(n,)`, and the changes between: rows and columns."""

    first: Tensor
    last: Tensor
    rows: Tensor
    shares: Tensor
    before: Tensor
    after: Tensor


def leads(start: Tensor, end: Tensor) -> Leads:
    """Return which columns lead along segments on which each is linear, from its ends `(n, m)`.

    From the leader on to the function that meets it first, for all rows at once. Among equals the
    one that grows fastest leads, as it does right after.
    """
    slope = end - start
    tied = start >= start.amax(1, keepdim=True)
    leader = torch.where(tied, slope, -torch.inf).argmax(1)
    first, last = leader.clone(), leader.clone()
    rows = torch.arange(len(start), device=start.device)
    share = start.new_zeros(len(start))
    parts = [(rows[:0], share[:0], leader[:0], leader[:0])]
    while len(rows):
        gain = slope[rows] - slope[rows].gather(1, leader.unsqueeze(1))
        behind = start[rows].gather(1, leader.unsqueeze(1)) - start[rows]
        meet = torch.where(gain > 0, behind / torch.where(gain > 0, gain, 1.0), torch.inf)
        soonest = meet.amin(1, keepdim=True)
        after = torch.where(meet <= soonest, gain, -torch.inf).argmax(1)
        share = torch.maximum(soonest.squeeze(1), share)
        going = share < 1
        rows, share, leader, after = (part[going] for part in (rows, share, leader, after))
        parts.append((rows, share, leader, after))
        last[rows] = leader = after
    changes = [torch.cat(part) for part in zip(*parts, strict=True)]
    order = torch.argsort(changes[0], stable=True)
    return Leads(first, last, *(part[order] for part in changes))
