"""Sample, steer and measure the level sets of neural networks."""

from levelset._intersection import intersect
from levelset._probes import FieldCheck, check_field, suggest_batch_size
from levelset._projection import GradientDescent, Newton, Projection, project
from levelset._sample import attach
from levelset._tools.modes import frozen
from levelset.fields import Classifier, Component, LogitDifference, Margin

__all__ = [
    "Classifier",
    "Component",
    "FieldCheck",
    "GradientDescent",
    "LogitDifference",
    "Margin",
    "Newton",
    "Projection",
    "attach",
    "check_field",
    "frozen",
    "intersect",
    "project",
    "suggest_batch_size",
]
