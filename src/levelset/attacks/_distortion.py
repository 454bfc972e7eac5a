"""The size of a perturbation, comparable between inputs of different dimensions."""

import math

from levelset._tools.arguments import checked
from levelset._tools.checks import check_points
from levelset._tools.norms import norm_of
from levelset._typing import PerPoint, Points
from levelset.errors import ShapeError

__all__ = ["distortion"]


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
