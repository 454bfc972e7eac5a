"""`module:callable`: data and models from Python code."""

import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from levelset.datasets._arrays import as_array, images_from_arrays
from levelset.datasets._images import Images, Split
from levelset.errors import DataError, LevelSetError

__all__ = ["call", "read_callable"]


def call(function: str, spec: str, **options: object) -> object:
    """Return what the callable of `module:callable` returns.

    The current directory is importable meanwhile, before installed packages.

    Args:
        function: Who asks, for messages.
        spec: `package.module:name`; dots in the name reach attributes of attributes.
        options: Handed on by keyword, those that the callable takes.

    Raises:
        DataError: If the module does not import, has no such callable, or if that fails.
    """
    with _directory_importable():
        target = _resolve(function, spec)
        try:
            return target(**{k: v for k, v in options.items() if _takes(target, k)})
        except LevelSetError:
            raise
        except Exception as error:
            message = f"{function}: {spec} failed with {type(error).__name__}: {error}."
            raise DataError(message) from error


def read_callable(spec: str, *, split: Split, limit: int | None) -> Images:
    """Return the images that `module:callable` gives.

    It is called with `split=` if it takes that, and returns [`Images`][levelset.datasets.Images],
    whose bounds are then its own, or points and labels, tensors or arrays.

    Raises:
        DataError: If it fails, or returns something else or unsound.
    """
    result = call("read_images", spec, split=split)
    if isinstance(result, Images):
        points, labels = result.points, result.labels
        classes, name, bounds = result.classes, result.name, result.bounds
    elif isinstance(result, tuple | list) and len(result) == 2:
        points, labels = result
        classes, name, bounds = None, spec.partition(":")[2], (0.0, 1.0)
    else:
        message = (
            f"read_images: {spec} must return `(points, labels)` or `Images`, "
            f"got {type(result).__name__}."
        )
        raise DataError(message)
    return images_from_arrays(
        as_array(points),
        as_array(labels),
        source=spec,
        name=name,
        classes=classes,
        bounds=bounds,
        limit=limit,
    )


def _resolve(function: str, spec: str) -> Callable[..., object]:
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        message = (
            f"{function}: cannot import the module {module_name!r} of {spec!r} "
            f"({type(error).__name__}: {error}). Give an importable module, without .py, "
            "installed or in the current directory."
        )
        raise DataError(message) from error
    try:
        target = operator.attrgetter(name)(module)
    except AttributeError as error:
        known = ", ".join(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
        message = (
            f"{function}: the module {module_name!r} has no {name!r}; its callables are: "
            f"{known or 'none'}."
        )
        raise DataError(message) from error
    if not callable(target):
        message = f"{function}: {spec} must be callable, got {type(target).__name__}."
        raise DataError(message)
    return target


def _takes(target: Callable[..., object], name: str) -> bool:
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    kinds = {parameter.kind for parameter in parameters.values()}
    return name in parameters or inspect.Parameter.VAR_KEYWORD in kinds


@contextmanager
def _directory_importable() -> Generator[None, None, None]:
    directory = str(Path.cwd())
    sys.path.insert(0, directory)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have tidied up itself
            sys.path.remove(directory)
