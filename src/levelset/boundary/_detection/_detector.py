"""Telling perturbed inputs from natural ones by the curvature of the boundaries around them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from levelset._tools.checks import check_batch_size, check_finite, check_labels, check_points
from levelset._tools.modes import frozen
from levelset._tools.random import draw_seed
from levelset._tools.results import Rows
from levelset._typing import Counts, Labels, Mask, PerPoint, Points
from levelset.boundary._detection._detector_file import read, write
from levelset.boundary._detection._fit import Roc, choices, logistic, most_accurate, roc
from levelset.boundary._detection._scores import SCORES, Features, ScoreName, features, standardised
from levelset.boundary._second_order._class_curvatures import Scale
from levelset.boundary._second_order._smoothing import (
    CentralDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
)
from levelset.boundary._second_order._surrogate import calls_relu
from levelset.errors import DataError, ParameterError, ShapeError

__all__ = ["Detection", "Detector", "fit", "load"]

# The finest scale sees the kinks of the network, the second its bulk, the last its whole region.
SCALES: tuple[Scale, ...] = (
    CentralDifference(0.1),
    SoftplusSurrogate(2.0),
    GaussianSmoothing(1.0, 200),
)


@dataclass(frozen=True, eq=False, repr=False)
class Detection(Rows):
    """What a detector says of each input.

    Attributes:
        score: Larger for perturbed inputs, `(n,)`; without unit.
        flagged: Whether the score is above the threshold, `(n,)`.
        original_class: The class the model gave the input before it was perturbed, if it was, as
            the curvatures tell, `(n,)`.
        class_scores: What that is the largest of, `(n, k)`; minus infinity for the present class.
    """

    score: PerPoint
    flagged: Mask
    original_class: Counts
    class_scores: Tensor

    def rank(self, classes: Labels) -> Counts:
        """Return the place of a class for each input among the class scores, 0 for the first."""
        check_labels("Detection.rank", classes, self.class_scores, self.class_scores.shape[1])
        own = self.class_scores.gather(1, classes.unsqueeze(1))
        return (self.class_scores > own).sum(1)

    def summary(self) -> dict[str, int | float]:
        """Return how many were flagged."""
        return {"points": len(self), "flagged": int(self.flagged.sum())}


@dataclass(frozen=True, eq=False)
class Detector:
    """A fitted detector: call it with points.

    Attributes:
        model: The classifier whose boundaries are measured.
        scores: Which scores it combines.
        scales: At which scales curvature is measured.
        centre: Mean of each feature over the inputs it was fitted on, `(f,)`.
        spread: Their standard deviations, `(f,)`.
        weights: Weight of each standardised feature, `(f,)`.
        threshold: Inputs with a larger score are flagged.
        class_weights: Weight of each scale in the class scores, `(s,)`.
        roc: The curve on the inputs it was fitted on, with its area.
        seed: Of the noise it measures with.
    """

    model: nn.Module = field(repr=False)
    scores: tuple[ScoreName, ...]
    scales: tuple[Scale, ...]
    centre: Tensor = field(repr=False)
    spread: Tensor = field(repr=False)
    weights: Tensor
    threshold: float
    class_weights: Tensor
    roc: Roc = field(repr=False)
    seed: int = field(repr=False)

    def __call__(self, points: Points, *, batch_size: int | None = None) -> Detection:
        """Measure points and judge them.

        Args:
            points: The inputs, `(n, *d)`.
            batch_size: Most points an evaluation; `None` for the number that runs fastest.
        """
        check_points("Detector", points)
        check_finite("Detector", points)
        found = features(self.model, points, self.scores, self.scales, self.seed, batch_size)
        classes = class_scores(found, self.class_weights)
        score = self.score(found).to(points.dtype)
        best = classes.argmax(1) if classes.shape[1] else torch.zeros(len(points)).long()
        return Detection(score, score > self.threshold, best.to(points.device), classes)

    def score(self, found: Features) -> Tensor:
        """Return the scores `(n,)` of features."""
        return ((found.numbers - self.centre) / self.spread) @ self.weights

    def evaluate(self, natural: Points, perturbed: Points, *, draws: int = 1000) -> Roc:
        """Return the curve on inputs that are known to be natural or perturbed.

        Args:
            natural: Inputs as they were, `(n, *d)`.
            perturbed: Perturbed inputs, `(m, *d)`.
            draws: Bootstrap samples behind the interval of the area.
        """
        generator = torch.Generator().manual_seed(self.seed)
        scores = [self(part).score for part in (natural, perturbed)]
        return Roc.of(scores[0], scores[1], draws=draws, generator=generator)

    def save(self, folder: str | Path) -> None:
        """Write `detector.safetensors` and `detector.json` into a folder; the model is not written.

        Args:
            folder: Is made if it is not there.

        Raises:
            RunError: If the folder cannot be written.
        """
        tensors = {
            "centre": self.centre, "spread": self.spread, "weights": self.weights,
            "class_weights": self.class_weights, "false_alarms": self.roc.false_alarms,
            "hits": self.roc.hits, "thresholds": self.roc.thresholds,
        }  # fmt: skip
        numbers = {
            "threshold": self.threshold, "seed": self.seed, "area": self.roc.area,
            "area_low": self.roc.low, "area_high": self.roc.high,
        }  # fmt: skip
        write(Path(folder), tensors, numbers, self.scores, self.scales)


def fit(
    model: nn.Module,
    natural: Points,
    perturbed: Points,
    *,
    scores: Sequence[ScoreName] = ("curvature",),
    scales: Sequence[Scale] | None = None,
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
        scores: `curvature`, `total_curvature`, `distance`, `persistence`, any of them.
        scales: At which scales curvature is measured; `None` for `CentralDifference(0.1)`,
            `SoftplusSurrogate(2)` if the network has ReLUs, and `GaussianSmoothing(1, 200)`, which
            suit images with pixels from 0 to 1.
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
        ShapeError: If the two kinds differ in shape.
        ParameterError: If an option is out of range.
    """
    _check(natural, perturbed, scores, scales, false_alarms, batch_size)
    seed = draw_seed(generator)
    chosen = tuple(dict.fromkeys(scores))
    used = _scales(model, natural) if scales is None else tuple(scales)
    kinds = [features(model, part, chosen, used, seed, batch_size) for part in (natural, perturbed)]
    numbers = torch.cat([kinds[0].numbers, kinds[1].numbers])
    centre, spread = numbers.mean(0), numbers.std(0)
    spread = torch.where(spread > 0, spread, 1.0)
    weights = logistic(*((kind.numbers - centre) / spread for kind in kinds))
    values = [((kind.numbers - centre) / spread) @ weights for kind in kinds]
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
    )


def load(folder: str | Path, model: nn.Module) -> Detector:
    """Read a detector that was saved, for the model it was fitted on.

    Args:
        folder: Where it was saved.
        model: The same classifier.

    Raises:
        DataError: If the files are missing or damaged.
    """
    held = read(Path(folder))
    tensors, numbers = held.tensors, held.numbers
    curve = Roc(
        tensors["false_alarms"], tensors["hits"], tensors["thresholds"],
        numbers["area"], numbers["area_low"], numbers["area_high"],
    )  # fmt: skip
    return Detector(
        model=model,
        scores=held.scores,
        scales=held.scales,
        centre=tensors["centre"],
        spread=tensors["spread"],
        weights=tensors["weights"],
        threshold=numbers["threshold"],
        class_weights=tensors["class_weights"],
        roc=curve,
        seed=int(numbers["seed"]),
    )


def _scales(model: nn.Module, points: Tensor) -> tuple[Scale, ...]:
    with frozen(model):
        rectified = calls_relu(model, points[:1])
    return tuple(s for s in SCALES if rectified or not isinstance(s, SoftplusSurrogate))


def class_scores(found: Features, weights: Tensor) -> Tensor:
    """Return the class scores `(n, k)`, minus infinity for the class the model answers."""
    weighed = standardised(found.curvatures) @ weights.to(found.curvatures)
    return torch.where(weighed.isnan(), -torch.inf, weighed)


def _class_weights(found: Features, originals: Labels | None, perturbed: Tensor) -> Tensor:
    count = found.curvatures.shape[2]
    if originals is None:
        weights = found.numbers.new_zeros(count)
        weights[-1] = 0.5
        weights[0] = -1.0
        return weights
    check_labels("detect.fit", originals, perturbed, found.curvatures.shape[1])
    moved = found.curvatures[:, :, 0].gather(1, originals.unsqueeze(1))[:, 0].isfinite()
    if not moved.any():
        message = (
            "detect.fit: `originals` must differ from what the model answers now for some of "
            "`perturbed`, got the same for all. Give attacked inputs that changed class."
        )
        raise DataError(message)
    return choices(standardised(found.curvatures)[moved], originals[moved])


def _check(
    natural: Tensor, perturbed: Tensor, scores: Sequence[str], scales: Sequence[Scale] | None,
    false_alarms: float | None, batch_size: int | None,
) -> None:  # fmt: skip
    for name, part in (("natural", natural), ("perturbed", perturbed)):
        check_points("detect.fit", part, name)
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
    unknown = [name for name in scores if name not in SCORES]
    if unknown or not scores:
        message = f"detect.fit: `scores` must be among {', '.join(SCORES)}, got {list(scores)}."
        raise ParameterError(message)
    if scales is not None and not (scales and all(isinstance(scale, Scale) for scale in scales)):
        message = (
            "detect.fit: `scales` must be CentralDifference, SoftplusSurrogate or "
            f"GaussianSmoothing, at least one, got {list(scales)}."
        )
        raise ParameterError(message)
    if false_alarms is not None and not 0.0 < false_alarms < 1.0:
        message = f"detect.fit: `false_alarms` must lie between 0 and 1, got {false_alarms}."
        raise ParameterError(message)
