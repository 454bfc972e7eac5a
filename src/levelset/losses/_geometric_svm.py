"""The support vector machine of networks: a hinge in the space of the inputs."""

import math

import torch
from torch import Tensor

from levelset._projection import Newton, Projection, project
from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive, check_whole
from levelset._tools.norms import check_norm, norm_of
from levelset._typing import Labels, Model, Norm, Points
from levelset.errors import ParameterError
from levelset.fields import Margin
from levelset.losses._samples import follow, margins

__all__ = ["geometric_svm"]

# A level counts as a place to measure from if so large a share of the way to it was gone.
_SHARE = 0.05


@checked
def geometric_svm(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    weight: float = 0.01,
    alpha: float = -1.0,
    norm: Norm = math.inf,
    max_iter: int = 20,
    tol: float = 1e-4,
) -> Tensor:
    r"""Return the geometric SVM loss: each input is to be a margin of the level sets away.

    $$\frac1n \sum_j \max\Bigl\{0,\; 1 - \mathrm{sign}\,F(x_j)\,
      \frac{d(x_j, p_j)}{\Delta_j}\Bigr\} + \frac{\lambda}{n} \sum_j \Delta_j^{\alpha},
      \qquad \Delta_j = \min_{t = \pm 1} d(p_j, S_t),$$

    with F the margin of the label ([`Margin`][levelset.Margin]), so that sign F is +1 where the
    model is right; $p_j$ the input projected on the boundary {F = 0}; and $d(p_j, S_t)$ the
    distance from there to its own projection on {F = t}. All projections move with the parameters
    ([`attach`][levelset.attach]), so that the first term moves the boundary away from inputs
    nearer than the margin, and the second widens the margin itself. For affine models, L2 and
    `alpha=-2` it is the loss of the soft-margin SVM, $\Delta^{-2} = |w|^2$: scikit-learn's
    `SVC(kernel="linear", C=1 / (2 * weight * n))`.

    A projection that misses its level, as most do in a network with random weights, whose margin
    never reaches 1, counts with the distance it went, extended in proportion to the levels asked
    for and reached. An input whose projections did not get off the place has no gradient.

    The level sets are those of evaluation mode, for sample and gradient alike. BatchNorm sees the
    inputs once, in its own mode.

    Cost: three projections an input (about 3 to 10 forward and backward passes each), three passes
    that attach, and the backward pass through these.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, or to one logit.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        weight: The factor lambda, 0 or more. The paper raises it from 0.01 to 0.2 over 50 epochs
            on MNIST.
        alpha: The exponent, negative; -1 in the paper's experiments.
        norm: Of the distances: infinity, as in the paper's experiments, or 2.
        max_iter: Most Newton steps of a projection.
        tol: Largest |F - t| that counts as on the level set.

    Returns:
        A scalar with its gradient in the parameters.

    Raises:
        ParameterError: If an option or a label is out of range.
        FieldError: If the model returns something else than logits, or has no gradient in the
            points.

    Example:
        >>> import torch
        >>> from levelset.losses import geometric_svm
        >>> line = torch.nn.Linear(2, 1)
        >>> _ = line.weight.data.copy_(torch.tensor([[2.0, 0.0]]))
        >>> _ = line.bias.data.zero_()
        >>> points, labels = torch.tensor([[0.25, 0.0], [1.0, 0.0]]), torch.tensor([1, 1])
        >>> loss = geometric_svm(line, points, labels, weight=0.1, alpha=-2.0, norm=2)
        >>> round(float(loss.detach()), 4)  # (1 - 0.5) / 2 + 0.1 * 2**2
        0.65

    References:
        - M. Atzmon et al., "Controlling Neural Level Sets", NeurIPS 2019, section 3.1, Eq. 11;
          section 5.1 for how Delta is taken.
    """
    norm = check_norm("geometric_svm", norm)
    if not (math.isfinite(weight) and weight >= 0):
        message = f"geometric_svm: `weight` must be 0 or positive, got {weight}."
        raise ParameterError(message)
    if not (math.isfinite(alpha) and alpha < 0):
        message = f"geometric_svm: `alpha` must be negative, got {alpha}."
        raise ParameterError(message)
    check_positive("geometric_svm", "tol", tol)
    check_whole("geometric_svm", "max_iter", max_iter)
    points = points.detach()
    field, values = margins("geometric_svm", model, points, labels)
    if len(points) == 0:
        return field(points, labels).sum()
    samples = _sample(field, points, labels, Newton(max_iter), tol)
    return _loss(field, points, values, samples, weight=weight, alpha=alpha, norm=norm)


def _sample(
    field: Margin, points: Tensor, labels: Tensor, method: Newton, tol: float
) -> tuple[Projection, Projection, Projection]:
    """Return the inputs projected on the level 0, and from there on the levels 1 and -1."""
    zero = project(field, points, labels=labels, method=method, tol=tol)
    one, other = (
        project(field, zero.points, level=level, labels=labels, method=method, tol=tol)
        for level in (1.0, -1.0)
    )
    return zero, one, other


def _loss(
    field: Margin,
    points: Tensor,
    values: Tensor,
    samples: tuple[Projection, Projection, Projection],
    *,
    weight: float,
    alpha: float,
    norm: float,
) -> Tensor:
    """Return the loss of samples that are tied to the parameters."""
    zero = samples[0]
    boundary = follow(field, zero)
    gaps = []
    for level, sample in zip((1.0, -1.0), samples[1:], strict=True):
        side = follow(field, sample)
        gap = norm_of(boundary.points - side.points, norm)
        asked = torch.full_like(gap, level)
        on_both = zero.converged & sample.converged
        gaps.append(_extended(gap, asked, side.level - boundary.level, on_both))
    margin = torch.minimum(*gaps)
    way = norm_of(points - boundary.points, norm)
    way = _extended(way, -values, boundary.level - values, zero.converged)
    known = margin.isfinite() & way.isfinite() & (margin > 0)
    ratio = torch.where(known, way, 0.0) / torch.where(known, margin, 1.0)
    hinge = (1.0 - values.sign() * ratio).clamp(min=0.0)
    width = torch.where(known, margin, 1.0) ** alpha
    return (hinge + weight * torch.where(known, width, 0.0)).mean()


def _extended(length: Tensor, asked: Tensor, reached: Tensor, converged: Tensor) -> Tensor:
    """Return a length in proportion to the way from level to level; infinity if there was none."""
    moved = reached / torch.where(asked == 0, 1.0, asked)
    usable = converged | (moved > _SHARE)
    factor = torch.where(converged | ~usable, 1.0, 1.0 / moved)
    return torch.where(usable, length * factor, math.inf)
