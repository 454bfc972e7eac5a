"""What an attack returns."""

from dataclasses import dataclass

from levelset._tools.norms import norm_name
from levelset._tools.results import Rows
from levelset._typing import Counts, Mask, PerPoint, Points

__all__ = ["Attack"]


@dataclass(frozen=True, eq=False, repr=False)
class Attack(Rows):
    """The points an attack arrived at, judged by evaluating the model on them once more.

    Attributes:
        points: The perturbed inputs, `(n, *d)`, inside the bounds; the inputs themselves where
            nothing was found.
        success: Whether the model answers another class than the label (or the target, where one
            was given) at `points`, `(n,)`.
        distance: Norm of the perturbation, `(n,)`, in the units of the points: 0 where the input
            was misclassified to begin with, infinity where the attack failed.
        evaluations: Forward passes spent on each input, `(n,)`.
        gradients: Gradients taken for each input, `(n,)`.
        norm: The norm that `distance` is in.
    """

    points: Points
    success: Mask
    distance: PerPoint
    evaluations: Counts
    gradients: Counts
    norm: float

    def summary(self) -> dict[str, int | float]:
        """Return success and distances, ready for JSON; inputs at distance 0 are kept apart."""
        moved = self.distance[self.success & (self.distance > 0)]
        name = norm_name(self.norm)
        found: dict[str, int | float] = {
            "points": len(self),
            "success": int(self.success.sum()),
            "already_misclassified": int((self.distance == 0).sum()),
            "evaluations": int(self.evaluations.sum()),
        }
        if len(moved):
            found[f"distance_{name}_median"] = float(moved.median())
            found[f"distance_{name}_max"] = float(moved.max())
        return found


