"""What an attack returns."""

import math
from dataclasses import dataclass
from typing import ClassVar

from levelset._tools.medians import median
from levelset._tools.norms import norm_name, norm_of
from levelset._tools.results import Rows
from levelset._typing import Counts, Mask, PerPoint, Points
from levelset.attacks._distortion import distortion

__all__ = ["Attack"]


@dataclass(frozen=True, eq=False, repr=False)
class Attack(Rows):
    """The points an attack arrived at, judged by evaluating the model on them once more.

    Attributes:
        points: The perturbed inputs, `(n, *d)`, inside the bounds. Where the attack failed: the
            last attempt if it had a radius to stay within, else the input itself.
        success: Whether the model answers another class than the label (or the target, where one
            was given) at `points`, `(n,)`.
        distance: Norm of the perturbation, `(n,)`, in the units of the points: 0 where the input
            was misclassified to begin with, infinity where the attack failed.
        evaluations: Forward passes spent on each input, `(n,)`.
        gradients: Gradients taken for each input, `(n,)`.
        norm: The norm that `distance` is in.
        inputs: The points before the attack, `(n, *d)`.
    """

    _headline: ClassVar = ("points", "norm", "success", "distance_{norm}_median", "evaluations")

    points: Points
    success: Mask
    distance: PerPoint
    evaluations: Counts
    gradients: Counts
    norm: float
    inputs: Points

    def summary(self) -> dict[str, int | float]:
        """Return success and distances, ready for JSON; inputs at distance 0 are kept apart.

        Medians over the inputs that were moved and succeeded: of the perturbation in every norm
        (`distance_0_median` counts changed entries), and of the distortion, its L2 norm over the
        square root of the dimension (Bell 2023, definition 1.8).
        """
        moved = self.success & (self.distance > 0)
        found: dict[str, int | float] = {
            "points": len(self),
            "success": int(self.success.sum()),
            "already_misclassified": int((self.distance == 0).sum()),
            "evaluations": int(self.evaluations.sum()),
            "gradients": int(self.gradients.sum()),
        }
        if moved.any():
            points, inputs = self.points[moved], self.inputs[moved]
            for norm in (0.0, 1.0, 2.0, math.inf):
                lengths = norm_of(points - inputs, norm)
                found[f"distance_{norm_name(norm)}_median"] = median(lengths)
            found["distortion_median"] = median(distortion(inputs, points))
            found[f"distance_{norm_name(self.norm)}_max"] = float(self.distance[moved].max())
        return found
