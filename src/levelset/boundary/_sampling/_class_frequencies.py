"""Which classes the noisy copies of one point get, as the noise grows."""

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_at_least_one,
    check_batch_size,
    check_finite,
    check_points,
    check_whole,
)
from levelset._tools.modes import frozen
from levelset._typing import Field
from levelset.boundary._sampling._noise import Noise, NoiseName, check_noise
from levelset.boundary._sampling._votes import Task, Voter
from levelset.errors import ParameterError, ShapeError

__all__ = ["class_frequencies"]


@checked
def class_frequencies(
    model: Field,
    point: Tensor,
    sigmas: Tensor,
    *,
    draws: int = 1000,
    classes: int | None = None,
    noise: NoiseName = "gaussian",
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Return the share of each class among noisy copies of one point, at each noise.

    The model is held in evaluation mode meanwhile, and left exactly as it was found.

    Cost: `draws` forward passes a noise.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, or to labels `(n,)` of at least 0.
        point: The point, `(*d)`.
        sigmas: Standard deviations of the noise, `(s,)`, in the units of the point; 0 is allowed.
        draws: Copies at each.
        classes: How many classes there are, `k`; `None` to ask the model, or to stop at the
            highest label met where it returns labels.
        noise: `"gaussian"`, or `"ball"`: uniform in the ball of the same variance.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Gives the seed of all draws; `None` for torch's global generator.

    Returns:
        Shares `(s, k)` in float64, each row of sum 1.

    Raises:
        ShapeError: If `point` or `sigmas` has another shape or dtype.
        ParameterError: If a noise is negative, `draws` or `classes` below 1, or a label
            outside `classes`.
        FieldError: If the model returns something else than logits or labels.

    Example:
        >>> import torch
        >>> from levelset.boundary import class_frequencies
        >>> model = torch.nn.Linear(2, 3)
        >>> shares = class_frequencies(model, torch.zeros(2), torch.linspace(0, 1, 5), draws=10)
        >>> shares.shape, bool(((shares.sum(1) - 1).abs() < 1e-9).all())
        (torch.Size([5, 3]), True)

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: figures 9, 11, 13 and 17.
    """
    points = point.unsqueeze(0) if isinstance(point, Tensor) else point
    check_points("class_frequencies", points, "point")
    check_finite("class_frequencies", points, "point")
    check_noise("class_frequencies", noise)
    check_batch_size("class_frequencies", batch_size)
    sizes = _sizes(sigmas)
    check_at_least_one("class_frequencies", "draws", draws)
    if classes is not None:
        check_whole("class_frequencies", "classes", classes)
    with frozen(model):
        streams = Noise(points, generator, kind=noise)
        voter = Voter(
            "class_frequencies", model, points, streams, paired=False, batch_size=batch_size
        )
        votes = voter.vote([Task(0, size, draws) for size in sizes])
    top = int(votes.plus.max()) + 1 if len(sizes) else 0
    count = (voter.logits or top) if classes is None else classes
    if top > count or (len(sizes) and int(votes.plus.min()) < 0):
        message = (
            f"class_frequencies: labels must lie in 0 to {count - 1}, got "
            f"{int(votes.plus.min())} to {top - 1}. Give `classes`, or number them from 0."
        )
        raise ParameterError(message)
    cells = torch.bincount(votes.task * count + votes.plus, minlength=len(sizes) * count)
    return cells.view(len(sizes), count).double() / draws


def _sizes(sigmas: Tensor) -> list[float]:
    if not isinstance(sigmas, Tensor) or sigmas.dim() != 1:
        got = tuple(sigmas.shape) if isinstance(sigmas, Tensor) else type(sigmas).__name__
        message = f"class_frequencies: `sigmas` must be a tensor (s,), got {got}."
        raise ShapeError(message)
    sizes: list[float] = sigmas.double().tolist()
    if not all(0.0 <= size < float("inf") for size in sizes):
        message = (
            f"class_frequencies: `sigmas` must be finite and 0 or more, got {min(sizes):g} to "
            f"{max(sizes):g}."
        )
        raise ParameterError(message)
    return sizes
