"""LeNet-5 in its present-day form."""

from torch import nn

from levelset._tools.arguments import checked
from levelset.networks._layers import Activation, activation_layer, check_counts, stack

__all__ = ["lenet"]


@checked
def lenet(*, activation: Activation = "relu", classes: int = 10) -> nn.Module:
    """LeNet-5 for 28x28 grey images: two 5x5 convolutions, pooled, and three linear layers.

    The widths (6, 16; 120, 84, k) and the padding of 2 on the first convolution (the paper's
    32x32 input is the digit with a border) are LeCun's. The pools take the largest value, the
    second convolution sees all channels, and the last layer is linear, as in today's usage.

    Maps `(n, 1, 28, 28)` to `(n, classes)`. 61,706 parameters for ten classes, 4 activations.

    Args:
        activation: `"relu"`, or a smooth one where second derivatives matter, such as
            `"softplus"` or `"tanh"`.
        classes: Number of logits.

    Raises:
        ParameterError: If the activation has another name.

    References:
        - Y. LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86
          (1998), 2278-2324.
        - Alonso, Bonin, "Geometrical perspectives on the robustness of deep neural networks": its
          use.
    """
    check_counts("lenet", classes=classes)

    def act() -> nn.Module:
        return activation_layer("lenet", activation)

    return stack(
        nn.Conv2d(1, 6, 5, padding=2),
        act(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        act(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        act(),
        nn.Linear(120, 84),
        act(),
        nn.Linear(84, classes),
    )
