"""The architectures of the papers, by their names: plain modules, weights in torch's default state.

Each function draws its initial weights from torch's global generator, as torch's layers do; hand
the result to [`initialise`][levelset.training.initialise] to draw them from a generator of yours.
"""

from levelset.networks._bell import bell_cnn, fc
from levelset.networks._convnets import convnet_2a, convnet_2b, convnet_4a, convnet_4b
from levelset.networks._digits import digits
from levelset.networks._implicit import fc_1, fc_2
from levelset.networks._lenet import lenet
from levelset.networks._resnet import resnet18_cifar
from levelset.networks._spline_grid import SplineGrid
from levelset.networks._squeezenet import squeezenet1_0

__all__ = [
    "SplineGrid",
    "bell_cnn",
    "convnet_2a",
    "convnet_2b",
    "convnet_4a",
    "convnet_4b",
    "digits",
    "fc",
    "fc_1",
    "fc_2",
    "lenet",
    "resnet18_cifar",
    "squeezenet1_0",
]
