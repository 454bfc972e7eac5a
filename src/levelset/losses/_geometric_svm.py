"""The support vector machine of networks: a hinge in the space of the inputs."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, check_points, check_positive, check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.least_norm import least_norm
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_of
from levelset._typing import Labels, Model, Norm, Points
from levelset.errors import ParameterError
from levelset.fields import Margin
from levelset.losses._diagnostics import Diagnostics, Watch
from levelset.losses._samples import Places, check_margins, follow, observe, places_at

__all__ = ["geometric_svm"]

Ratio = Literal["distances", "output"]

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
    ratio: Ratio = "distances",
    share: float = 1.0,
    max_iter: int = 20,
    tol: float = 1e-4,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
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

    Two options make it fit for training. `ratio="output"` takes the margin's own value for the
    ratio of the first term, to which it is equal for affine models, so that only the second term
    needs samples: from random weights the published ratio hardly learns, as most level sets are
    outside the data, while this one begins as the plain hinge. Then the second term can be left to
    a `share` of the calls, drawn at random, where it counts 1 / `share` times: the mean over calls
    is the same. With `max_iter=1` the level sets are those of the linearised margin, as far as
    the network is from them: the proportional extension makes up for the rest.

    The level sets are those of evaluation mode, for sample and gradient alike. BatchNorm sees the
    inputs once, in its own mode.

    Cost: three projections an input, begun each with the derivative that ended the one before
    (3 forward and backward passes together with `max_iter=1`, else about 3 to 10 each), then a
    forward and backward pass in the parameters of two samples an input.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`, or to one logit.
        points: The inputs, `(n, *d)`.
        labels: Their classes, `(n,)`.
        weight: The factor lambda, 0 or more. The paper raises it from 0.01 to 0.2 over 50 epochs
            on MNIST.
        alpha: The exponent, negative; -1 in the paper's experiments.
        norm: Of the distances: infinity, as in the paper's experiments, or 2.
        ratio: `distances`: d / Delta of the samples, as published; `output`: sign F times the
            margin, and the output of the model in its own mode.
        share: Part of the calls that sample the level sets; below 1 only with `ratio="output"`.
        max_iter: Most Newton steps of a projection.
        tol: Largest |F - t| that counts as on the level set.
        generator: Draws which calls these are; `None` for torch's global generator.
        watch: Called with the [`Diagnostics`][levelset.losses.Diagnostics] of the evaluation.

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
    _check(weight, alpha, ratio, share)
    check_positive("geometric_svm", "tol", tol)
    check_whole("geometric_svm", "max_iter", max_iter)
    points = points.detach()
    check_points("geometric_svm", points)
    check_finite("geometric_svm", points)
    field = Margin(model)
    if ratio == "output" or len(points) == 0:
        output = field(points, labels)
        check_margins("geometric_svm", output.detach())
        first = (1.0 - output).clamp(min=0.0)
        if len(points) == 0 or not _drawn(share, generator):
            hinge = first.mean() if len(points) else first.sum()
            if watch is not None:
                watch(Diagnostics({"hinge": hinge}))
            return hinge
    else:
        observe(model, points)
    values, samples = _sample(field, points, labels, max_iter, tol)
    distances, width = _terms(
        field, points, labels, values, samples, alpha=alpha, norm=norm, tol=tol
    )
    if ratio == "distances":
        first = (1.0 - values.sign() * distances).clamp(min=0.0)
    terms = {"hinge": first.mean(), "width": (weight / share) * width.mean()}
    if watch is not None:
        levels = torch.tensor([[0.0], [1.0], [-1.0]], device=values.device)
        reached = torch.cat([samples.boundary.values, samples.sides.values]).view(3, -1)
        converged = ((reached - levels).abs() <= tol).flatten()
        watch(Diagnostics(terms, converged, norm_of(points - samples.boundary.points, norm)))
    return terms["hinge"] + terms["width"]


def _drawn(share: float, generator: torch.Generator | None) -> bool:
    """Return whether this call is one of those that sample."""
    device = "cpu" if generator is None else generator.device
    return share == 1.0 or float(torch.rand((), generator=generator, device=device)) < share


def _check(weight: float, alpha: float, ratio: str, share: float) -> None:
    """Refuse numbers out of range, and a share of a first term that needs all samples."""
    if not (math.isfinite(weight) and weight >= 0):
        message = f"geometric_svm: `weight` must be 0 or positive, got {weight}."
        raise ParameterError(message)
    if not (math.isfinite(alpha) and alpha < 0):
        message = f"geometric_svm: `alpha` must be negative, got {alpha}."
        raise ParameterError(message)
    if not 0.0 < share <= 1.0:
        message = f"geometric_svm: `share` must lie in (0, 1], got {share}."
        raise ParameterError(message)
    if share < 1.0 and ratio == "distances":
        message = (
            f"geometric_svm: `share` must be 1 with `ratio='distances'`, whose first term needs "
            f"the samples in every call, got {share}. Give `ratio='output'`."
        )
        raise ParameterError(message)


class _Samples(NamedTuple):
    """Where inputs meet the boundary, and where the boundary's points meet the levels 1 and -1.

    Attributes:
        boundary: `(n, *d)`.
        sides: `(2 n, *d)`: those of level 1, then those of level -1.
    """

    boundary: Places
    sides: Places


def _sample(
    field: Margin, points: Tensor, labels: Tensor, max_iter: int, tol: float
) -> tuple[Tensor, _Samples]:
    """Return the field at inputs, and their samples of the three level sets.

    Each search begins with the derivative that ended the one before.
    """
    evaluator = Evaluator("geometric_svm", field)
    with frozen(field):
        inputs = places_at(evaluator, points, labels)
        check_margins("geometric_svm", inputs.values)
        none, one = torch.zeros_like(inputs.values), torch.ones_like(inputs.values)
        boundary = _newton(evaluator, inputs, labels, none, max_iter, tol)
        twice = Places(*(torch.cat([part, part]) for part in boundary))
        levels = torch.cat([one, -one])
        sides = _newton(evaluator, twice, labels.repeat(2), levels, max_iter, tol)
    return inputs.values, _Samples(boundary, sides)


def _newton(
    evaluator: Evaluator,
    start: Places,
    labels: Tensor,
    levels: Tensor,
    max_iter: int,
    tol: float,
) -> Places:
    """Return the places nearest to a level each that Newton's iteration meets."""
    best = Places(*(part.clone() for part in start))
    rows, moving = torch.arange(len(levels), device=levels.device), start
    for _ in range(max_iter):
        rest = levels[rows] - moving.values
        step = least_norm(moving.gradient.unsqueeze(1), rest.unsqueeze(1))
        length = torch.linalg.vector_norm(step, dim=1)
        on = ((rest.abs() > tol) & (length > 0) & length.isfinite()).nonzero().flatten()
        if len(on) == 0:
            break
        rows = rows[on]
        points = moving.points.index_select(0, on) + step[on].view(-1, *start.points.shape[1:])
        moving = places_at(evaluator, points, labels[rows])
        off = (moving.values - levels[rows]).abs()
        # A NaN compares false, so it never replaces a finite best.
        better = (off < (best.values[rows] - levels[rows]).abs()).nonzero().flatten()
        for part, new in zip(best, moving.at(better), strict=True):
            part.index_copy_(0, rows[better], new)
    return best


def _margin(
    field: Margin, labels: Tensor, samples: _Samples, norm: float, tol: float
) -> tuple[Tensor, Tensor]:
    """Return the boundary's points and their distances to the nearer level, tied to the parameters.

    The distances are infinite where neither level was approached.
    """
    boundary, sides = samples
    n = len(labels)
    levels = torch.ones_like(sides.values)
    levels[n:] = -1.0
    start = boundary.values.repeat(2)
    both = (start.abs() <= tol) & ((sides.values - levels).abs() <= tol)
    apart = norm_of(
        sides.points - boundary.points.repeat(2, *[1] * (boundary.points.dim() - 1)), norm
    )
    factor, usable = _extension(levels, sides.values - start, both)
    gaps = torch.where(usable, apart * factor, math.inf).view(2, n)
    rows = gaps.argmin(0) * n + torch.arange(n, device=gaps.device)
    side = sides.at(rows)
    moving = follow(
        field, Places(*(torch.cat(pair) for pair in zip(boundary, side, strict=True))),
        labels.repeat(2),
    )  # fmt: skip
    margin = norm_of(moving[:n] - moving[n:], norm) * factor[rows]
    return moving[:n], torch.where(usable[rows], margin, math.inf)


def _terms(
    field: Margin,
    points: Tensor,
    labels: Tensor,
    values: Tensor,
    samples: _Samples,
    *,
    alpha: float,
    norm: float,
    tol: float,
) -> tuple[Tensor, Tensor]:
    r"""Return $d / \Delta$ and $\Delta^lpha$ of each input, `(n,)`; 0 where it has no samples."""
    boundary, margin = _margin(field, labels, samples, norm, tol)
    reached = samples.boundary.values
    factor, usable = _extension(-values, reached - values, reached.abs() <= tol)
    way = norm_of(points - boundary, norm) * factor
    known = margin.isfinite() & usable & (margin > 0)
    width = torch.where(known, margin, 1.0)
    return torch.where(known, way, 0.0) / width, torch.where(known, width**alpha, 0.0)


def _extension(asked: Tensor, reached: Tensor, converged: Tensor) -> tuple[Tensor, Tensor]:
    """Return by what a length grows in proportion to the way asked for, and if any was gone."""
    moved = reached / torch.where(asked == 0, 1.0, asked)
    usable = converged | (moved > _SHARE)
    return torch.where(converged | ~usable, 1.0, 1.0 / moved), usable
