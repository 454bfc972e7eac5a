"""ResNet-18 with the stem for small images."""

from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset.networks._layers import check_counts

__all__ = ["resnet18_cifar"]


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Return the features of the next block."""
        change = self.relu(self.bn1(self.conv1(features)))
        change = self.bn2(self.conv2(change))
        return self.relu(change + self.shortcut(features))


class _ResNet(nn.Module):
    """A 3x3 stem, four stages of two blocks, the mean over the image, a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))
        self.linear = nn.Linear(512, classes)

    def forward(self, points: Tensor) -> Tensor:
        """Return the logits `(n, classes)` of images `(n, 3, h, w)`."""
        features = self.relu(self.bn1(self.conv1(points)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return self.linear(features.mean((2, 3)))


@checked
def resnet18_cifar(*, classes: int = 10) -> nn.Module:
    """ResNet-18 for 32x32 colour images: a 3x3 stem without pool, stages of 64 to 512 channels.

    As in the code of TRADES, whose weights load by key. (The code that Atzmon et al. released
    also scales each sum of a block and its shortcut by 1/sqrt(2); this one does not.)

    Maps `(n, 3, 32, 32)` to `(n, classes)`. 11,173,962 parameters for ten classes (the paper's
    11.2 million), 17 ReLUs. Its BatchNorm couples the rows of a batch in training mode.

    References:
        - K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
        - H. Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy"
          (TRADES), ICML 2019: the stem.
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019: section 5.2.
    """
    check_counts("resnet18_cifar", classes=classes)
    return _ResNet(classes)
