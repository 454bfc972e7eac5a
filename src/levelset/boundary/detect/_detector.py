"""Telling perturbed inputs from natural ones by the curvature of the boundaries around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from levelset._tools.arguments import checked, checked_as
from levelset._tools.checks import check_batch_size, check_finite, check_labels, check_whole
from levelset._tools.random import draw_seed
from levelset._tools.results import Result, Rows
from levelset._typing import Counts, Labels, Mask, Model, PerPoint, Points
from levelset.boundary._detection._detector_file import Held, read, write
from levelset.boundary._detection._fit import Roc, choices, logistic, most_accurate, roc
from levelset.boundary._detection._scores import (
    Features,
    ScoreName,
    chosen_scores,
    class_scores,
    features,
    standardised,
)
from levelset.boundary._second_order._differences import CentralDifference
from levelset.boundary._second_order._gaussian import GaussianSmoothing
from levelset.boundary._second_order._smoothing import Scale
from levelset.errors import DataError, FieldError, ParameterError, ShapeError

__all__ = ["Detection", "Detector", "fit", "load"]

# The two finer scales see the kinks of the network, the ties of its max-pools on an even background
# among them; the last sees its whole region. The first and the last rank the classes by themselves.
SCALES: tuple[Scale, ...] = (
    CentralDifference(0.1),
    CentralDifference(0.03),
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

    @checked
    def rank(self, classes: Labels) -> Counts:
        """Return the place of a class for each input among the class scores, 0 for the first."""
        check_labels(
            "Detection.rank", classes, self.class_scores, self.class_scores.shape[1], "classes"
        )
        own = self.class_scores.gather(1, classes.unsqueeze(1))
        return (self.class_scores > own).sum(1)

    def summary(self) -> dict[str, int | float]:
        """Return how many were flagged."""
        return {"points": len(self), "flagged": int(self.flagged.sum())}


@dataclass(frozen=True, eq=False, repr=False)
class Detector(Result):
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
        seed: Of the noise it measures with, the same for each input.
        classes: Number of the classifier's logits.
        shape: Of one input.
    """

    _headline: ClassVar = ("scores", "shape", "area", "threshold")

    model: Model
    scores: tuple[ScoreName, ...]
    scales: tuple[Scale, ...]
    centre: Tensor
    spread: Tensor
    weights: Tensor
    threshold: float
    class_weights: Tensor
    roc: Roc
    seed: int
    classes: int
    shape: tuple[int, ...]

    def summary(self) -> dict[str, int | float]:
        """Return the number of features, the threshold and the area under the curve."""
        return {
            "features": len(self.weights),
            "threshold": self.threshold,
            "area": self.roc.area,
            "classes": self.classes,
        }

    @checked
    def __call__(self, points: Points, *, batch_size: int | None = None) -> Detection:
        """Measure points and judge them.

        Args:
            points: The inputs, `(n, *d)`.
            batch_size: Most points an evaluation; `None` for the number that runs fastest.

        Raises:
            FieldError: If the model has another number of classes than it was fitted on.
            ShapeError: If the points have another shape than those it was fitted on.
        """
        check_finite("Detector", points)
        check_batch_size("Detector", batch_size)
        if points.shape[1:] != self.shape:
            message = (
                f"Detector: `points` must have the shape (n, {', '.join(map(str, self.shape))}) "
                f"of those it was fitted on, got {tuple(points.shape)}."
            )
            raise ShapeError(message)
        found = features(self.model, points, self.scores, self.scales, self.seed, batch_size)
        if len(points) and found.curvatures.shape[1] != self.classes:
            message = (
                f"Detector: `model` must return the {self.classes} logits of the one it was "
                f"fitted on, got {found.curvatures.shape[1]}."
            )
            raise FieldError(message)
        classes = class_scores(found, self.class_weights)
        score = self.score(found).to(points.dtype)
        return Detection(score, score > self.threshold, classes.argmax(1), classes)

    def score(self, found: Features) -> Tensor:
        """Return the scores `(n,)` of features."""
        kept = [part.to(found.numbers) for part in (self.centre, self.spread, self.weights)]
        return ((found.numbers - kept[0]) / kept[1]) @ kept[2]

    @checked
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

    @checked
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
        shape = (self.classes, *self.shape)
        write(Path(folder), Held(tensors, numbers, self.scores, self.scales, shape))


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


@checked_as("detect.load")
def load(folder: str | Path, model: Model) -> Detector:
    """Read a detector that was saved, for the model it was fitted on.

    Args:
        folder: Where it was saved.
        model: The same classifier.

    Raises:
        DataError: If the files are missing or damaged, or of another version of the format.
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
        classes=held.shape[0],
        shape=held.shape[1:],
    )


def _scales(scales: Scale | Sequence[Scale] | None) -> tuple[Scale, ...]:
    """Return the scales asked for, or the default ones."""
    if scales is None:
        return SCALES
    if isinstance(scales, Scale):
        return (scales,)
    if not scales:
        message = "detect.fit: `scales` must hold at least one smoothing, got none."
        raise ParameterError(message)
    return tuple(scales)


def _class_weights(found: Features, originals: Labels | None, perturbed: Tensor) -> Tensor:
    count = found.curvatures.shape[2]
    if originals is None:
        weights = found.numbers.new_zeros(count)
        weights[-1] = 0.5
        weights[0] = -1.0
        return weights
    check_labels("detect.fit", originals, perturbed, found.curvatures.shape[1], "originals")
    moved = found.curvatures[:, :, 0].gather(1, originals.unsqueeze(1))[:, 0].isfinite()
    if not moved.any():
        message = (
            "detect.fit: `originals` must differ from what the model answers now for some of "
            "`perturbed`, got the same for all. Give attacked inputs that changed class."
        )
        raise DataError(message)
    return choices(standardised(found.curvatures)[moved], originals[moved])


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
