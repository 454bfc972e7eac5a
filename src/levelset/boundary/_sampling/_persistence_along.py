"""Persistence of the points of a segment, as from an input to its adversarial example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, check_points, check_whole
from levelset._tools.results import Rows
from levelset._typing import Counts, Field, PerPoint, Points, Progress, Summary
from levelset.boundary._sampling._persistence import check_share, persistence
from levelset.errors import ParameterError, ShapeError

__all__ = ["PathPersistence", "persistence_along"]


@dataclass(frozen=True, eq=False, repr=False)
class PathPersistence(Rows):
    """The persistence of points along a segment, for one or several gammas.

    Attributes:
        fraction: How far along the segment, `(t,)`, 0 at the start and 1 at the end.
        points: The points, `(t, *d)`.
        classes: Their classes, `(t,)`.
        sigma: Persistence, `(t, g)`, a column a gamma.
        low: Lower ends of the intervals, `(t, g)`.
        high: Upper ends, `(t, g)`.
        evaluations: Forward passes spent on each point, `(t,)`.
        gammas: The gammas.
    """

    _headline: ClassVar = ("points", "gammas", "first_change")

    fraction: PerPoint
    points: Points
    classes: Counts
    sigma: Tensor
    low: Tensor
    high: Tensor
    evaluations: Counts
    gammas: tuple[float, ...]

    def summary(self) -> Summary:
        """Return where the class changes first, and the persistence at both ends."""
        numbers: Summary = {
            "points": len(self),
            "evaluations": int(self.evaluations.sum()),
        }
        changed = (self.classes != self.classes[0]).nonzero().flatten()
        if len(changed):
            numbers["first_change"] = float(self.fraction[changed[0]])
        for place, gamma in enumerate(self.gammas):
            numbers[f"sigma_{gamma:g}_start"] = float(self.sigma[0, place])
            numbers[f"sigma_{gamma:g}_end"] = float(self.sigma[-1, place])
        return numbers


@checked
def persistence_along(
    model: Field,
    start: Tensor,
    end: Tensor,
    *,
    steps: int = 50,
    gammas: Sequence[float] | Tensor = (0.7,),
    tolerance: float = 0.02,
    max_sigma: float | None = None,
    confidence: float = 0.95,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> PathPersistence:
    """Measure persistence at equally spaced points from one point to another.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, or to labels `(n,)`.
        start: Where the segment begins, `(*d)`.
        end: Where it ends, `(*d)`.
        steps: Number of points, both ends included, 2 at least.
        gammas: The shares to measure for, as a sequence of numbers or a tensor `(g,)`.
        tolerance: Relative standard error of each sigma.
        max_sigma: The largest noise to try; `None` for what `persistence` takes.
        confidence: Of the intervals.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seeds; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in points times gammas.

    Returns:
        Classes and persistence along the segment.

    Raises:
        ShapeError: If the ends differ in shape or dtype, or have no axis.
        ParameterError: If `steps` or a gamma is out of range, or `gammas` is no sequence.
        DataError: If an end is not finite.
        FieldError: If the model returns something else than logits or labels.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: figures 12 and 18.
    """
    _check_ends(start, end)
    levels = _shares(gammas)
    check_whole("persistence_along", "steps", steps, at_least=2)
    fraction = torch.linspace(0.0, 1.0, steps, dtype=start.dtype, device=start.device)
    points = torch.lerp(start.detach(), end.detach(), fraction.view(-1, *[1] * start.dim()))
    parts = []
    for place, gamma in enumerate(levels):
        parts.append(
            persistence(
                model,
                points,
                gamma=gamma,
                tolerance=tolerance,
                max_sigma=max_sigma,
                confidence=confidence,
                batch_size=batch_size,
                generator=generator,
                progress=_part(progress, place, len(levels)),
            )
        )
    return PathPersistence(
        fraction=fraction,
        points=points,
        classes=parts[0].classes,
        sigma=torch.stack([f.sigma for f in parts], dim=1),
        low=torch.stack([f.low for f in parts], dim=1),
        high=torch.stack([f.high for f in parts], dim=1),
        evaluations=torch.stack([f.evaluations for f in parts]).sum(0),
        gammas=levels,
    )


def _check_ends(start: Tensor, end: Tensor) -> None:
    for name, point in (("start", start), ("end", end)):
        if isinstance(point, Tensor) and point.dim() == 0:
            message = f"persistence_along: `{name}` must have the shape (*d), got ()."
            raise ShapeError(message)
        points = point.unsqueeze(0) if isinstance(point, Tensor) else point
        check_points("persistence_along", points, name)
        check_finite("persistence_along", points, name)
    if start.shape != end.shape or start.dtype != end.dtype:
        got = [f"{tuple(point.shape)} of {point.dtype}" for point in (start, end)]
        message = (
            "persistence_along: `start` and `end` must have one shape and one dtype, got "
            f"{' and '.join(got)}."
        )
        raise ShapeError(message)


def _shares(gammas: Sequence[float] | Tensor) -> tuple[float, ...]:
    """Return the gammas as numbers, at least one."""
    many = gammas.dim() == 1 if isinstance(gammas, Tensor) else isinstance(gammas, Sequence)
    if not many or not len(gammas):
        message = (
            "persistence_along: `gammas` must be a sequence of at least one share, as in (0.7,), "
            f"got {gammas}."
        )
        raise ParameterError(message)
    levels = tuple(gammas.tolist() if isinstance(gammas, Tensor) else map(float, gammas))
    for level in levels:
        check_share("persistence_along", "gammas", level)
    return levels


def _part(progress: Progress | None, place: int, parts: int) -> Progress | None:
    """Return the progress of one gamma of several, in points times gammas."""
    if progress is None:
        return None
    return lambda done, total: progress(place * total + done, parts * total)
