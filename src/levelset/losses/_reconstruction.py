"""The loss that draws the level sets of a network to their distances from a cloud of points."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_points
from levelset._tools.point_tree import PointTree
from levelset._typing import Field, PerPoint, Points
from levelset.errors import FieldError, ParameterError, ShapeError

__all__ = ["reconstruction"]


@checked
def reconstruction(
    field: Field,
    attached: Points,
    levels: PerPoint,
    cloud: PointTree,
    on_data: Float[Tensor, "m e"],
    *,
    weight: float,
    power: float = 1.0,
) -> Tensor:
    r"""Return how far level sets are from their distances to a cloud, and the cloud from zero.

    $$\sum_{t \in T} \Bigl[\operatorname*{E}_{x \in S_t} \bigl| d(x, X) - |t| \bigr|^p
      \Bigr]^{1/p} + \frac{\lambda}{m} \sum_{j=1}^{m} |F(x_j)|$$

    with $d(x, X)$ the distance of a sample from the nearest point of the cloud. The first part
    draws the level set of each t to the distance |t| from the cloud, which makes of F a signed
    distance; the second draws the zero level set through the points. For curves, F has two values
    a point, and T is {0}: give zeros as `levels`. |F| is then the sum of the values' sizes.

    Samples of one and the same level are one term of the sum, whatever their number. Those that
    are alone on their level, as `Projection.at` gives them, are one term together: the mean over t
    instead of the sum, so that the loss does not grow with their number.

    The gradient in the parameters comes by the attached samples and by `field` at `on_data`.

    Cost: a query to a kd-tree a sample, and one forward and one backward pass of the field a point
    of `on_data`, beside those of [`attach`][levelset.attach].

    Args:
        field: The field; maps `(m, e)` to `(m,)` or `(m, l)`.
        attached: Samples of the level sets from [`attach`][levelset.attach], `(n, e)`: of the zero
            level set by `project`, of others by `Projection.at`.
        levels: The level t of each, `(n,)`, in the units of the points. They are held constant.
        cloud: The points X, with their tree.
        on_data: Points x_j of the cloud, all or a batch, `(m, e)`.
        weight: The factor lambda, 0 or more; the paper raises it from 1 to 5.
        power: The exponent p, at least 1.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ShapeError: If the samples, levels or points do not fit one another.
        ParameterError: If `weight` is negative, or `power` below 1.
        FieldError: If the field returns another shape.
        DataError: If a sample is not finite.

    Example:
        >>> import torch
        >>> from levelset import Projection, attach, project
        >>> from levelset.losses import reconstruction
        >>> from levelset.reconstruction import PointTree
        >>> cloud = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
        >>> network = torch.nn.Sequential(
        ...     torch.nn.Linear(3, 9), torch.nn.Tanh(), torch.nn.Linear(9, 1)
        ... )
        >>> near = cloud + 0.1 * torch.randn(50, 3)
        >>> samples = attach(network, Projection.at(network, near))
        >>> levels = network(near).detach().squeeze(1)
        >>> loss = reconstruction(network, samples, levels, PointTree(cloud), cloud, weight=1.0)
        >>> loss.backward()

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, section 3.3, Eq. 13. The
          paper leaves open how a continuum of levels is summed; their released code takes the mean
          of all samples, which is half of ours for two halves. There, too, the distances are to
          the batch; here they are to the whole cloud.
    """
    _check(attached, levels, on_data, weight, power)
    error = (cloud.distances(attached).distance - levels.detach().abs()).abs()
    values = field(on_data.clone())  # a copy, for fields that write into their input
    if not isinstance(values, Tensor) or values.dim() not in (1, 2) or len(values) != len(on_data):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        message = (
            f"reconstruction: `field` must map `on_data` {tuple(on_data.shape)} to "
            f"({len(on_data)},) or ({len(on_data)}, l), got {got}."
        )
        raise FieldError(message)
    term = _over_levels(error, levels, power)
    if len(on_data) == 0:
        return term + values.sum()
    return term + weight * values.flatten(1 if values.dim() == 2 else 0).abs().sum() / len(on_data)


def _over_levels(error: Tensor, levels: Tensor, power: float) -> Tensor:
    """Return the sum over levels of the p-th means; the levels of one sample are one together."""
    if len(error) == 0:
        return error.sum()
    _, group, counts = torch.unique(levels.detach(), return_inverse=True, return_counts=True)
    alone = counts[group] == 1
    group = torch.where(alone, len(counts), group)
    sizes = torch.bincount(group, minlength=len(counts) + 1)
    sums = error.new_zeros(len(sizes)).index_add(0, group, error**power)
    means = sums[sizes > 0] / sizes[sizes > 0]
    if power == 1.0:
        return means.sum()
    # A root has no derivative at 0; where all samples are in place there is nothing to learn.
    return means[means > 0].pow(1.0 / power).sum()


def _check(attached: Tensor, levels: Tensor, on_data: Tensor, weight: float, power: float) -> None:
    check_points("reconstruction", attached, "attached")
    check_points("reconstruction", on_data, "on_data")
    if levels.shape != attached.shape[:1]:
        message = (
            f"reconstruction: `levels` must hold one level a sample ({len(attached)},), got "
            f"{tuple(levels.shape)}. For a curve give zeros."
        )
        raise ShapeError(message)
    if not (math.isfinite(weight) and weight >= 0):
        message = f"reconstruction: `weight` must be 0 or positive, got {weight}."
        raise ParameterError(message)
    check_at_least_one("reconstruction", "power", power)
