"""The two fully connected networks of Atzmon et al. 2019, Table A1: implicit curves, surfaces."""

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset.errors import ParameterError
from levelset.networks._layers import stack

__all__ = ["fc_1", "fc_2"]


@checked
def fc_1(inputs: int = 3, outputs: int = 1) -> nn.Module:
    """FC-1: three hidden layers of 512 ReLUs and a linear one.

    Maps `(n, inputs)` to `(n, outputs)`, which makes it a field of `outputs` equations. 527,873
    parameters as it stands, 3 ReLUs. The paper takes two outputs for its curves in space, and two
    inputs and outputs for the classifier of its Figure 1.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: Table A1.
    """
    _check_sizes("fc_1", inputs, outputs)
    return stack(
        nn.Linear(inputs, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, outputs),
    )


class _Skips(nn.Module):
    """Linear layers with ReLUs between; all but the first and the last see the input again."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int) -> None:
        super().__init__()
        hidden = width - inputs
        self.first = nn.Linear(inputs, hidden)
        self.hidden = nn.ModuleList(nn.Linear(width, hidden) for _ in range(layers - 2))
        self.last = nn.Linear(hidden, outputs)
        self.relu = nn.ReLU()

    def forward(self, points: Tensor) -> Tensor:
        """Return the outputs `(n, outputs)` at points `(n, inputs)`."""
        features = self.relu(self.first(points))
        for layer in self.hidden:
            features = self.relu(layer(torch.cat([features, points], 1)))
        return self.last(features)


@checked
def fc_2(inputs: int = 3, outputs: int = 1) -> nn.Module:
    """FC-2: eight linear layers with skips from the input, the network of the surfaces.

    Layers two to seven ("FC + SKIP 509") take the 509 features before them and the 3 inputs, 512
    together; with other `inputs` the features are `512 - inputs`. The last is a plain one, as in
    the table. (The reconstruction code that was released differs from its own table: it has nine
    layers, and the last sees the input too.)

    Maps `(n, inputs)` to `(n, outputs)`, which makes it a field of `outputs` equations. 1,569,248
    parameters as it stands, 7 ReLUs.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: Table A1.
        - J. J. Park et al., "DeepSDF: Learning Continuous Signed Distance Functions for Shape
          Representation", CVPR 2019: the skips.
    """
    _check_sizes("fc_2", inputs, outputs)
    return _Skips(inputs, outputs, width=512, layers=8)


def _check_sizes(function: str, inputs: int, outputs: int) -> None:
    if not 1 <= inputs < 512:
        message = f"{function}: `inputs` must lie in 1 to 511, got {inputs}."
        raise ParameterError(message)
    check_at_least_one(function, "outputs", outputs)
