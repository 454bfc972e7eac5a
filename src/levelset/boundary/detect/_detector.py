"""Telling perturbed inputs from natural ones by the curvature of the boundaries around them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from levelset._tools.arguments import checked, checked_as
from levelset._tools.checks import check_batch_size, check_finite, check_labels
from levelset._tools.files import make_folder, write_json, write_whole
from levelset._tools.results import Result, Rows
from levelset._typing import Counts, Labels, Mask, Model, PerPoint, Points, Summary
from levelset.boundary._second_order._smoothing import Scale
from levelset.boundary.detect._roc import Roc
from levelset.boundary.detect._scores import (
    Features,
    ScoreName,
    class_scores,
    count_of,
    features,
)
from levelset.errors import DataError, FieldError, LevelSetError, ShapeError

__all__ = ["Detection", "Detector", "load"]

_TENSORS = "detector.safetensors"
_WORDS = "detector.json"
# Raised whenever a score or a scale changes its meaning: old weights would judge new numbers.
_FORMAT = 2
_NUMBERS = ("threshold", "seed", "area", "area_low", "area_high")


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

    def summary(self) -> Summary:
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

    def summary(self) -> Summary:
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
        features_ = features(self.model, points, self.scores, self.scales, self.seed, batch_size)
        if len(points) and features_.curvatures.shape[1] != self.classes:
            message = (
                f"Detector: `model` must return the {self.classes} logits of the one it was "
                f"fitted on, got {features_.curvatures.shape[1]}."
            )
            raise FieldError(message)
        classes = class_scores(features_, self.class_weights)
        score = self.score(features_).to(points.dtype)
        return Detection(score, score > self.threshold, classes.argmax(1), classes)

    def score(self, features: Features) -> Tensor:
        """Return the scores `(n,)` of features."""
        parts = [part.to(features.numbers) for part in (self.centre, self.spread, self.weights)]
        return ((features.numbers - parts[0]) / parts[1]) @ parts[2]

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


@checked_as("detect.load")
def load(folder: str | Path, model: Model) -> Detector:
    """Read a detector that was saved, for the model it was fitted on.

    Args:
        folder: Where it was saved.
        model: The same classifier.

    Raises:
        DataError: If the files are missing or damaged, or of another version of the format.
    """
    saved = read(Path(folder))
    tensors, numbers = saved.tensors, saved.numbers
    curve = Roc(
        tensors["false_alarms"], tensors["hits"], tensors["thresholds"],
        numbers["area"], numbers["area_low"], numbers["area_high"],
    )  # fmt: skip
    return Detector(
        model=model,
        scores=saved.scores,
        scales=saved.scales,
        centre=tensors["centre"],
        spread=tensors["spread"],
        weights=tensors["weights"],
        threshold=numbers["threshold"],
        class_weights=tensors["class_weights"],
        roc=curve,
        seed=int(numbers["seed"]),
        classes=saved.shape[0],
        shape=saved.shape[1:],
    )


class Held(NamedTuple):
    """What the files of a detector hold."""

    tensors: dict[str, Tensor]
    numbers: dict[str, float]
    scores: tuple[ScoreName, ...]
    scales: tuple[Scale, ...]
    shape: tuple[int, ...]
    """Number of classes, then the axes of one point."""


def write(folder: Path, saved: Held) -> None:
    """Write a detector into a folder."""
    make_folder(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in saved.tensors.items()}
    write_whole(folder / _TENSORS, lambda partial: save_file(tensors, partial))
    words = {
        "format": _FORMAT,
        # JSON knows no infinity; a threshold that flags all or none is written as a word.
        "numbers": {name: repr(value) for name, value in saved.numbers.items()},
        "scores": list(saved.scores),
        "scales": [{"kind": type(scale).__name__, **vars(scale)} for scale in saved.scales],
        "shape": list(saved.shape),
    }
    write_json(folder / _WORDS, words)


def read(folder: Path) -> Held:
    """Read what `write` wrote.

    Raises:
        DataError: If the files are missing, damaged, or of another format.
    """
    try:
        words = json.loads((folder / _WORDS).read_text(encoding="utf-8"))
        if words.get("format") != _FORMAT:
            message = f"format {words.get('format')}, not {_FORMAT}: fit the detector again"
            raise ValueError(message)
        saved = _parsed(words, load_file(folder / _TENSORS))
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, LevelSetError,
    ) as error:  # fmt: skip
        message = (
            f"detect.load: `folder` must hold {_TENSORS} and {_WORDS} as Detector.save wrote them, "
            f"got {folder}: {type(error).__name__}: {error}."
        )
        raise DataError(message) from error
    return saved


def _parsed(words: dict[str, Any], tensors: dict[str, Tensor]) -> Held:
    """Return the parts, each of which must be there and fit the others."""
    kinds = {kind.__name__: kind for kind in Scale.__subclasses__()}
    scales = [kinds[options["kind"]](**{k: v for k, v in options.items() if k != "kind"})
              for options in words["scales"]]  # fmt: skip
    scores, shape = tuple(words["scores"]), tuple(int(size) for size in words["shape"])
    numbers = {name: float(words["numbers"][name]) for name in _NUMBERS}
    numbers["seed"] = int(words["numbers"]["seed"])  # a float would round it
    if len(shape) < 2:
        message = f"shape must hold the number of classes and the axes of a point, got {shape}"
        raise ValueError(message)
    wide = {name: count_of(scores, len(scales)) for name in ("centre", "spread", "weights")}
    steps = len(tensors["thresholds"])
    sizes = {**wide, "class_weights": len(scales), "false_alarms": steps, "hits": steps}
    for name, size in sizes.items():
        if tensors[name].shape != (size,):
            message = f"{name} must hold {size} numbers, got {tuple(tensors[name].shape)}"
            raise ValueError(message)
    return Held(tensors, numbers, scores, tuple(scales), shape)
