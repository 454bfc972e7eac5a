"""A detector on disk: numbers in safetensors, words in JSON; no code runs on reading."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from levelset._tools.files import make_folder, write_json, write_whole
from levelset.boundary._detection._scores import ScoreName
from levelset.boundary._second_order._class_curvatures import Scale
from levelset.boundary._second_order._smoothing import (
    CentralDifference,
    GaussianSmoothing,
    SoftplusSurrogate,
)
from levelset.errors import DataError, LevelSetError

__all__ = ["Held", "read", "write"]

_TENSORS = "detector.safetensors"
_WORDS = "detector.json"
_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (CentralDifference, GaussianSmoothing, SoftplusSurrogate)
}


class Held(NamedTuple):
    """What the files of a detector hold."""

    tensors: dict[str, Tensor]
    numbers: dict[str, float]
    scores: tuple[ScoreName, ...]
    scales: tuple[Scale, ...]


def write(
    folder: Path,
    tensors: dict[str, Tensor],
    numbers: dict[str, float],
    scores: tuple[ScoreName, ...],
    scales: tuple[Scale, ...],
) -> None:
    """Write a detector into a folder."""
    make_folder(folder)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(folder / _TENSORS, lambda partial: save_file(kept, partial))
    words = {
        # JSON knows no infinity; a threshold that flags all or none is written as a word.
        "numbers": {name: repr(value) for name, value in numbers.items()},
        "scores": list(scores),
        "scales": [{"kind": type(scale).__name__, **asdict(scale)} for scale in scales],
    }
    write_json(folder / _WORDS, words)


def read(folder: Path) -> Held:
    """Read what `write` wrote."""
    try:
        tensors = load_file(folder / _TENSORS)
        words = json.loads((folder / _WORDS).read_text(encoding="utf-8"))
        scales = []
        for options in words["scales"]:
            scales.append(_KINDS[options.pop("kind")](**options))
        numbers = {name: float(value) for name, value in words["numbers"].items()}
        numbers["seed"] = int(words["numbers"]["seed"])
        missing = {"centre", "spread", "weights", "class_weights", "hits"} - set(tensors)
        if missing:
            raise KeyError(sorted(missing)[0])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, LevelSetError) as error:
        message = (
            f"detect.load: `folder` must hold {_TENSORS} and {_WORDS} as Detector.save wrote them, "
            f"got {folder}: {type(error).__name__}: {error}."
        )
        raise DataError(message) from error
    return Held(tensors, numbers, tuple(words["scores"]), tuple(scales))
