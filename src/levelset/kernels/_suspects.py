"""Training points whose label the others contradict."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.results import Rows
from levelset._typing import Summary
from levelset.errors import ParameterError
from levelset.kernels._path_kernel import PathKernel

__all__ = ["Suspects", "suspects"]


@dataclass(frozen=True, eq=False, repr=False)
class Suspects(Rows):
    """The training points, the most suspect first, n of them.

    Attributes:
        indices: Their places in the training data, `(n,)`.
        opposition: How far the other points together prefer another class to the label, `(n,)`: the
            largest of the other logits less that of the label, all without the point's own share;
            positive where they contradict it. The order is by this.
        self_influence: How far the point itself raised the logit of its label above the mean of the
            others, `(n,)`.
        labels: Their labels, `(n,)`.
        others: The class that the other points prefer, `(n,)`.
    """

    indices: Tensor
    opposition: Tensor
    self_influence: Tensor
    labels: Tensor
    others: Tensor

    def summary(self) -> Summary:
        """Return how many labels are contradicted, ready for JSON."""
        return {"points": len(self), "contradicted": int((self.opposition > 0).sum())}


@checked
def suspects(kernel: PathKernel) -> Suspects:
    r"""Order the training points by how much the other training points contradict their labels.

    A network that fits its data fits wrong labels too, but by those points' own doing: the logit
    of a wrong label is raised by the point's own share, while all others push elsewhere. So that
    share is taken out of the point's outputs,

    $$z_i = y(x_i) - c_i(x_i), \qquad \max_{j \ne y_i} z_{ij} - z_{i y_i},$$

    where c_i(x_i) is the exact share of the point in its own outputs. No training is repeated; the
    point's effect on the shares of others stays, so this is not leave-one-out retraining.

    Cost: a gradient of the outputs and of the loss for each training point of each step; with
    momentum or Adam of all training points at each step, number by number.

    Args:
        kernel: Of the training.

    Returns:
        All training points, most suspect first.

    Raises:
        ParameterError: If the network has one output only.
    """
    outputs = kernel.outputs(kernel.points)
    if outputs.shape[1] < 2:
        message = "suspects: the network of `kernel` must have two outputs at least, got one."
        raise ParameterError(message)
    own, labels = kernel.own_shares(), kernel.labels.unsqueeze(1)
    left = outputs - own
    wanted = left.gather(1, labels)
    best, others = left.scatter(1, labels, -torch.inf).max(1)
    mine = own.gather(1, labels)
    count = own.shape[1] - 1
    influence = mine - (own.sum(1, keepdim=True) - mine) / max(count, 1)
    opposition = best - wanted[:, 0]
    order = opposition.argsort(descending=True, stable=True)
    return Suspects(
        order, opposition[order], influence[order, 0], kernel.labels[order], others[order]
    )
