"""Fitting a detector: its features standardised, logistic weights, a threshold."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked_as
from levelset._tools.checks import check_batch_size, check_finite, check_labels, check_whole
from levelset._tools.random import draw_seed
from levelset._typing import Labels, Model, Points
from levelset.boundary._second_order._differences import CentralDifference
from levelset.boundary._second_order._gaussian import GaussianSmoothing
from levelset.boundary._second_order._smoothing import Scale
from levelset.boundary.detect._detector import Detector
from levelset.boundary.detect._roc import most_accurate, roc
from levelset.boundary.detect._scores import (
    Features,
    ScoreName,
    chosen_scores,
    features,
    standardised,
)
from levelset.errors import DataError, ParameterError, ShapeError

__all__ = ["choices", "fit", "logistic"]

# The two finer scales see the kinks of the network, the ties of its max-pools on an even background
# among them; the last sees its whole region. The first and the last rank the classes by themselves.
SCALES: tuple[Scale, ...] = (
    CentralDifference(0.1),
    CentralDifference(0.03),
    GaussianSmoothing(1.0, 200),
)
# Weight of the squared weights, so that they stay finite when the examples are separable.
_RIDGE = 1e-3


@checked_as("detect.fit")
def fit(
    model: Model,
    natural: Points,
    perturbed: Points,
    *,
    scores: ScoreName | Sequence[ScoreName] = ("curvature",),
    scales: Scale | Sequence[Scale] | None = None,
    originals: Labels | None = None,
    false_alarms: float | None = None,
    draws: int = 1000,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Detector:
    r"""Fit a detector of perturbed inputs on labelled examples.

    The score `total_curvature` is the sum over the other classes j of the mean curvature of
    $F_{ij}$, i the model's answer, one number a scale (see
    [`class_curvatures`][levelset.boundary.class_curvatures]); `curvature` adds the largest and the
    smallest over the classes. `distance` is the logarithm of the L2 distance to the boundary,
    `persistence` that of the noise the class survives. A logistic regression weighs them all.
    `total_curvature` at one scale is the rule of Alonso and Bonin; the examples decide its side, as
    on ReLU networks the sign of the shift depends on the scale.

    The class scores, whose largest is the original class, are the mean curvatures of the classes,
    each scale standardised over the classes of an input and weighed: by a conditional logistic
    regression on `originals`, or else -1 for the first scale (the rule of the paper, the largest
    by Goldman's formula as printed) and +1/2 for the last if there are several.

    A detector is no defence. Its score is made of differences of the network's values, and so has a
    gradient that an attacker who knows the detector can follow; the rates on plain attacks say
    nothing about such a one. `experiments/evasion.py` is that attacker, to be run on a detector
    before anything is built on it.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        natural: Inputs as they were, `(n, *d)`.
        perturbed: Perturbed inputs, `(m, *d)`; need not come from the natural ones.
        scores: `curvature`, `total_curvature`, `distance`, `persistence`, one or some of them.
        scales: One or some, at which curvature is measured; `None` for `CentralDifference`, 0.1 and
            0.03, and `GaussianSmoothing(1, 200)`, which suit images with pixels from 0 to 1.
        originals: What the model answered before each perturbed input was perturbed, `(m,)`.
        false_alarms: Share of natural inputs that may be flagged, by rank among `natural`; `None`
            for the threshold with most right answers, both kinds counting the same.
        draws: Bootstrap samples behind the interval of the area.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        generator: Draws one number, the seed of all; `None` for torch's global generator.

    Returns:
        The detector, with its curve on these examples. Judge it on others.

    Raises:
        DataError: If there are fewer than two inputs of a kind.
        FieldError: If the model does not return finite logits of two classes or more.
        ShapeError: If the two kinds differ in shape.
        ParameterError: If an option is out of range.
    """
    _check(natural, perturbed, false_alarms, draws, batch_size)
    chosen = chosen_scores(scores)
    used = _scales(scales)
    seed = draw_seed(generator)
    kinds = [features(model, part, chosen, used, seed, batch_size) for part in (natural, perturbed)]
    numbers = torch.cat([kinds[0].numbers, kinds[1].numbers])
    centre, spread = numbers.mean(0), numbers.std(0)
    spread = torch.where(spread > 0, spread, 1.0)
    standard = [(kind.numbers - centre) / spread for kind in kinds]
    weights = logistic(standard[0], standard[1])
    values = [numbers @ weights for numbers in standard]
    curve = roc(values[0], values[1], draws, torch.Generator().manual_seed(seed))
    if false_alarms is None:
        threshold = most_accurate(curve)
    else:
        threshold = float(values[0].double().quantile(1.0 - false_alarms))
    return Detector(
        model=model,
        scores=chosen,
        scales=used,
        centre=centre,
        spread=spread,
        weights=weights,
        threshold=threshold,
        class_weights=_class_weights(kinds[1], originals, perturbed),
        roc=curve,
        seed=seed,
        classes=kinds[0].curvatures.shape[1],
        shape=tuple(natural.shape[1:]),
    )


def _scales(scales: Scale | Sequence[Scale] | None) -> tuple[Scale, ...]:
    """Return the given scales, or the default ones."""
    if scales is None:
        return SCALES
    if isinstance(scales, Scale):
        return (scales,)
    if not scales:
        message = "detect.fit: `scales` must hold at least one smoothing, got none."
        raise ParameterError(message)
    return tuple(scales)


def _class_weights(features: Features, originals: Labels | None, perturbed: Tensor) -> Tensor:
    count = features.curvatures.shape[2]
    if originals is None:
        weights = features.numbers.new_zeros(count)
        weights[-1] = 0.5
        weights[0] = -1.0
        return weights
    check_labels("detect.fit", originals, perturbed, features.curvatures.shape[1], "originals")
    moved = features.curvatures[:, :, 0].gather(1, originals.unsqueeze(1))[:, 0].isfinite()
    if not moved.any():
        message = (
            "detect.fit: `originals` must differ from what the model answers now for some of "
            "`perturbed`, got the same for all. Give attacked inputs that changed class."
        )
        raise DataError(message)
    return choices(standardised(features.curvatures)[moved], originals[moved])


def _check(
    natural: Tensor, perturbed: Tensor, false_alarms: float | None, draws: int,
    batch_size: int | None,
) -> None:  # fmt: skip
    for name, part in (("natural", natural), ("perturbed", perturbed)):
        check_finite("detect.fit", part, name)
        if len(part) < 2:
            message = f"detect.fit: `{name}` must hold at least two inputs, got {len(part)}."
            raise DataError(message)
    if natural.shape[1:] != perturbed.shape[1:]:
        message = (
            "detect.fit: `perturbed` must have inputs of the shape of `natural`, "
            f"{tuple(natural.shape[1:])}, got {tuple(perturbed.shape[1:])}."
        )
        raise ShapeError(message)
    check_batch_size("detect.fit", batch_size)
    check_whole("detect.fit", "draws", draws)
    if false_alarms is not None and not 0.0 < false_alarms < 1.0:
        message = f"detect.fit: `false_alarms` must lie between 0 and 1, got {false_alarms}."
        raise ParameterError(message)


def logistic(natural: Tensor, perturbed: Tensor) -> Tensor:
    """Return the weights `(f,)` that tell standardised features `(n, f)` of two kinds apart.

    Both kinds count the same. A single feature gets the weight 1 or -1.
    """
    if natural.shape[1] == 1:
        return torch.where(perturbed.mean(0) < natural.mean(0), -1.0, 1.0).to(natural.dtype)
    ones = [part.new_ones(len(part), 1) for part in (natural, perturbed)]
    kinds = [torch.cat([p, one], 1) for p, one in zip((natural, perturbed), ones, strict=True)]

    def loss(weights: Tensor) -> Tensor:
        missed = functional.softplus(kinds[0] @ weights).mean()
        missed = missed + functional.softplus(-(kinds[1] @ weights)).mean()
        return missed + _RIDGE * weights.square().sum()

    return _minimise(loss, kinds[0].new_zeros(natural.shape[1] + 1))[:-1]


def choices(features: Tensor, chosen: Tensor) -> Tensor:
    """Return the weights `(s,)` of a conditional logit: which of k classes `(n, k, s)` it was.

    NaN marks classes that were no choice.
    """
    barred = features.isnan().any(2)
    numbers = features.nan_to_num(0.0).double()

    def loss(weights: Tensor) -> Tensor:
        utilities = (numbers @ weights).masked_fill(barred, -1e9)
        return functional.cross_entropy(utilities, chosen) + _RIDGE * weights.square().sum()

    return _minimise(loss, numbers.new_zeros(numbers.shape[2]))


def _minimise(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return where a smooth convex function of a few numbers is least."""
    weights = start.double().requires_grad_()
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        with torch.enable_grad():
            value = loss(weights)
            (weights.grad,) = torch.autograd.grad(value, weights)
        return value

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()
