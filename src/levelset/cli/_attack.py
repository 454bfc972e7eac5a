"""`levelset attack`: inputs moved across the decision boundary by a method of one's choice."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import levelset
from levelset._tools.extras import check_extras, optional
from levelset._tools.files import make_folder, write_whole
from levelset.cli._options import NORMS, Common, check_file, load_model, read_images, show
from levelset.cli._progress import bar, log
from levelset.cli._threads import choose_threads
from levelset.cli._words import count
from levelset.errors import ParameterError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Attack"]

Method = Literal[
    "alma", "carlini_wagner", "ddn", "deepfool", "direct_boundary", "fab", "fgsm", "fmn", "igsm",
    "jsma", "lbfgs", "mi_fgsm", "pgd", "r_fgsm", "random_direction", "square",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Attack(Common):
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
    """Which attack, by its name in levelset.attacks."""
    out: Path
    """The .npz to write."""
    weights: Path | None = None
    """Weights for module:callable or a built-in network: .safetensors, or a state dict .pt."""
    split: Literal["train", "test"] = "test"
    """Which part of the data."""
    limit: int | None = count(None)
    """Most inputs, the first of them."""
    radius: float | None = None
    """Largest size of a perturbation, in the units of the inputs; those of least norm take none."""
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

    def run(self) -> None:
        """Load, attack, write."""
        check_extras("attack", "plot")
        check_file(self.out)
        method = getattr(levelset.attacks, self.method)
        taken = set(inspect.signature(method).parameters)
        options = self._options(taken)
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
            options |= {"progress": progress} if "progress" in taken else {}
            found = method(model, points, labels, **options)
        make_folder(self.out.parent)
        arrays = {"inputs": points, "labels": labels, "points": found.points}
        arrays |= {"success": found.success, "distance": found.distance}
        written = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
        write_whole(self.out, lambda part: _save(part, written))
        pictures = {} if found.points.dim() < 3 else _draw(found, self.out.with_suffix(".png"))
        show({**found.summary(), **pictures, "inputs": str(self.out)}, json=self.json)

    def _options(self, taken: set[str]) -> dict[str, object]:
        """Return the options given, or say which the method does not take."""
        given: dict[str, object] = {
            name: getattr(self, name)
            for name in ("radius", "steps", "step_size", "loss", "restarts", "batch_size")
            if getattr(self, name) is not None
        }
        if self.norm is not None:
            given["norm"] = NORMS[self.norm]
        wanted = set(given) | ({"targets"} if self.target is not None else set())
        unknown = sorted(wanted - taken)
        if unknown:
            flag = "--" + unknown[0].replace("_", "-").replace("targets", "target")
            message = f"{self.method} takes no {flag}. Leave it out, or choose another --method."
            raise ParameterError(message)
        if "radius" in taken and "radius" not in given and self.method != "fab":
            message = f"{self.method} needs --radius, the largest size of a perturbation."
            raise ParameterError(message)
        return given | ({"generator": self.generator()} if "generator" in taken else {})


def _save(path: Path, arrays: "dict[str, np.ndarray]") -> None:
    import numpy as np

    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _draw(found: "levelset.attacks.Attack", path: Path) -> dict[str, str]:
    """Draw the closest, if anything was moved."""
    if not (found.success & (found.distance > 0)).any():
        return {}
    figures: Any = optional("matplotlib.figure", "plot", "attack")
    figure = figures.Figure(figsize=(9.0, 3.4), layout="constrained")
    levelset.plots.attack(found, figure.subplots())
    write_whole(path, lambda part: figure.savefig(part, format="png", dpi=150))
    return {"picture": str(path)}
