"""Every measurement over a whole data set, in parts that survive an interruption."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.checks import (
    check_finite,
    check_points,
    check_positive,
)
from levelset._tools.engines import EngineName, Place
from levelset._tools.files import json_bytes
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm, norm_name
from levelset._tools.stores import store_of
from levelset._typing import Bounds, Labels, Model, Norms, Points, Progress
from levelset.attacks._search._problem import box_of
from levelset.auditing._answers import first_answers
from levelset.auditing._measure import Radius, Settings
from levelset.auditing._measures import MEASURES, declared, measures_of
from levelset.auditing._measures._curvature import SmoothingChoice
from levelset.auditing._result import Audit
from levelset.auditing._run import SUMMARY, Parts, identity, manifest, start_run
from levelset.auditing._work import Gathered, Work
from levelset.boundary import Effort
from levelset.errors import DataError, ParameterError
from levelset.fields import Classifier

__all__ = ["audit"]


@checked
def audit(
    model: Model,
    points: Points,
    labels: Labels,
    *,
    measures: str | Sequence[str] = ("distance",),
    norms: Norms = (2.0, math.inf),
    radius: float | Sequence[float] = (),
    bounds: Bounds | None = None,
    effort: Effort = "standard",
    smoothing: SmoothingChoice = "auto",
    classes: Sequence[str] | None = None,
    name: str = "model",
    out: str | Path | None = None,
    resume: bool = False,
    engine: EngineName = "local",
    workers: int | None = None,
    address: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Measure a classifier's decision boundary around each input of a data set.

    A row an input: what the model answers, by what margin, and for each norm how far the nearest
    point of another class is, with that point. Distances are upper bounds with a witness (see
    [`distance`][levelset.boundary.distance]). With `persistence` among the measures also how much
    noise its prediction survives (see [`persistence`][levelset.boundary.persistence]), and with
    both the same of an adversarial input of each of the first 100: the point 1.5 times as far as
    the witness. With a `radius`, or several, also which inputs withstand every attack within it
    (see [`robust_accuracy`][levelset.boundary.robust_accuracy]). With `curvature` also how the
    boundary with the runner-up bends (see [`curvature`][levelset.boundary.curvature]).
    The documentation lists every column with its unit.

    With `out`, the rows are written as they are found: `manifest.json` (what was run),
    `measurements/part-*.parquet` (the rows), `witnesses/part-*.safetensors` (inputs and
    witnesses), `summary.json` (at the end). Every file is written whole and renamed into place;
    an interrupted run goes on with `resume=True` and ends with the same rows as an unbroken one.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`; held in evaluation mode, left as found. For
            `persistence` alone it may answer integer labels, `(n,)`: margins are NaN then.
        points: The inputs, `(n, *d)`, in the data's own units.
        labels: Their classes, `(n,)`.
        measures: What to measure, in this order: `distance`, `robust_accuracy`, `certificate`,
            `persistence`, `curvature`.
        norms: In which norms, 2 and infinity, or in which one; for `distance`, and for `radius`.
        radius: Within which radius to attack, or which ones, in the units of the inputs: in
            L-infinity if that is among the norms, else in L2. Adds `robust_accuracy` to the
            measures.
        bounds: Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.
        effort: How long to search: `quick`, `standard` or `thorough`.
        smoothing: What stands for the second derivative in `curvature`: `SoftplusSurrogate`,
            `GaussianSmoothing`, `CentralDifference` or `ForwardDifference`; `None` for the
            network's own. `"auto"`: a softplus of sharpness 5 for the ReLUs of a network that has
            any, else the network's own, else, where that is zero or missing at each of the first
            16 inputs, noise of a tenth of the range with 100 draws.
        classes: Names of the classes; `None` for the classifier's own, or their numbers. Numbers
            in order count as no names, so that data without the last classes fits.
        name: What reports call this model.
        out: A folder for the results, or an address that fsspec knows, such as `s3://bucket/run`
            (`pip install s3fs`); `None` to keep them in memory only.
        resume: Go on with the run that `out` holds, if it holds one.
        engine: Where to run: `local`, in processes on this machine, or `ray`, on a cluster (needs
            the extra `ray`). The rows are the same to the bit on the same kind of processor.
        workers: How many parts are measured at a time, each on one processor thread; `None` for
            as many as `torch.get_num_threads()`, or as the cluster has processors (or devices)
            for. A part alone, or one expected to take longer than half a minute, gets all threads.
        address: Of the cluster, as `ray.init` takes it (`auto`, `HOST:PORT`, `ray://HOST:PORT`);
            `None` for the one that is in use here, or a new one on this machine.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        seed: Of everything random; the global random state is neither used nor moved.
        progress: Called as `progress(done, total)` in inputs: those whose share of the work is
            done, by the time that each measure takes.

    Returns:
        The rows and the witnesses.

    Raises:
        DataError: If there are no inputs, or NaN or infinite values among them.
        ParameterError: If inputs lie outside the bounds, labels out of range, or an option.
        FieldError: If the model returns another shape, NaN, rows that depend on each other, or
            labels where logits are needed, or the smoothing can be measured at none of the first
            inputs.
        RunError: If the folder cannot be written, holds another run, or another process is at
            work in it. If no cluster answers, its workers have another version of this package,
            or a part ends three workers.
        MissingExtraError: If Ray is chosen and not installed.

    References:
        - Atzmon et al. 2019, reply: attacks aimed at the decision boundary.
        - F. Croce, M. Hein, "Minimally distorted adversarial examples with a fast adaptive
          boundary attack", ICML 2020: the projection of the input inside the box.
    """
    measures = (measures,) if isinstance(measures, str) else measures
    radii = _radii(measures, radius, norms)
    measures = list(dict.fromkeys([*measures, *(["robust_accuracy"] if radii else [])]))
    _check(points, measures, norms, smoothing)
    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        box = box_of("audit", model, points, bounds)
        if classes is None and isinstance(model, Classifier):
            classes = model.classes
        original, model = model, as_logits("audit", model, points.detach(), labels=True)
        logits = first_answers(model, points, labels, measures, batch_size)
        labels = labels.long()
        names = _class_names(logits, labels, classes)
        measured = norms if "distance" in measures else ()
        checked_norms = tuple(check_norm("audit", norm) for norm in measured)
        asked = {"smoothing": smoothing, "radii": radii}
        settings = Settings(checked_norms, box, effort, batch_size, seed, asked)
        chosen = measures_of(measures)
        own: dict[str, Any] = {"radii": radii} if radii else {}
        for measure in chosen:
            own |= measure.options(model, points, settings)
            own |= {} if measure.limit is None else {measure.name: measure.limit}
        settings = replace(settings, own=own)
        store = None if out is None else store_of("audit", out)
        parts = None
        if store is not None:
            content = manifest(original, points, labels, _options(measures, settings, names))
            stack.enter_context(store.sole_user("audit"))
            start_run(store, content, resume=resume)
            columns = declared(settings.norms, radii)
            parts = Parts(store, identity(content), settings.norms, columns)
        place = Place(engine, workers, address)
        work = Work(model, points.detach(), labels, logits, chosen, settings, place, progress)
        result = _result(points, work.run(parts), settings, names, name)
        if store is not None:
            store.write(SUMMARY, json_bytes(result.summary()))
    return result


def _result(
    points: Tensor, gathered: Gathered, settings: Settings, classes: tuple[str, ...], name: str
) -> Audit:
    low, high = settings.bounds
    return Audit(
        points=points.detach(),
        columns=gathered.columns,
        witnesses=gathered.witnesses,
        norms=settings.norms,
        classes=classes,
        name=name,
        bounds=(float(torch.as_tensor(low).min()), float(torch.as_tensor(high).max())),
        settings=dict(settings.own),
    )


def _check(
    points: Tensor,
    measures: Sequence[str],
    norms: Sequence[float],
    smoothing: SmoothingChoice,
) -> None:
    check_points("audit", points)
    if len(points) == 0:
        message = "audit: `points` must hold at least one input, got an empty data set."
        raise DataError(message)
    check_finite("audit", points)
    unknown = [measure for measure in measures if measure not in MEASURES]
    if unknown or not measures:
        message = f"audit: `measures` must be among {', '.join(MEASURES)}, got {list(measures)}."
        raise ParameterError(message)
    if "distance" in measures and not norms:
        message = "audit: `norms` must name one at least for the measure distance, got none."
        raise ParameterError(message)
    if smoothing != "auto" and "curvature" not in measures:
        message = (
            "audit: `smoothing` is for the measure curvature, which is not among `measures`, got "
            f"{smoothing}. Add it, or leave `smoothing` out."
        )
        raise ParameterError(message)


def _radii(
    measures: Sequence[str], radius: float | Sequence[float], norms: Sequence[float]
) -> tuple[Radius, ...]:
    """Return the radii with their norm, each once."""
    sizes = radius if isinstance(radius, Sequence) else [radius]
    for size in sizes:
        check_positive("audit", "radius", size)
    if "robust_accuracy" in measures and not sizes:
        message = (
            "audit: `radius` must be given for the measure robust_accuracy, got none. Say within "
            "which perturbations to attack, such as 0.3."
        )
        raise ParameterError(message)
    if sizes and not norms:
        message = "audit: `norms` must name one at least for `radius`, got none."
        raise ParameterError(message)
    known = [check_norm("audit", norm) for norm in norms]
    norm = math.inf if math.inf in known else 2.0
    return tuple(dict.fromkeys(Radius(norm, float(size)) for size in sizes))


def _class_names(logits: Tensor, labels: Tensor, classes: Sequence[str] | None) -> tuple[str, ...]:
    known = () if classes is None else tuple(classes)
    if logits.dim() == 1:  # labels: as many as are named or met
        count = max(len(known), int(logits.max()) + 1, int(labels.max()) + 1)
    else:
        count = logits.shape[1]
    numbers = tuple(str(k) for k in range(count))
    if known == numbers[: len(known)]:
        return numbers
    if len(known) != count:
        message = f"audit: `classes` must name all {count} logits, got {len(known)} names."
        raise ParameterError(message)
    return known


def _options(
    measures: Sequence[str], settings: Settings, classes: tuple[str, ...]
) -> dict[str, object]:
    low, high = settings.bounds
    return {
        "measures": list(measures),
        "norms": [norm_name(norm) for norm in settings.norms],
        "effort": settings.effort,
        "seed": settings.seed,
        **{k: v if isinstance(v, int) else str(v) for k, v in settings.own.items()},
        "bounds": [torch.as_tensor(low).tolist(), torch.as_tensor(high).tolist()],
        "classes": list(classes),
    }
