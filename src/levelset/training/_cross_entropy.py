"""The loss that training takes by default."""

from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.checks import check_labels
from levelset._typing import Labels, Model, Points

__all__ = ["cross_entropy"]


@checked
def cross_entropy(model: Model, points: Points, labels: Labels) -> Tensor:
    """Return the mean cross-entropy of the model's logits, a scalar.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        points: The inputs, `(n, *d)`.
        labels: The class of each, `(n,)`.
    """
    logits = model(points)
    try:
        return functional.cross_entropy(logits, labels)
    except IndexError:
        check_labels("cross_entropy", labels, points, logits.shape[1])
        raise
