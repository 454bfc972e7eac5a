"""Training: the loop, its history, its checkpoints; nothing here knows about level sets."""

from levelset.training._checkpoint import Checkpoint
from levelset.training._data import Examples
from levelset.training._history import History
from levelset.training._initialise import initialise
from levelset.training._schedule import Schedule
from levelset.training._train import cross_entropy, train

__all__ = ["Checkpoint", "Examples", "History", "Schedule", "cross_entropy", "initialise", "train"]
