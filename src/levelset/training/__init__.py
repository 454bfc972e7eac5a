"""Training: the loop, its history, its checkpoints, and losses by their names."""

from levelset.training._checkpoint import Checkpoint
from levelset.training._data import Examples
from levelset.training._history import History
from levelset.training._initialise import initialise
from levelset.training._losses import build_loss
from levelset.training._schedule import Schedule
from levelset.training._train import cross_entropy, train

__all__ = [
    "Checkpoint",
    "Examples",
    "History",
    "Schedule",
    "build_loss",
    "cross_entropy",
    "initialise",
    "train",
]
