"""Sample, steer and measure the level sets of neural networks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from levelset._citations import cite
from levelset._intersection import intersect
from levelset._probes import FieldCheck, check_field, suggest_batch_size
from levelset._projection import GradientDescent, Newton, Projection, project
from levelset._sample import attach
from levelset._tools.modes import frozen
from levelset.fields import Classifier, Component, LogitDifference, Margin

if TYPE_CHECKING:
    from levelset.auditing import audit

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
    "audit",
    "check_field",
    "cite",
    "frozen",
    "intersect",
    "project",
    "suggest_batch_size",
]


def __getattr__(name: str) -> Any:
    """Load `audit` when it is first asked for: it brings tables and scipy, the rest does not."""
    if name == "audit":
        return import_module("levelset.auditing").audit
    message = f"module 'levelset' has no attribute {name!r}"
    raise AttributeError(message)
