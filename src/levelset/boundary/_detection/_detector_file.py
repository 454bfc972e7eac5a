"""A detector on disk: numbers in safetensors, words in JSON; no code runs on reading."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from levelset._tools.files import make_folder, write_json, write_whole
from levelset.boundary._detection._scores import ScoreName, count_of
from levelset.boundary._second_order._smoothing import Scale
from levelset.errors import DataError, LevelSetError

__all__ = ["Held", "read", "write"]

_TENSORS = "detector.safetensors"
_WORDS = "detector.json"
# Raised whenever a score or a scale changes its meaning: old weights would judge new numbers.
_FORMAT = 2
_NUMBERS = ("threshold", "seed", "area", "area_low", "area_high")


class Held(NamedTuple):
    """What the files of a detector hold."""

    tensors: dict[str, Tensor]
    numbers: dict[str, float]
    scores: tuple[ScoreName, ...]
    scales: tuple[Scale, ...]
    shape: tuple[int, ...]
    """Number of classes, then the axes of one point."""


def write(folder: Path, held: Held) -> None:
    """Write a detector into a folder."""
    make_folder(folder)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in held.tensors.items()}
    write_whole(folder / _TENSORS, lambda partial: save_file(kept, partial))
    words = {
        "format": _FORMAT,
        # JSON knows no infinity; a threshold that flags all or none is written as a word.
        "numbers": {name: repr(value) for name, value in held.numbers.items()},
        "scores": list(held.scores),
        "scales": [{"kind": type(scale).__name__, **vars(scale)} for scale in held.scales],
        "shape": list(held.shape),
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
        held = _parsed(words, load_file(folder / _TENSORS))
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, LevelSetError,
    ) as error:  # fmt: skip
        message = (
            f"detect.load: `folder` must hold {_TENSORS} and {_WORDS} as Detector.save wrote them, "
            f"got {folder}: {type(error).__name__}: {error}."
        )
        raise DataError(message) from error
    return held


def _parsed(words: dict[str, Any], tensors: dict[str, Tensor]) -> Held:
    """Return the parts, each of which must be there and fit the others."""
    kinds = {kind.__name__: kind for kind in Scale.__subclasses__()}
    scales = [kinds[given["kind"]](**{k: v for k, v in given.items() if k != "kind"})
              for given in words["scales"]]  # fmt: skip
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
