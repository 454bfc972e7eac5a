"""Initial weights, drawn from a generator of the caller's."""

import torch
from torch import nn

from levelset._tools.arguments import checked
from levelset._tools.checks import check_instance
from levelset._tools.random import draw_seed, private_stream
from levelset.errors import ParameterError

__all__ = ["initialise"]


@checked
def initialise(model: nn.Module, *, generator: torch.Generator | None = None) -> nn.Module:
    """Draw the weights of a model anew, in place, and return it.

    Each layer's own `reset_parameters` does it, in the order of `model.modules()`: torch's default
    initialisation, and BatchNorm's running statistics reset. The same state of `generator` gives
    the same weights, whatever torch's global generator has been used for; it is left alone.

    Args:
        model: The model. Changed in place.
        generator: Draws one number, the seed of all; `None` for torch's global generator.

    Returns:
        The model itself.

    Raises:
        ParameterError: If a layer holds parameters and has no `reset_parameters`.

    Example:
        >>> import torch
        >>> from levelset.networks import fc
        >>> from levelset.training import initialise
        >>> one = initialise(fc(2, 3), generator=torch.Generator().manual_seed(0))
        >>> two = initialise(fc(2, 3), generator=torch.Generator().manual_seed(0))
        >>> bool((one.fc1.weight == two.fc1.weight).all())
        True
    """
    check_instance("initialise", "model", model, nn.Module)
    own = {name: m for name, m in model.named_modules() if any(True for _ in m.parameters(False))}
    for name, module in own.items():
        if not callable(getattr(module, "reset_parameters", None)):
            message = (
                f"initialise: every layer of `model` that holds parameters must have a method "
                f"`reset_parameters`, got none in {type(module).__name__} {name or '(the model)'}."
            )
            raise ParameterError(message)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with private_stream(device, draw_seed(generator), 0):
        for module in own.values():
            module.reset_parameters()
    return model
