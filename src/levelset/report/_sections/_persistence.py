"""The sections about noise: persistence beside certificates, class by class."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from levelset._display.palette import model_colours
from levelset._tools.arguments import checked
from levelset._tools.medians import median
from levelset.auditing._measures._persistence import BEYOND, FIRST
from levelset.auditing._result import Audit
from levelset.boundary import Persistence
from levelset.errors import ParameterError
from levelset.report._figures import histogram
from levelset.report._images import Pictures
from levelset.report._presentation import Presentation
from levelset.report._render import figure_html, grid_html
from levelset.report._write import Section

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["PERSISTENCE", "persistence"]

_MEANING = (
    "Persistence is the noise (standard deviation of each value of the input) at which the share "
    "of noisy copies that keep the prediction first falls to 70 %: an estimate, for the model as "
    "it is. The certified radius is a lower bound in L₂, each with a confidence of 95 %, and for "
    "another classifier, the one that answers what most copies under Gaussian noise get: no "
    "perturbation within it changes that answer. The noise of that classifier is of about the "
    "persistence, another for each input: the column certified_sigma."
)

_MEDIANS = "Medians over the {} of each class, of the finite numbers."


def _cards(audit: Audit) -> list[dict[str, str]]:
    summary = audit.summary()
    always = int(audit.columns["sigma_star"].isinf().sum())
    certified = summary.get("certified_radius_median")
    note = "noise at which 70\u00a0% of the copies keep the prediction"
    if always:
        note += f", without the {always:,} that keep it under any noise tried"
    if certified is not None:
        note += (
            f"; under Gaussian noise of about that size the smoothed classifier's certified L₂ "
            f"radius is {certified:.3g} (95\u00a0% confidence)"
        )
    value = f"{summary['sigma_star_median']:.3g}" if "sigma_star_median" in summary else "none"
    return [{"name": "Median persistence", "value": value, "note": note}]


def _sections(audits: Sequence[Audit], pictures: Pictures | None) -> list[Section]:
    del pictures
    values = {audit.name: audit.columns["sigma_star"] for audit in audits}
    certified = {audit.name: audit.columns["certified_radius"] for audit in audits}
    # Those of inputs that keep their class under any noise are as large as the largest noise tried.
    drawn = {name: certified[name][values[name].isfinite()] for name in values}
    figures = [
        figure_html(_histogram(values, "Persistence"), "Histogram of persistence"),
        figure_html(_histogram(drawn, "Certified radius, L₂"), "Histogram of certified radii"),
    ]
    lines = [_left_out(audit.name, values[audit.name], certified[audit.name]) for audit in audits]
    columns = _by_class(
        {audit.name: audit.columns["prediction"] for audit in audits}, values, certified,
        audits[0].classes,
    )  # fmt: skip
    return [
        Section("Noise", "\n\n".join([_MEANING, *lines]), grid_html(figures)),
        Section("Noise by predicted class", _MEDIANS.format("inputs"), columns),
        *_adversarial(audits),
    ]


def _adversarial(audits: Sequence[Audit]) -> list[Section]:
    """Return the section that sets natural beside adversarial inputs, if any were measured."""
    values: dict[str, Tensor] = {}
    lines = []
    for audit in audits:
        both = audit.columns.get("sigma_star_adversarial")
        known = torch.zeros(0) if both is None else (~both.isnan()).nonzero().flatten()
        if both is None or not len(known):
            continue
        pair = {"natural": audit.columns["sigma_star"][known], "adversarial": both[known]}
        middle = {kind: _median(sigma) for kind, sigma in pair.items()}
        count = f"{len(known):,} {'input' if len(known) == 1 else 'inputs'}"
        lines.append(
            f"“{audit.name}”: {count}, median persistence {middle['natural']:.3g}; of their "
            f"adversarial inputs {middle['adversarial']:.3g}."
        )
        start = f"{audit.name}, " if len(audits) > 1 else ""
        values |= {f"{start}{kind}": sigma for kind, sigma in pair.items()}
    if not values:
        return []
    most = max(audit.settings.get("adversarial", FIRST) for audit in audits)
    text = (
        f"The persistence of inputs classified right, of the first {most:,}, and of an "
        f"adversarial input of each: the point {BEYOND:g} times as far as the witness on the line "
        "through it, within the bounds, where it is classified otherwise. A witness itself lies on "
        "the boundary, and noise of any size turns about half of its copies. Infinite numbers are "
        "left out of histogram and medians."
    )
    figure = _histogram(values, "Persistence")
    return [Section("Natural against adversarial", "\n\n".join([text, *lines]), figure)]


@checked
def persistence(
    results: Persistence | Mapping[str, Persistence], *, classes: Sequence[str] | None = None
) -> list[Section]:
    """Return the sections of a page that compares persistence, as of natural and perturbed inputs.

    A histogram with one outline a result, and a table with a row for each class of the inputs.

    Args:
        results: One result, or several by their names on the page.
        classes: Names of the classes, from 0; `None` for their numbers.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 or plotly is not installed.
        ParameterError: If there is no result, or a class without a name.
    """
    by_name = {"inputs": results} if isinstance(results, Persistence) else dict(results)
    if not by_name or not any(len(result) for result in by_name.values()):
        message = "report.persistence: `results` must hold at least one point, got none."
        raise ParameterError(message)
    figure = _histogram({name: result.sigma for name, result in by_name.items()}, "Persistence")
    gammas = sorted({result.gamma for result in by_name.values()})
    text = (
        f"The noise at which the share of copies that keep the class first falls to gamma = "
        f"{', '.join(f'{gamma:g}' for gamma in gammas)}."
    )
    lines = [_left_out(name, r.sigma, r.certified_radius) for name, r in by_name.items()]
    columns = _by_class(
        {name: result.classes for name, result in by_name.items()},
        {name: result.sigma for name, result in by_name.items()},
        {name: result.certified_radius for name, result in by_name.items()},
        classes,
    )
    return [
        Section("Persistence", "\n\n".join([text, *lines]), figure),
        Section("Persistence by class", _MEDIANS.format("points"), columns),
    ]


def _histogram(values: Mapping[str, Tensor], words: str) -> "Figure":
    series = zip(values, model_colours(len(values)), values.values(), strict=True)
    return histogram(words, list(series))


def _left_out(name: str, sigma: Tensor, certified: Tensor) -> str:
    """Return how many inputs the histograms show, and why not the others."""
    never, always = int((sigma == 0).sum()), int(sigma.isinf().sum())
    bare = int((~certified.isfinite()).sum())
    words = [f"“{name}”: {len(sigma) - always:,} drawn"]
    if always:
        words.append(f"{always:,} keep their class under any noise tried, not drawn")
    if never:
        words.append(f"{never:,} lose it however little the noise, drawn at 0")
    if bare:
        words.append(f"{bare:,} without a certified radius, left out")
    return "; ".join(words) + "."


def _median(values: Tensor) -> float:
    """Return the median of the finite values, NaN where there is none."""
    known = values[values.isfinite()]
    return median(known) if len(known) else math.nan


def _by_class(
    labels: Mapping[str, Tensor],
    sigma: Mapping[str, Tensor],
    certified: Mapping[str, Tensor],
    classes: Sequence[str] | None,
) -> dict[str, list[object]]:
    """Return a table with a row for each class of the inputs and result, by its name."""
    met = sorted({int(k) for column in labels.values() for k in column.tolist()})
    if classes is not None and met and met[-1] >= len(classes):
        message = (
            f"report.persistence: `classes` must name every class, 0 to {met[-1]}, got "
            f"{len(classes)} names."
        )
        raise ParameterError(message)
    named = [str(k) if classes is None or k < 0 else classes[k] for k in met]
    columns: dict[str, list[object]] = {"class": list(named)}
    for name, column in labels.items():
        end = f", {name}" if len(labels) > 1 else ""
        members = [column == k for k in met]
        columns[f"inputs{end}"] = [int(rows.sum()) for rows in members]
        for words, values in (("persistence", sigma), ("certified radius", certified)):
            medians = [_median(values[name][rows]) for rows in members]
            columns[f"{words}{end}"] = ["" if math.isnan(m) else m for m in medians]
    return columns


PERSISTENCE = Presentation("persistence", _cards, _sections)
