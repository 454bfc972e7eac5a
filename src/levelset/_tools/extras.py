"""Optional dependencies: loaded when they are needed, or named with the way to install them."""

import importlib
import importlib.util
from typing import Any

from levelset.errors import MissingExtraError

__all__ = ["check_extras", "optional"]

_PACKAGES = {
    "e57": ("pye57",),
    "las": ("laspy", "lazrs"),
    "mesh": ("skimage", "trimesh"),
    "plot": ("matplotlib",),
    "ray": ("ray",),
    "report": ("jinja2", "plotly"),
    "tensorboard": ("tensorboard",),
}
# The distributions whose names differ from the packages that are imported.
_NAMES = {"skimage": "scikit-image"}


def optional(module: str, extra: str, function: str) -> Any:
    """Return a module of an optional dependency.

    Args:
        module: Such as `plotly.offline`.
        extra: The extra that brings it.
        function: Who needs it, for the message.

    Raises:
        MissingExtraError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(_advice(module, extra, function)) from error


def check_extras(function: str, *extras: str) -> None:
    """Refuse to start work whose result could not be written, without importing anything.

    Raises:
        MissingExtraError: If a package of one of the `extras` is not installed.
    """
    for extra in extras:
        for package in _PACKAGES[extra]:
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(_advice(package, extra, function))


def _advice(module: str, extra: str, function: str) -> str:
    package = module.partition(".")[0]
    return (
        f"{function}: {_NAMES.get(package, package)} is not installed. "
        f"Run `pip install 'levelset[{extra}]'`, or in a clone `pip install '.[{extra}]'`."
    )
