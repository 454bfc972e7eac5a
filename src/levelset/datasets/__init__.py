"""The outside world in: labelled images, clouds of points, models from files and names."""

from levelset.datasets._images import Images
from levelset.datasets._models import load_model
from levelset.datasets._names import build_network
from levelset.datasets._points import PointCloud, read_points
from levelset.datasets._read import read_images

__all__ = [
    "Images",
    "PointCloud",
    "build_network",
    "load_model",
    "read_images",
    "read_points",
]
