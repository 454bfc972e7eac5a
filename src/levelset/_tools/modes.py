"""Holding modules still while they are measured, and giving them back as they were found."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["draws_or_couples", "frozen"]


@contextmanager
def frozen(*fields: Any) -> Iterator[None]:
    r"""Hold the modules among `fields` in evaluation mode, with parameters that need no gradient.

    A measurement asks a field for values and for derivatives in the points. In training mode,
    dropout would make the field random and BatchNorm would couple the rows of a batch; gradients
    of parameters would cost time and memory for nothing. On exit, also by an exception, every
    module gets its own mode back and every parameter its own `requires_grad`.

    Callables that are not modules are passed over: what a closure hides is not held.

    Args:
        fields: Fields or models, in any number; what is no `torch.nn.Module` is ignored.

    Example:
        >>> from torch import nn
        >>> from levelset import frozen
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        >>> with frozen(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    modules = [m for field in fields if isinstance(field, nn.Module) for m in field.modules()]
    parameters = [p for field in fields if isinstance(field, nn.Module) for p in field.parameters()]
    modes = [(m, m.training) for m in modules]
    wanted = [(p, p.requires_grad) for p in parameters]
    try:
        for field in fields:
            if isinstance(field, nn.Module):
                _switch(field, training=False)
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        _restore(modes)


def _switch(module: nn.Module, *, training: bool) -> None:
    """Call the module's own `train`, which may do work of its own, then see to the flags."""
    try:
        module.train(training)
    except NotImplementedError:
        # An exported program fixes its mode when it is exported and refuses to switch; its
        # flags mean nothing, so they stay.
        return


def _restore(modes: list[tuple[nn.Module, bool]]) -> None:
    """Give every module its mode back, by its own method first, parents before children."""
    for module, mode in modes:
        if module.training != mode:
            _switch(module, training=mode)
    for module, mode in modes:
        if module.training != mode:
            module.training = mode


_RANDOM_OR_COUPLED = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


def draws_or_couples(field: Any) -> str | None:
    """Return the name of a layer that is random or couples rows in its present mode, or none."""
    if not isinstance(field, nn.Module):
        return None
    for name, module in field.named_modules():
        if module.training and isinstance(module, _RANDOM_OR_COUPLED):
            return f"{type(module).__name__} `{name}`" if name else type(module).__name__
    return None
