"""Runs of `levelset train --record`: written with what `levelset explain` needs to read them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import levelset
from levelset._tools.files import write_json
from levelset.cli._options import read_images
from levelset.errors import DataError, ParameterError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from levelset.datasets import Images
    from levelset.kernels import PathKernel
    from levelset.training import Recipe, Recording

__all__ = ["open_recorded", "record_run"]


def record_run(
    network: "nn.Module", data: "Images", recipe: "Recipe", *, out: Path, written: dict[str, Any],
    resume: bool, generator: "torch.Generator", progress: Any,
) -> "Recording":  # fmt: skip
    """Train with the path of the weights kept; write what `levelset explain` asks for.

    Args:
        network: With its initial weights.
        data: The training data.
        recipe: What to do; its loss must be the cross-entropy.
        out: The folder.
        written: The words by which data and network are found again.
        resume: Whether to go on with the run in the folder.
        generator: Of the order of the inputs.
        progress: Called after each step.
    """
    if recipe.loss != "cross_entropy":
        message = (
            f"--record keeps the path of plain training: --loss must be cross_entropy, got "
            f"{recipe.loss!r}. Leave --record or --loss out."
        )
        raise ParameterError(message)
    name = recipe.optimizer
    momentum = 0.9 if name in ("momentum", "nesterov") else 0.0
    kind: Literal["sgd", "adam", "adamw"] = name if name in ("adam", "adamw") else "sgd"
    steps = recipe.epochs * -(-len(data) // recipe.batch_size)
    recording = levelset.training.record(
        network, data.points, data.labels, steps=steps, learning_rate=recipe.learning_rate,
        schedule=levelset.training.build_schedule(recipe.schedule), folder=out,
        optimizer=kind, momentum=momentum,
        nesterov=name == "nesterov", weight_decay=recipe.weight_decay,
        batch_size=recipe.batch_size, resume=resume, generator=generator, progress=progress,
    )  # fmt: skip
    write_json(out / "run.json", written | {"network": recipe.network})
    levelset._recording._files.write_tensors(out / "weights.safetensors", network.state_dict(), {})
    return recording


def open_recorded(run: Path) -> tuple["PathKernel", "Images"]:
    """Return the path kernel of a recorded run, and the data that it was trained on.

    Raises:
        DataError: If there is no such run, or its data are no longer the same.
    """
    path = run / "run.json"
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
        spec, limit, network = words["data"], words["limit"], words["network"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = (
            f"--run {run} holds no recorded training. Make one with "
            f"`levelset train --record --data D --network N --out {run}`."
        )
        raise DataError(message) from error
    data = read_images(spec, split="train", limit=limit)
    model = levelset.datasets.build_network(network)
    recording = levelset.training.Recording.read(run, model)
    return levelset.kernels.PathKernel(recording, data.points, data.labels), data
