"""SqueezeNet 1.0, in torchvision's layout."""

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset.networks._layers import check_counts

__all__ = ["squeezenet1_0"]


class _Fire(nn.Module):
    """A 1x1 convolution that squeezes the channels, then 1x1 and 3x3 ones side by side."""

    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Return twice `expand` channels."""
        narrow = self.relu(self.squeeze(features))
        wide = [self.relu(self.expand1x1(narrow)), self.relu(self.expand3x3(narrow))]
        return torch.cat(wide, 1)


class _SqueezeNet(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            _Fire(96, 16, 64),
            _Fire(128, 16, 64),
            _Fire(128, 32, 128),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            _Fire(256, 32, 128),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            _Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return the logits `(n, classes)` of images `(n, 3, h, w)`."""
        return self.classifier(self.features(points)).flatten(1)


@checked
def squeezenet1_0(classes: int = 1000) -> nn.Module:
    """SqueezeNet 1.0 for colour images of about 224 pixels, without weights.

    The keys of its state are torchvision's, so weights from there load, and the original Caffe
    ones under those keys. What the pixels must look like depends on the weights (Caffe's take BGR
    from 0 to 255 less a mean): say so in the [`Classifier`][levelset.Classifier] round it.

    The output follows a ReLU: logits are never negative, and some are exactly 0, where margins
    between two of them have no gradient.

    Maps `(n, 3, h, w)` to `(n, classes)`. 1,248,424 parameters for a thousand classes, 26 ReLUs.
    One Dropout in the classifier draws random numbers in training mode.

    References:
        - F. N. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
          <0.5MB model size", arXiv:1602.07360, 2016.
    """
    check_counts("squeezenet1_0", classes=classes)
    return _SqueezeNet(classes)
