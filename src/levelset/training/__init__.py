"""Training: the loop, its history, its checkpoints, recipes, and losses by their names."""

from levelset._recording._recording import Recording
from levelset.training._augmentation import Augmentation
from levelset.training._checkpoint import Checkpoint
from levelset.training._cross_entropy import cross_entropy
from levelset.training._data import Examples
from levelset.training._history import Epoch, Health, History, Watch
from levelset.training._initialise import initialise
from levelset.training._losses import build_loss, build_schedule
from levelset.training._objective import Objective, Term
from levelset.training._recipes import RECIPES, Recipe, recipe
from levelset.training._record import record
from levelset.training._schedule import Ramp, Schedule, Steps
from levelset.training._train import train

__all__ = [
    "RECIPES",
    "Augmentation",
    "Checkpoint",
    "Epoch",
    "Examples",
    "Health",
    "History",
    "Objective",
    "Ramp",
    "Recipe",
    "Recording",
    "Schedule",
    "Steps",
    "Term",
    "Watch",
    "build_loss",
    "build_schedule",
    "cross_entropy",
    "initialise",
    "recipe",
    "record",
    "train",
]
