"""Evaluation mode while modules are measured, and their own mode again afterwards."""

import functools
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "batch_statistics",
    "draws_or_couples",
    "evaluating",
    "frozen",
    "modules_of",
]


@contextmanager
def frozen(*fields: Any) -> Iterator[None]:
    r"""Hold the modules among `fields` in evaluation mode, with parameters that need no gradient.

    A measurement asks a field for values and for derivatives in the points. In training mode,
    dropout would make the field random and BatchNorm would couple the rows of a batch; gradients
    of parameters would cost time and memory for nothing. On exit, also by an exception, every
    module gets its own mode back and every parameter its own `requires_grad`.

    Functions are looked through for the modules that they call by name: `lambda x: model(x)[0]`,
    `functools.partial(model, mask=mask)` and `model.predict` hold `model` still. What they reach in
    other ways (an attribute of an object, an entry of a list) is not held.

    Recurrent layers on a CUDA device are run without cuDNN meanwhile, which has no gradients for
    them in evaluation mode.

    Args:
        fields: Fields or models, in any number; what holds no `torch.nn.Module` is ignored.

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
    roots = [root for field in fields for root in modules_of(field)]
    # Of tensors made under `torch.inference_mode` this flag can be neither set nor needed.
    parameters = [p for root in roots for p in root.parameters() if not p.is_inference()]
    wanted = [(p, p.requires_grad) for p in parameters]
    with evaluating(*fields):
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)


@contextmanager
def evaluating(*fields: Any) -> Iterator[None]:
    """Hold the modules among `fields` in evaluation mode; parameters keep their gradients.

    For losses: the level set that is sampled must be the one that is moved. On exit every module
    gets its own mode back. A graph that is built meanwhile holds statistics of its own: BatchNorm
    in training mode updates its running ones in place, and the gradient would follow them.

    Args:
        fields: As for `frozen`.
    """
    roots = [root for field in fields for root in modules_of(field)]
    modules = [module for root in roots for module in root.modules()]
    modes = [(m, m.training) for m in modules]
    statistics = _running_statistics(*fields)
    try:
        for layer, mean, variance in statistics:
            layer.running_mean, layer.running_var = mean.clone(), variance.clone()
        for root in roots:
            _switch(root, training=False)
        with ExitStack() as stack:
            if any(isinstance(m, nn.RNNBase) and _on_cuda(m) for m in modules):
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield
    finally:
        _restore(modes)
        for layer, mean, variance in statistics:
            layer.running_mean, layer.running_var = mean, variance


@contextmanager
def batch_statistics(model: Any, points: Tensor) -> Iterator[None]:
    """Let BatchNorm layers in training mode have the statistics of a batch as their running ones.

    What is evaluated meanwhile in evaluation mode is a field, which maps each point by itself, with
    the normalisation that the batch has in training mode. The layers' own running statistics see
    the batch once, and come back on exit.

    Args:
        model: The model, or a function of it, as for `frozen`.
        points: The batch, `(n, *d)`.
    """
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def record(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
        variance, mean = torch.var_mean(inputs[0].detach(), axes, correction=0)
        seen[layer] = mean, variance

    statistics = _running_statistics(model)
    if not statistics or len(points) == 0:
        yield
        return
    hooks = [layer.register_forward_pre_hook(record) for layer, _, _ in statistics]
    try:
        with torch.no_grad():
            model(points.clone())
    finally:
        for hook in hooks:
            hook.remove()
    counts = [layer.num_batches_tracked for layer, _, _ in statistics]
    try:
        for layer, mean, variance in statistics:
            layer.running_mean, layer.running_var = seen.get(layer, (mean, variance))
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
        yield
    finally:
        for (layer, mean, variance), count in zip(statistics, counts, strict=True):
            layer.running_mean, layer.running_var = mean, variance
            layer.num_batches_tracked = count


def _running_statistics(*fields: Any) -> list[tuple[Any, Tensor, Tensor]]:
    """Return the BatchNorm layers in training mode, with their running means and variances."""
    modules = (
        module for field in fields for root in modules_of(field) for module in root.modules()
    )
    layers = dict.fromkeys(m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [
        (layer, layer.running_mean, layer.running_var)
        for layer in layers
        if layer.training and layer.running_mean is not None and layer.running_var is not None
    ]


def modules_of(field: Any) -> list[nn.Module]:
    """Return the outermost modules of a callable: itself, or those that a function calls by name.

    Looks through `functools.partial`, bound methods, the closure and globals of functions, and
    through functions that a module has for its `model`.
    """
    if isinstance(field, nn.Module):
        inner = [vars(module).get("model") for module in field.modules()]
        return [field, *(root for part in inner if part is not None for root in modules_of(part))]
    if isinstance(field, functools.partial):
        parts: tuple[Any, ...] = (field.func, *field.args, *field.keywords.values())
        return [root for part in parts for root in modules_of(part)]
    if isinstance(field, types.MethodType):
        return modules_of(field.__self__) if isinstance(field.__self__, nn.Module) else []
    if not isinstance(field, types.FunctionType):
        return []
    cells = [cell.cell_contents for cell in field.__closure__ or () if _is_filled(cell)]
    known = [field.__globals__.get(name) for name in field.__code__.co_names]
    called = {id(part): part for part in (*cells, *known) if isinstance(part, nn.Module)}
    return [root for part in called.values() for root in modules_of(part)]


def _is_filled(cell: types.CellType) -> bool:
    """Return whether a variable of a closure has a value yet."""
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _on_cuda(module: nn.Module) -> bool:
    return any(parameter.is_cuda for parameter in module.parameters())


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
    named = (pair for root in modules_of(field) for pair in root.named_modules())
    for name, module in named:
        if module.training and isinstance(module, _RANDOM_OR_COUPLED):
            return f"{type(module).__name__} `{name}`" if name else type(module).__name__
    return None
