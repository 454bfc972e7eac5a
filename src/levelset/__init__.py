"""Sample, steer and measure the level sets of neural networks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levelset import attacks as attacks
    from levelset import auditing as auditing
    from levelset import boundary as boundary
    from levelset import datasets as datasets
    from levelset import errors as errors
    from levelset import fields as fields
    from levelset import kernels as kernels
    from levelset import losses as losses
    from levelset import networks as networks
    from levelset import plots as plots
    from levelset import reconstruction as reconstruction
    from levelset import report as report
    from levelset import shapes as shapes
    from levelset import training as training
    from levelset._citations import cite
    from levelset._intersection import intersect
    from levelset._probes import FieldCheck, check_field, suggest_batch_size
    from levelset._projection import GradientDescent, Newton, Projection, project
    from levelset._sample import attach
    from levelset._spread import sample_level_set
    from levelset._tools.modes import frozen
    from levelset.auditing import audit
    from levelset.fields import Classifier, Component, LogitDifference, Margin

    __version__: str

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
    "sample_level_set",
    "suggest_batch_size",
]

# Where each name is defined. All load when they are first used (PEP 562), so that the command
# line can answer `--help` without torch, and an import brings no more than the names it asks for.
_HOMES = {
    "Classifier": "fields",
    "Component": "fields",
    "FieldCheck": "_probes",
    "GradientDescent": "_projection",
    "LogitDifference": "fields",
    "Margin": "fields",
    "Newton": "_projection",
    "Projection": "_projection",
    "attach": "_sample",
    "audit": "auditing",
    "check_field": "_probes",
    "cite": "_citations",
    "frozen": "_tools.modes",
    "intersect": "_intersection",
    "project": "_projection",
    "sample_level_set": "_spread",
    "suggest_batch_size": "_probes",
}
_MODULES = (
    "attacks", "auditing", "boundary", "datasets", "errors", "fields", "kernels", "losses",
    "networks", "plots", "reconstruction", "report", "shapes", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name, or a sub-package, when it is first used."""
    value: Any
    if name in _HOMES:
        value = getattr(import_module(f"levelset.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"levelset.{name}")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("levelset")
    else:
        message = f"module 'levelset' has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names and sub-packages."""
    return sorted([*__all__, *_MODULES, "__version__"])
