"""Persistence of a piece of the points, in whichever process it is found."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from levelset._tools.batches import row_batches
from levelset._tools.cost import operations
from levelset._tools.engines import cut, expected_seconds, threads_of
from levelset._typing import Field, Floats, Integers
from levelset.boundary._sampling._adaptive import probit
from levelset.boundary._sampling._bracketing import bracketing
from levelset.boundary._sampling._estimate import Estimate, Policy
from levelset.boundary._sampling._noise import Noise
from levelset.boundary._sampling._quickselect import quickselect
from levelset.boundary._sampling._votes import Voter

__all__ = ["METHODS", "Estimating", "Found", "PersistenceMethod", "Wanted", "pieces"]

PersistenceMethod: TypeAlias = Literal["probit", "quickselect", "bracketing"]

METHODS: dict[str, Callable[[Voter, Integers, Policy], Estimate]] = {
    "probit": probit,
    "quickselect": quickselect,
    "bracketing": bracketing,
}
"""The methods by their names."""

# Points that advance together: enough to fill batches, few enough to remember their draws.
_TOGETHER = 512
# Evaluations that a point is expected to take, by which points are cut into pieces.
_EVALUATIONS = 2_500.0
# The noise to begin with and the largest to try, for every unit of a point's root mean square.
_FIRST, _LARGEST = 1.0 / 16.0, 1e4


def pieces(model: Field, points: Tensor) -> tuple[list[slice], int]:
    """Return the rows of each piece, one at least, and the processor threads of a piece."""
    n, device = len(points), points.device.type
    if n < 2 or device != "cpu":
        return list(row_batches(n, _TOGETHER)) or [slice(0, 0)], torch.get_num_threads()
    seconds = expected_seconds(_EVALUATIONS, operations(model, points), device)
    rows = cut(n, points[0].numel(), seconds)
    if len(rows) == 1:
        return rows, torch.get_num_threads()
    return rows, threads_of(len(rows), seconds, model, points)


class Wanted(NamedTuple):
    """What is asked for, the same at all points."""

    gamma: float
    tolerance: float
    confidence: float
    most: int
    max_sigma: float | None


class Found(NamedTuple):
    """What comes of a piece: the estimates, evaluations and classes of its points."""

    estimates: list[Estimate]
    evaluations: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Estimating:
    """Finds the persistence of some points, wherever it is.

    Attributes:
        model: In evaluation mode.
        streams: The noise of no points, which gives that of others by their keys.
        method: By which method.
        wanted: What is asked for.
        batch_size: Most points an evaluation.
        device: Type of the device to compute on.
    """

    model: Field
    streams: Noise
    method: PersistenceMethod
    wanted: Wanted
    batch_size: int | None
    device: str

    def __call__(self, piece: tuple[Tensor, list[int]], tell: Callable[[Any], None]) -> Found:
        points, keys = piece
        points = points if points.device.type == self.device else points.to(self.device)
        streams, paired = self.streams.of(keys), self.method == "probit"
        voter = Voter(
            "persistence", self.model, points, streams, paired=paired, batch_size=self.batch_size
        )
        asked = self.wanted
        start, least, largest = _range(points, asked.max_sigma)
        parts = []
        for rows in row_batches(len(points), _TOGETHER):
            policy = Policy(
                asked.gamma, asked.tolerance, asked.confidence, asked.most,
                start[rows], least[rows], largest[rows], partial(_tell, tell, rows.start),
            )  # fmt: skip
            parts.append(METHODS[self.method](voter, np.arange(rows.start, rows.stop), policy))
            tell(rows.stop)
            streams.release(range(rows.start, rows.stop))
        return Found(parts, voter.evaluations, voter.classes)


def _range(points: Tensor, max_sigma: float | None) -> tuple[Floats, Floats, Floats]:
    """Return the noise to begin with, the least and the largest to try, `(n,)` each."""
    size = points.detach().flatten(1).double().square().mean(1).sqrt().cpu().numpy()
    size = np.where(size > 0, size, 1.0)
    largest = _LARGEST * np.maximum(size, 1.0)
    if max_sigma is not None:
        largest = np.full(len(size), max_sigma)
    size = np.minimum(size, largest)
    # Less than a rounding error changes nothing.
    return _FIRST * size, torch.finfo(points.dtype).eps * size, largest


def _tell(tell: Callable[[Any], None], before: int, done: int) -> None:
    tell(before + done)
