"""`levelset audit`: where the decision boundary lies around each input of a data set."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import tyro

import levelset
from levelset._tools.extras import check_extras
from levelset.cli._options import NORMS, Placed, load_model, now, read_images, show, usable_store
from levelset.cli._planes import planes_of
from levelset.cli._progress import bar, busy, log
from levelset.cli._words import count, number
from levelset.errors import ParameterError

if TYPE_CHECKING:
    from levelset.auditing._measures._curvature import SmoothingChoice

    Measure: TypeAlias = str
else:
    # A file each, whose names are read here without importing what measures need.
    _FILES = (Path(levelset.__file__).parent / "auditing" / "_measures").glob("_[a-z]*.py")
    Measure = Literal[tuple(sorted(path.stem[1:] for path in _FILES))]

__all__ = ["AuditCommand"]

# Pictures of class frequencies: the most noise, in ranges of an input's values (as in Bell 2023,
# figure 9), at how many noises, and how many copies are shown.
NOISE, LEVELS, COPIES = 1.6, 41, 9
# Draws of a smoothing that draws, as those that an audit chooses itself.
DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class AuditCommand(Placed):
    """Measure a classifier's decision boundary around each input, and write a report.

    Writes to OUT: report.html (open it in a browser), summary.json, manifest.json, and a row an
    input in measurements/*.parquet. Press Ctrl-C at any time; --resume goes on.
    """

    model: str
    """A .pt2 or TorchScript file, module:callable, or the name of a built-in network (digits)."""
    data: str
    """A folder (IDX files, or a folder of images a class), a zip of one, .npz, .parquet,
    module:callable, or a name: digits, or a folder of LEVELSET_DATA."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder for the results, or an address that fsspec knows, such as s3://bucket/run."""
    weights: Path | None = None
    """Weights for module:callable or a built-in network: .safetensors, or a state dict .pt."""
    split: Literal["train", "test"] = "test"
    """Which part of the data."""
    limit: int | None = count(None)
    """Most inputs, the first of them."""
    measure: tuple[Measure, ...] = ("distance",)
    """What to measure: distance to the boundary, robust accuracy within --radius, certified radius,
    the noise that a prediction survives, how the boundary bends."""
    norms: tuple[Literal["2", "inf"], ...] = ("2", "inf")
    """In which norms."""
    radius: tuple[str, ...] = ()
    """Within which radius to attack, such as 0.3 or 8/255, or several: L-infinity if that is among
    the norms, else L2. Adds the measure robust_accuracy."""
    effort: Literal["quick", "standard", "thorough"] = "standard"
    """How long to search for each input."""
    smoothing: str = "auto"
    """What stands for the second derivative in curvature: none (the network's own),
    softplus:SHARPNESS, gaussian:SIGMA, central:STEP or forward:STEP; auto takes what fits the
    network."""
    mean: tuple[float, ...] | None = None
    """Subtracted from the inputs before the model sees them: one number, or one a channel."""
    std: tuple[float, ...] | None = None
    """Divides the inputs after that: one number, or one a channel."""
    frequencies: tuple[int, ...] = ()
    """Inputs, by their number from 0, around which the report shows how often each class is met
    as noise grows."""
    section: tuple[int, ...] = ()
    """Inputs, by their number from 0, of which the report shows the plane through the nearest point
    of another class, and the singular values of the boundary near it."""
    resume: bool = False
    """Go on with the run that OUT holds."""

    def execute(self) -> None:
        """Load, measure, write."""
        check_extras("audit", "report", *(("ray",) if self.engine == "ray" else ()))
        store = usable_store(self.out)
        radius = [number("--radius", word) for word in self.radius]
        device, smoothing = self.place(), _smoothing(self.smoothing)
        data = read_images(self.data, split=self.split, limit=self.limit)
        self._check_indices(len(data))
        model = levelset.Classifier(
            load_model(self.model, self.weights),
            bounds=data.bounds,
            mean=self.mean,
            std=self.std,
            classes=data.classes,
        ).to(device)
        name = f"{Path(self.weights or self.model).stem} on {data.name}"
        points = data.points.to(device)
        log(self.where_words())
        date = now()
        with bar("Measuring") as progress:
            audit = levelset.audit(
                model,
                points,
                data.labels.to(device),
                measures=self.measure,
                norms=[NORMS[norm] for norm in self.norms],
                radius=radius,
                effort=self.effort,
                smoothing=smoothing,
                name=name,
                out=self.out,
                resume=self.resume,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
                **self.where(),
            )
        self.note(self.out, date)
        planes = planes_of(
            model, audit, self.section, batch_size=self.batch_size, generator=self.generator()
        )
        with busy("Writing the page"), store.file("report.html") as page:
            sections = [
                *levelset.report.audit(audit),
                *planes,
                *self._pictures(model, audit),
                levelset.report.about({name: self.out}),
            ]
            levelset.report.write(
                page,
                sections,
                title=f"Decision boundary: {name}",
                subtitle=levelset.report.subtitle(self.out),
            )
        settings = {k: str(v) for k, v in audit.settings.items() if k != "radii"}
        show({**audit.summary(), **settings, "report": f"{store}/report.html"}, json=self.json)

    def _check_indices(self, n: int) -> None:
        """Refuse inputs that are not there."""
        for option, indices in (("frequencies", self.frequencies), ("section", self.section)):
            bad = [index for index in indices if not 0 <= index < n]
            if bad:
                message = f"--{option} must lie in 0 to {n - 1}, got {bad[0]}."
                raise ParameterError(message)

    def _pictures(
        self, model: "levelset.Classifier", audit: "levelset.auditing.Audit"
    ) -> "list[levelset.report.Section]":
        """Return a section for each input of `frequencies`."""
        import torch

        generator, sections = self.generator(), []
        top = NOISE * (model.bounds[1] - model.bounds[0])
        sigmas = torch.linspace(0.0, top, LEVELS, device=audit.points.device)
        for index in self.frequencies:
            point = audit.points[index]
            shares = levelset.boundary.class_frequencies(
                model, point, sigmas, batch_size=self.batch_size, generator=generator
            )
            noise = torch.randn(COPIES, *point.shape, generator=generator).to(point)
            size = torch.linspace(0.0, top, COPIES).to(point)
            copies = point + size.view(-1, *[1] * point.dim()) * noise
            sections.append(
                levelset.report.class_frequencies(
                    shares,
                    sigmas,
                    classes=audit.classes,
                    copies=copies if point.dim() == 3 and point.shape[0] in (1, 3) else None,
                    bounds=audit.bounds,
                    name=f"input {index}",
                )
            )
        return sections


def _smoothing(text: str) -> "SmoothingChoice":
    """Return what `--smoothing` names."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    from levelset.boundary._second_order._smoothing import smoothings

    kinds = smoothings()
    kind, _, number = text.partition(":")
    try:
        smoothing = kinds[kind](float(number))
    except (KeyError, ValueError) as error:
        known = [f"{name}:{fields(made)[0].name.upper()}" for name, made in kinds.items()]
        message = (
            f"--smoothing must be auto, none, {', '.join(known[:-1])} or {known[-1]} with a "
            f"positive number, such as softplus:5, got {text!r}."
        )
        raise ParameterError(message) from error
    return replace(smoothing, draws=DRAWS) if smoothing.draws else smoothing
