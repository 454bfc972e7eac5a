"""Persistence of the points of a segment, as from an input to its adversarial example."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.checks import check_points
from levelset._tools.results import Rows
from levelset._typing import Counts, Field, PerPoint, Points, Progress
from levelset.boundary._sampling._persistence import persistence
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

    fraction: PerPoint
    points: Points
    classes: Counts
    sigma: Tensor
    low: Tensor
    high: Tensor
    evaluations: Counts
    gammas: tuple[float, ...]

    def summary(self) -> dict[str, int | float]:
        """Return where the class changes first, and the persistence at both ends."""
        found: dict[str, int | float] = {
            "points": len(self),
            "evaluations": int(self.evaluations.sum()),
        }
        changed = (self.classes != self.classes[0]).nonzero().flatten()
        if len(changed):
            found["first_change"] = float(self.fraction[changed[0]])
        for place, gamma in enumerate(self.gammas):
            found[f"sigma_{gamma:g}_start"] = float(self.sigma[0, place])
            found[f"sigma_{gamma:g}_end"] = float(self.sigma[-1, place])
        return found


def persistence_along(
    model: Field,
    start: Tensor,
    end: Tensor,
    *,
    steps: int = 50,
    gammas: Sequence[float] = (0.7,),
    tolerance: float = 0.02,
    max_sigma: float = 1e4,
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
        gammas: The shares to measure for.
        tolerance: Relative standard error of each sigma.
        max_sigma: The largest noise to try.
        confidence: Of the intervals.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seeds; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in points times gammas.

    Returns:
        Classes and persistence along the segment.

    Raises:
        ShapeError: If both ends differ in shape.
        ParameterError: If `steps` or a gamma is out of range.
        FieldError: If the model returns something else than logits or labels.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: figures 12 and 18.
    """
    if not isinstance(start, Tensor) or not isinstance(end, Tensor) or start.shape != end.shape:
        got = [tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in (start, end)]
        message = f"persistence_along: `start` and `end` must have one shape, got {got}."
        raise ShapeError(message)
    check_points("persistence_along", start.unsqueeze(0), "start")
    if steps < 2 or not gammas:
        message = (
            "persistence_along: `steps` must be at least 2 and `gammas` hold at least one share, "
            f"got {steps} and {tuple(gammas)}."
        )
        raise ParameterError(message)
    fraction = torch.linspace(0.0, 1.0, steps, dtype=start.dtype, device=start.device)
    points = torch.lerp(start.detach(), end.detach(), fraction.view(-1, *[1] * start.dim()))
    found = []
    for place, gamma in enumerate(gammas):
        found.append(
            persistence(
                model,
                points,
                gamma=gamma,
                tolerance=tolerance,
                max_sigma=max_sigma,
                confidence=confidence,
                batch_size=batch_size,
                generator=generator,
            )
        )
        if progress is not None:
            progress((place + 1) * steps, len(gammas) * steps)
    return PathPersistence(
        fraction=fraction,
        points=points,
        classes=found[0].classes,
        sigma=torch.stack([f.sigma for f in found], dim=1),
        low=torch.stack([f.low for f in found], dim=1),
        high=torch.stack([f.high for f in found], dim=1),
        evaluations=torch.stack([f.evaluations for f in found]).sum(0),
        gammas=tuple(gammas),
    )
