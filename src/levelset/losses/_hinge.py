"""The hinge of the margin in the space of the outputs."""

from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_points, check_positive
from levelset._typing import Labels, Model, Points
from levelset.fields import Margin

__all__ = ["hinge"]


@checked
def hinge(model: Model, points: Points, labels: Labels, *, margin: float = 1.0) -> Tensor:
    r"""Return the hinge loss of the logits, $\max\{0, m - (f_y - \max_{j \ne y} f_j)\}$.

    The mean over the inputs. It is about the *output* margin: scaling the logits lowers it, and the
    boundary may stay where it is. For the distance in the space of the inputs see
    [`geometric_svm`][levelset.losses.geometric_svm].

    Cost: a forward and backward pass.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, or to one logit.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        margin: The margin m, in the units of the logits.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If `margin` is not positive, or a label is out of range.

    Example:
        >>> import torch
        >>> from levelset.losses import hinge
        >>> logits = torch.tensor([[2.0, 0.5], [0.0, 0.25]])
        >>> float(hinge(lambda x: x, logits, torch.tensor([0, 1])))  # (0 + 0.75) / 2
        0.375

    References:
        - K. Crammer, Y. Singer, "On the algorithmic implementation of multiclass kernel-based
          vector machines", JMLR 2 (2001).
    """
    check_positive("hinge", "margin", margin)
    check_points("hinge", points)
    short = (margin - Margin(model)(points, labels)).clamp(min=0.0)
    return short.mean() if len(points) else short.sum()
