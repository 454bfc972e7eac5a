"""What an attack returns, and the size of a perturbation."""

import math
from dataclasses import dataclass
from typing import ClassVar

from levelset._tools.arguments import checked
from levelset._tools.checks import check_points
from levelset._tools.medians import median
from levelset._tools.norms import norm_name, norm_of
from levelset._tools.results import Rows
from levelset._typing import Counts, Mask, PerPoint, Points, Summary
from levelset.errors import ShapeError

__all__ = ["Attack", "distortion"]


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

    def summary(self) -> Summary:
        """Return success and distances, ready for JSON; inputs at distance 0 are kept apart.

        Medians over the inputs that were moved and succeeded: of the perturbation in every norm
        (`distance_0_median` counts changed entries), and of the distortion, its L2 norm over the
        square root of the dimension (Bell 2023, definition 1.8).
        """
        moved = self.success & (self.distance > 0)
        numbers: Summary = {
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
                numbers[f"distance_{norm_name(norm)}_median"] = median(lengths)
            numbers["distortion_median"] = median(distortion(inputs, points))
            numbers[f"distance_{norm_name(self.norm)}_max"] = float(self.distance[moved].max())
        return numbers


@checked
def distortion(points: Points, perturbed: Points) -> PerPoint:
    r"""Return the L2 norm of perturbations over the square root of the dimension.

    $$\frac{\lVert x' - x \rVert_2}{\sqrt{e}}$$

    with e the number of entries of one point: the root mean square change of an entry. It does
    not grow with the resolution of an image, which a norm does.

    Cost: one pass over the points.

    Args:
        points: The inputs, `(n, *d)`.
        perturbed: The same after an attack, `(n, *d)`.

    Returns:
        `(n,)`, in the units of the points.

    Raises:
        ShapeError: If the two differ in shape.

    Example:
        >>> import torch
        >>> from levelset.attacks import distortion
        >>> distortion(torch.zeros(1, 4), torch.tensor([[0.3, -0.3, 0.3, 0.3]]))
        tensor([0.3000])

    References:
        - Bell 2023, definition 1.8, after C. Szegedy et al., "Intriguing properties of neural
          networks", ICLR 2014.
    """
    check_points("distortion", points)
    check_points("distortion", perturbed, "perturbed")
    if points.shape != perturbed.shape:
        message = (
            f"distortion: `perturbed` must have the shape of `points` {tuple(points.shape)}, "
            f"got {tuple(perturbed.shape)}."
        )
        raise ShapeError(message)
    return norm_of(perturbed - points, 2.0) / math.sqrt(max(points[0:1].numel(), 1))
