"""The four ConvNets of Atzmon et al. 2019, Table A1 of the supplement (Table B1 of the paper)."""

from typing import Literal

from torch import nn

from levelset._tools.arguments import checked
from levelset.errors import ParameterError
from levelset.networks._layers import check_counts, check_size, side_after, stack

__all__ = ["convnet_2a", "convnet_2b", "convnet_4a", "convnet_4b"]


@checked
def convnet_2a(*, in_channels: int = 1, size: int = 28, classes: int = 10) -> nn.Module:
    """ConvNet-2a: two strided 4x4 convolutions (16, 32 channels) and two linear layers (100, k).

    The table gives no padding. It is 1 here, as in the network of the same layers of Wong and
    Kolter, so that each convolution halves the image: 28, 14, 7.

    Maps `(n, in_channels, size, size)` to `(n, classes)`. 166,406 parameters for MNIST (1x28x28),
    3 ReLUs.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: Table A1.
        - E. Wong, J. Z. Kolter, "Provable Defenses against Adversarial Examples via the Convex
          Outer Adversarial Polytope", ICML 2018: the layers and their padding.
    """
    check_counts("convnet_2a", in_channels=in_channels, size=size, classes=classes)
    side = side_after(size, (4, 2, 1), (4, 2, 1))
    check_size("convnet_2a", size, side)
    return stack(
        nn.Conv2d(in_channels, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * side**2, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


@checked
def convnet_2b(*, in_channels: int = 1, size: int = 28, classes: int = 10) -> nn.Module:
    """ConvNet-2b: two 5x5 convolutions (32, 64 channels), each pooled, then linear layers (512, k).

    The table gives no padding. It is 2 here, which keeps the size of the image, as in the MNIST
    network of Madry et al. that has the same convolutions: 28, 14, 7.

    Maps `(n, in_channels, size, size)` to `(n, classes)`. 1,663,370 parameters for MNIST
    (1x28x28), 3 ReLUs.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: Table A1.
        - A. Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
          ICLR 2018: the padding.
    """
    check_counts("convnet_2b", in_channels=in_channels, size=size, classes=classes)
    side = side_after(size, (5, 1, 2), (2, 2, 0), (5, 1, 2), (2, 2, 0))
    check_size("convnet_2b", size, side)
    return stack(
        nn.Conv2d(in_channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * side**2, 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )


@checked
def convnet_4a(
    head: Literal["affine", "relu"] = "affine",
    *,
    in_channels: int = 1,
    size: int = 28,
    classes: int = 10,
) -> nn.Module:
    """ConvNet-4a: four 3x3 convolutions (32, 32, pool, 64, 64, pool), linear layers (200, 200, k).

    The released code has no padding, and by a slip no ReLU between its three linear layers: it
    names them `relu1` and `relu2` a second time in one dictionary, so that the later entries
    vanish. The released weights were trained that way and lose accuracy with the ReLUs (the
    cross-entropy network falls from 99.34 to 98.37 % on the MNIST test set), so the head is affine
    by default. `head="relu"` is the network of the table.

    Maps `(n, in_channels, size, size)` to `(n, classes)`. 312,202 parameters for MNIST (1x28x28),
    4 ReLUs with the affine head and 6 with the other. The keys of its state are those of the
    released files: `conv1` to `conv4`, `fc1` to `fc3`.

    Args:
        head: `"affine"` for the network as released, `"relu"` for the one in print.
        in_channels: Channels of the images.
        size: Side of the images, in pixels.
        classes: Number of logits.

    Raises:
        ParameterError: If `head` is another word, or `size` too small for the four convolutions.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: Table A1; and the
          released code, `code/model/adversarial/archs.py`, class `SmallCNN`.
        - H. Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy"
          (TRADES), ICML 2019: where the network comes from.
    """
    if head not in {"affine", "relu"}:
        message = f"convnet_4a: `head` must be 'affine' or 'relu', got {head!r}."
        raise ParameterError(message)
    check_counts("convnet_4a", in_channels=in_channels, size=size, classes=classes)
    side = side_after(size, (3, 1, 0), (3, 1, 0), (2, 2, 0), (3, 1, 0), (3, 1, 0), (2, 2, 0))
    check_size("convnet_4a", size, side)
    between = nn.ReLU if head == "relu" else nn.Identity
    return stack(
        nn.Conv2d(in_channels, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * side**2, 200),
        between(),
        nn.Linear(200, 200),
        between(),
        nn.Linear(200, classes),
    )


@checked
def convnet_4b(*, in_channels: int = 3, size: int = 32, classes: int = 10) -> nn.Module:
    """ConvNet-4b: convolutions 3x3, 4x4 strided, twice (32, 32, 64, 64), linear (512, 512, k).

    The table gives no padding. It is 1 throughout, as in the released code and in the network of
    Wong et al. that it follows: 32, 16, 8. That alone gives the 2.5 million parameters that the
    paper states.

    Maps `(n, in_channels, size, size)` to `(n, classes)`. 2,466,858 parameters for CIFAR
    (3x32x32), 6 ReLUs.

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: Table A1; and the
          released code, `code/model/adversarial/archs.py`, class `ConvNet4`.
        - E. Wong et al., "Scaling Provable Adversarial Defenses", NeurIPS 2018: the network.
    """
    check_counts("convnet_4b", in_channels=in_channels, size=size, classes=classes)
    side = side_after(size, (3, 1, 1), (4, 2, 1), (3, 1, 1), (4, 2, 1))
    check_size("convnet_4b", size, side)
    return stack(
        nn.Conv2d(in_channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * side**2, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )
