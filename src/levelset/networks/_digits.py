"""The network of the packaged example: scikit-learn's handwritten digits."""

from torch import nn

from levelset._tools.arguments import checked
from levelset.networks._layers import stack

__all__ = ["digits"]


@checked
def digits() -> nn.Module:
    """Return a small ConvNet for 1x8x8 digits, without weights.

    Two 3x3 convolutions (16, 32 channels, padding 1), a 2x2 pool, linear layers (64, 10).
    Maps `(n, 1, 8, 8)` to `(n, 10)`. 38,282 parameters, 3 ReLUs.

    Weights lie in the package as `networks_digits.safetensors`: 98.8 % of the 500 held-out digits.
    They are `run/weights.safetensors` after these lines, which take two seconds on one core:

    ```python
    from torch import Generator
    from levelset.datasets import read_images
    from levelset.networks import digits
    from levelset.training import initialise, train

    generator = Generator().manual_seed(0)
    network = initialise(digits(), generator=generator)
    data = read_images("digits", split="train")
    options = {"epochs": 30, "learning_rate": 3e-3, "batch_size": 64}
    train(network, data, **options, out="run", generator=generator)
    ```
    """
    return stack(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
