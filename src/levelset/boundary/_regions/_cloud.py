"""Clouds of points on the boundary between two inputs."""

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._intersection import close_bracket, intersect
from levelset._logits import as_logits
from levelset._projection import Projection, check_tolerance, project
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_at_least_one,
    check_finite,
    check_points,
    check_positive,
)
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.precision import at_least_single
from levelset._typing import Model, Progress
from levelset.errors import ParameterError, ShapeError
from levelset.fields import Margin

__all__ = ["check_ends", "cloud", "predicted", "sample"]

Law = Literal["gaussian", "flat"]
Way = Literal["parent", "newton"]
OnePoint: TypeAlias = Float[Tensor, "*d"]

# The default spread of a cloud, as a share of the distance of the two inputs.
_SPREAD = 0.1


@checked
def sample(
    model: Model,
    start: Tensor,
    end: Tensor,
    *,
    draws: int,
    law: Law = "gaussian",
    sigma: float | None = None,
    method: Way = "parent",
    tol: float = 1e-5,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Projection:
    r"""Draw a cloud around the boundary between two inputs, and move it onto the boundary.

    The cloud lies around the point where the segment from `start` to `end` leaves the class of
    `start`. Law `gaussian`: $N(0, \sigma^2 I)$. Law `flat`: such a sample $X = U \Sigma V^T$ with
    every singular value replaced by their root mean square, so that none stands out and the
    Frobenius norm stays; what then stands out on the boundary is the boundary's.

    Each point moves onto the boundary of the class of `start`, the zero of its margin: by `parent`
    along the segment to `end` if it has that class, to `start` if it has another; by `newton` along
    the gradient of the margin.

    Cost: about 10 forward passes a draw for `parent`, 4 gradients for `newton`.

    Args:
        model: A classifier, `(n, *d)` to logits `(n, k)`.
        start: One input, `(*d)`.
        end: Another of another class, `(*d)`.
        draws: Points of the cloud.
        law: `gaussian` or `flat`.
        sigma: Standard deviation of a coordinate, in the units of the points; `None` for a tenth of
            the distance from `start` to `end`, over $\sqrt e$.
        method: `parent` or `newton`.
        tol: Largest |margin| that counts as on the boundary, in logits.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws the cloud; `None` for torch's global generator.
        progress: Called as `progress(done, total)` in points.

    Returns:
        The cloud on the boundary, `(draws, *d)`; `labels` is the class of `start`.

    Raises:
        ParameterError: If both inputs have one class, or an option is out of range.
        ShapeError: If the inputs differ in shape or dtype.

    Example:
        >>> import torch
        >>> from levelset.boundary import sample
        >>> half = torch.nn.Linear(3, 2)
        >>> _ = half.weight.data.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
        >>> _ = half.bias.data.zero_()
        >>> ends = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        >>> cloud = sample(half, *ends, draws=50, sigma=0.2)
        >>> cloud.points[:, 0].abs().max() < 1e-4
        tensor(True)

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: section 31. The text replaces
          $\Sigma$ by $|\Sigma|_2 I$, which does not keep the Frobenius norm as it says;
          $|\Sigma|_F / \sqrt r \; I$ does. It does not say where a point of a third class goes:
          here it is one that has left the class of `start`.
    """
    check_ends("sample", start, end)
    check_at_least_one("sample", "draws", draws)
    check_tolerance("sample", tol, start)
    if sigma is None:
        distance = float(torch.linalg.vector_norm((end - start).double()))
        sigma = _SPREAD * distance / math.sqrt(max(start.numel(), 1))
    check_positive("sample", "sigma", sigma)
    ends = torch.stack([start, end]).detach()
    with frozen(model):
        classes = predicted("sample", model, ends, batch_size)
        if classes[0] == classes[1]:
            message = (
                f"sample: `end` must have another class than `start`, but both have class "
                f"{int(classes[0])}: no boundary is between them."
            )
            raise ParameterError(message)
        field = Margin(model)
        middle = intersect(field, ends[:1], ends[1:], labels=classes[:1], tol=tol).points
        points = middle + sigma * cloud(draws, middle, law, generator)
        labels = classes[:1].expand(draws)
        if method == "newton":
            return project(
                field, points, labels=labels, tol=tol, batch_size=batch_size, progress=progress
            )
        evaluator = Evaluator("sample", field, batch_size)
        values = evaluator.values(points, labels)[:, 0]
        parents = ends[(values > 0).long()]
        bracket = close_bracket(evaluator, points, parents, labels, tol=tol)
        if progress is not None:
            progress(draws, draws)
        return bracket.nearest(labels, tol)


def cloud(
    draws: int, like: Tensor, law: Law = "gaussian", generator: torch.Generator | None = None
) -> Tensor:
    """Return `draws` standard points of a law, in the shape, dtype and place of `like[0]`."""
    device = like.device if generator is None else generator.device
    shape = (draws, *like.shape[1:])
    drawn = torch.randn(shape, generator=generator, device=device, dtype=like.dtype)
    if law == "flat":
        flat = at_least_single(drawn.flatten(1))
        left, values, right = torch.linalg.svd(flat, full_matrices=False)
        drawn = ((left * values.square().mean().sqrt()) @ right).to(like.dtype).view(shape)
    return drawn.to(like.device)


def predicted(function: str, model: Model, points: Tensor, batch_size: int | None = None) -> Tensor:
    """Return the class of each point, `(n,)`."""
    logits = as_logits(function, model, points)
    if not len(points):
        return torch.zeros(0, dtype=torch.int64, device=points.device)
    return Evaluator(function, logits, batch_size).outputs(points).argmax(1)


def check_ends(function: str, start: Tensor, end: Tensor) -> None:
    """Refuse two ends `(*d)` that are no points of one shape and dtype."""
    for name, point in (("start", start), ("end", end)):
        if point.dim() == 0:
            message = f"{function}: `{name}` must have the shape (*d), got ()."
            raise ShapeError(message)
        check_points(function, point.unsqueeze(0), name)
        check_finite(function, point.unsqueeze(0), name)
    if start.shape != end.shape or start.dtype != end.dtype:
        got = [f"{tuple(point.shape)} of {point.dtype}" for point in (start, end)]
        message = (
            f"{function}: `start` and `end` must have one shape and one dtype, got "
            f"{' and '.join(got)}."
        )
        raise ShapeError(message)
