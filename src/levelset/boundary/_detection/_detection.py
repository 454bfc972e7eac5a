"""What a detector says of inputs."""

from dataclasses import dataclass

from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_labels
from levelset._tools.results import Rows
from levelset._typing import Counts, Labels, Mask, PerPoint

__all__ = ["Detection"]


@dataclass(frozen=True, eq=False, repr=False)
class Detection(Rows):
    """What a detector says of each input.

    Attributes:
        score: Larger for perturbed inputs, `(n,)`; without unit.
        flagged: Whether the score is above the threshold, `(n,)`.
        original_class: The class the model gave the input before it was perturbed, if it was, as
            the curvatures tell, `(n,)`.
        class_scores: What that is the largest of, `(n, k)`; minus infinity for the present class.
    """

    score: PerPoint
    flagged: Mask
    original_class: Counts
    class_scores: Tensor

    @checked
    def rank(self, classes: Labels) -> Counts:
        """Return the place of a class for each input among the class scores, 0 for the first."""
        check_labels(
            "Detection.rank", classes, self.class_scores, self.class_scores.shape[1], "classes"
        )
        own = self.class_scores.gather(1, classes.unsqueeze(1))
        return (self.class_scores > own).sum(1)

    def summary(self) -> dict[str, int | float]:
        """Return how many were flagged."""
        return {"points": len(self), "flagged": int(self.flagged.sum())}
