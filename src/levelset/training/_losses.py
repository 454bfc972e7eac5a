"""Losses by the names that `levelset.losses` gives them, with their options."""

import functools
import inspect

from levelset import losses
from levelset._tools.arguments import checked
from levelset._tools.specs import arguments_of, split_spec
from levelset.errors import DataError
from levelset.training._loop import Loss
from levelset.training._train import cross_entropy

__all__ = ["build_loss", "loss_names"]


@checked
def build_loss(spec: str) -> Loss:
    """Return a loss by its name, with its options.

    Args:
        spec: Such as `cross_entropy`, `hinge(margin=2)` or `robust_distance(radius=0.3)`: a
            function of [`levelset.losses`](losses.md) that takes a model, points and labels. The
            name may be written with `-` for `_`; options are plain Python literals. Nothing in
            `spec` is evaluated.

    Returns:
        The function, or a `functools.partial` of it, for [`train`][levelset.training.train].

    Raises:
        DataError: If there is no such loss, it does not take such options, or wants one that is
            not given.

    Example:
        >>> from levelset.training import build_loss
        >>> build_loss("robust-distance(radius=0.3)").keywords
        {'radius': 0.3}
    """
    name, written = split_spec(spec)
    if name not in loss_names():
        message = (
            f"build_loss: {spec!r} is no loss known here. Known are: {', '.join(loss_names())}."
        )
        raise DataError(message)
    function = cross_entropy if name == "cross_entropy" else getattr(losses, name)
    positional, options = arguments_of("build_loss", spec, written)
    signature = inspect.signature(function)
    takes = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    if positional or not set(options) <= set(takes):
        wrong = (
            "options without a name" if positional else next(o for o in options if o not in takes)
        )
        known = ", ".join(takes) or "none"
        message = f"build_loss: {spec!r} has {wrong}; {name} takes the options: {known}."
        raise DataError(message)
    missing = [o for o in takes if signature.parameters[o].default is inspect.Parameter.empty]
    missing = [option for option in missing if option not in options]
    if missing:
        example = f"{name}({', '.join(f'{option}=...' for option in missing)})"
        message = f"build_loss: {name} needs `{missing[0]}`, got {spec!r}. Write {example!r}."
        raise DataError(message)
    return functools.partial(function, **options) if options else function


def loss_names() -> list[str]:
    """Return the names of the losses that classifiers are trained with."""
    names = {"cross_entropy"}
    for name in losses.__all__:
        function = getattr(losses, name)
        if inspect.isfunction(function):
            first = list(inspect.signature(function).parameters)[:3]
            names |= {name} if first == ["model", "points", "labels"] else set()
    return sorted(names)
