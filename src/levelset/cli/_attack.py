"""`levelset attack`: inputs moved across the decision boundary by a method of one's choice."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import levelset
from levelset._tools.extras import check_extras, optional
from levelset._tools.files import make_folder, write_whole
from levelset.cli._options import NORMS, Common, check_file, load_model, read_images, show
from levelset.cli._progress import bar, log
from levelset.cli._threads import choose_threads
from levelset.cli._words import count, number
from levelset.errors import ParameterError

__all__ = ["AttackCommand"]

if TYPE_CHECKING:
    import numpy as np
    import torch

    Method: TypeAlias = str
else:
    # What a file declares an attack, read without importing torch.
    _FILES = (Path(levelset.__file__).parent / "attacks").glob("_*.py")
    _DECLARED = re.compile(r"^@attack\(.*\)\ndef (\w+)\(", re.MULTILINE)
    _NAMES = [name for file in _FILES for name in _DECLARED.findall(file.read_text("utf-8"))]
    Method = Literal[tuple(sorted([*_NAMES, "ensemble"]))]


@dataclass(frozen=True, kw_only=True)
class AttackCommand(Common):
    """Move inputs across the decision boundary, and write them.

    Writes OUT, an .npz with inputs, points, labels, success and distance, and beside it a picture
    of the closest (.png). What is not given is left to the method; what it does not take is an
    error that says so.
    """

    model: str
    """A .pt2 or TorchScript file, module:callable, or the name of a built-in network (digits)."""
    data: str
    """A folder, a zip, .npz, .parquet, module:callable, or a name, as for audit."""
    method: Method
    """Which attack, by its name in levelset.attacks; ensemble makes one after another on the inputs
    that still stand (levelset.boundary.robust_accuracy)."""
    out: Path
    """The .npz to write."""
    weights: Path | None = None
    """Weights for module:callable or a built-in network: .safetensors, or a state dict .pt."""
    split: Literal["train", "test"] = "test"
    """Which part of the data."""
    limit: int | None = count(None)
    """Most inputs, the first of them."""
    radius: str | None = None
    """Largest size of a perturbation, in the units of the inputs, such as 0.3 or 8/255; those of
    least norm take none."""
    norm: Literal["0", "1", "2", "inf"] | None = None
    """In which norm."""
    target: int | None = None
    """The class to reach; inputs of that class are left out."""
    steps: int | None = count(None)
    """How many steps."""
    step_size: float | None = None
    """Length of a step."""
    loss: Literal["cross_entropy", "margin", "ratio"] | None = None
    """What to climb: cross_entropy, margin or ratio."""
    restarts: int | None = count(None)
    """Number of random starts."""
    effort: Literal["quick", "standard", "thorough"] | None = None
    """How long the ensemble searches; standard by default."""

    def execute(self) -> None:
        """Load, attack, write."""
        check_extras("attack", "plot")
        check_file(self.out)
        ensemble = self.method == "ensemble"
        family = levelset.boundary if ensemble else levelset.attacks
        method = getattr(family, "robust_accuracy" if ensemble else self.method)
        parameters = inspect.signature(method).parameters
        options = self._options(parameters)
        device = self.place()
        data = read_images(self.data, split=self.split, limit=self.limit)
        data = data if self.target is None else data[data.labels != self.target]
        points, labels = data.points.to(device), data.labels.to(device)
        model = load_model(self.model, self.weights)
        model = levelset.Classifier(model, bounds=data.bounds).to(device)
        log(choose_threads(model, points, self.threads))
        if self.target is not None:
            options["targets"] = labels.new_full((len(labels),), self.target)
        with bar(f"Attacking, {self.method}") as progress:
            options |= {"progress": progress} if "progress" in parameters else {}
            answer = method(model, points, labels, **options)
        result = _as_attack(answer, points) if ensemble else answer
        make_folder(self.out.parent)
        arrays = {"inputs": points, "labels": labels, "points": result.points}
        arrays |= {"success": result.success, "distance": result.distance}
        written = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
        write_whole(self.out, lambda part: _save(part, written))
        pictures = {} if result.points.dim() < 3 else _draw(result, self.out.with_suffix(".png"))
        show({**answer.summary(), **pictures, "inputs": str(self.out)}, json=self.json)

    def _options(self, parameters: Mapping[str, inspect.Parameter]) -> dict[str, object]:
        """Return the options given, or say which the method does not take."""
        options: dict[str, object] = {
            name: getattr(self, name)
            for name in ("steps", "step_size", "loss", "restarts", "effort", "batch_size")
            if getattr(self, name) is not None
        }
        if self.radius is not None:
            options["radius"] = number("--radius", self.radius)
        if self.norm is not None:
            options["norm"] = NORMS[self.norm]
        used = set(options) | ({"targets"} if self.target is not None else set())
        unknown = sorted(used - set(parameters))
        if unknown:
            flag = "--" + unknown[0].replace("_", "-").replace("targets", "target")
            message = f"{self.method} takes no {flag}. Leave it out, or choose another --method."
            raise ParameterError(message)
        radius = parameters.get("radius")
        if radius is not None and radius.default is radius.empty and "radius" not in options:
            message = f"{self.method} needs --radius, the largest size of a perturbation."
            raise ParameterError(message)
        return options | ({"generator": self.generator()} if "generator" in parameters else {})


def _as_attack(
    answer: "levelset.boundary.RobustAccuracy", points: "torch.Tensor"
) -> "levelset.attacks.Attack":
    """Return witnesses and distances as an attack does; the input itself where it withstood."""
    import torch

    made = torch.where(answer.points.isnan(), points, answer.points)
    length = torch.linalg.vector_norm((made - points).flatten(1), ord=answer.norm, dim=1)
    return levelset.attacks.Attack(
        points=made,
        success=~answer.robust,
        distance=torch.where(answer.robust, torch.inf, length),
        evaluations=answer.evaluations,
        gradients=answer.gradients,
        norm=answer.norm,
        inputs=points,
    )


def _save(path: Path, arrays: "dict[str, np.ndarray]") -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _draw(result: "levelset.attacks.Attack", path: Path) -> dict[str, str]:
    """Draw the closest, if anything was moved."""
    if not (result.success & (result.distance > 0)).any():
        return {}
    figures: Any = optional("matplotlib.figure", "plot", "attack")
    figure = figures.Figure(figsize=(9.0, 3.4), layout="constrained")
    levelset.plots.attack(result, figure.subplots())
    write_whole(path, lambda part: figure.savefig(part, format="png", dpi=150))
    return {"picture": str(path)}
