"""The sections of a page about what predictions are made of: a section an input."""

from collections.abc import Sequence

from torch import Tensor

from levelset._display.palette import MODEL_COLOURS
from levelset._tools.arguments import checked
from levelset._tools.checks import check_same_rows, integer_labels
from levelset._typing import Labels, Points
from levelset.errors import ShapeError
from levelset.kernels import Explanation, Suspects
from levelset.report._images import data_uri
from levelset.report._render import Html, render
from levelset.report._write import Section, anchors

__all__ = ["explanation", "mislabelled"]

_TITLE = "What the predictions are made of"
_ABOUT = (
    "Training moved each logit from where it was before the first step to where it is, step by "
    "step, and every step is a sum over training points. So each training point has a signed share "
    "in the prediction, and all shares sum to it: nothing is estimated. Shares have both signs and "
    "cancel to a large part; what raised the logit most and what lowered it most are shown with "
    "their shares in the logit of the predicted class."
)


@checked
def explanation(
    result: Explanation,
    points: Points,
    labels: Labels,
    *,
    truth: Tensor | None = None,
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
) -> list[Section]:
    """Return the sections of a page: one on all inputs, then one an input.

    Args:
        result: From [`explain`][levelset.kernels.explain].
        points: The training points, `(m, *d)`.
        labels: Their labels, `(m,)`.
        truth: The labels of the inputs, `(n,)`; `None` where not known.
        names: What each input is called; numbers if empty.
        classes: Names of the classes; numbers if empty.
        bounds: The values that are shown black and white.

    Returns:
        What [`write`][levelset.report.write] takes.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        ShapeError: If there are fewer points, labels or names than the result is of.
    """
    if truth is not None:
        truth = integer_labels("explanation", truth, result.points, "truth")
    check_same_rows("explanation", points, labels, "labels")
    for indices in (
        result.pushed_for, result.pushed_against, result.neighbours, result.pixel_neighbours,
    ):  # fmt: skip
        _check_points("explanation", points, indices)
    if names and len(names) != len(result):
        message = (
            f"explanation: `names` must hold one name an input ({len(result)}), got {len(names)}."
        )
        raise ShapeError(message)
    page = _Page(result, points, labels, list(names), list(classes), bounds)
    inputs = [page.section(row, truth) for row in range(len(result))]
    return [Section(_TITLE, _ABOUT, page.overview(truth)), *inputs]


@checked
def mislabelled(
    result: Suspects,
    points: Points,
    *,
    classes: Sequence[str] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
    limit: int = 60,
) -> Section:
    """Return a section with the training points whose labels the others contradict most.

    Args:
        result: From [`suspects`][levelset.kernels.suspects].
        points: The training points, `(n, *d)`.
        classes: Names of the classes; numbers if empty.
        bounds: The values that are shown black and white.
        limit: Most pictures.

    Raises:
        MissingExtraError: If jinja2 is not installed.
        ShapeError: If there are fewer points than the result is of.
    """
    _check_points("mislabelled", points, result.indices)
    first = result[slice(0, limit)]
    cells = []
    for row in range(len(first)):
        label, other = (_called(classes, int(part[row])) for part in (first.labels, first.others))
        place = int(first.indices[row])
        cells.append({
            "picture": data_uri(points[place], bounds), "title": f"{label} → {other}?",
            "note": f"point {place}, {float(first.opposition[row]):+.2f}", "of": f"Point {place}",
        })  # fmt: skip
    text = (
        f"{int((result.opposition > 0).sum()):,} of {len(result):,} labels are contradicted by the "
        "other training points: without the point's own share its prediction is another class. "
        "Those first whose label is contradicted most."
    )
    return Section("Suspect labels", text, render("thumbnails.html.jinja", title="", cells=cells))


def _check_points(function: str, points: Tensor, indices: Tensor) -> None:
    """Refuse points of which some that a result names are not there."""
    least = int(indices.max()) + 1 if indices.numel() else 0
    if len(points) < least:
        message = (
            f"{function}: `points` must be the training points of the result, at least {least}, "
            f"got {len(points)}."
        )
        raise ShapeError(message)


class _Page:
    """Draws the parts of the page, all with the same training points."""

    def __init__(
        self, result: Explanation, points: Tensor, labels: Tensor, names: list[str],
        classes: list[str], bounds: tuple[float, float],
    ) -> None:  # fmt: skip
        self.result, self.points, self.labels = result, points, labels
        self.names = names or [str(row) for row in range(len(result))]
        self.classes, self.bounds = classes, bounds
        self.links = anchors([_TITLE, *(self.title(row) for row in range(len(result)))])[1:]

    def overview(self, truth: Tensor | None) -> Html:
        """Return numbers of all inputs, with a picture that leads to the section of each."""
        cells = [
            {
                "picture": data_uri(self.result.points[row], self.bounds),
                "title": _called(self.classes, int(self.result.prediction[row])),
                "note": self._note(row, truth), "of": f"Input {self.names[row]}",
                "link": self.links[row],
            }
            for row in range(len(self.result))
        ]  # fmt: skip
        cards = _cards([(
            "Identity error", f"{self.result.identity_error:.1e}",
            "largest difference of the sum of all shares and the network's logits",
        )])  # fmt: skip
        return Html(cards.markup + render("thumbnails.html.jinja", title="", cells=cells).markup)

    def title(self, row: int) -> str:
        """Return the heading of an input's section."""
        return f"Input {self.names[row]}"

    def section(self, row: int, truth: Tensor | None) -> Section:
        """Return the section of one input."""
        result = self.result
        chosen = int(result.prediction[row])
        name = _called(self.classes, chosen)
        start = float(result.start[row, chosen])
        cards = _cards([
            ("Prediction", name, self._note(row, truth)),
            ("Its logit", f"{float(result.logits[row, chosen]):.2f}", f"{start:+.2f} at the start"),
            ("Raised by", f"{float(result.toward[row]):.1f}", "all positive shares together"),
            ("Lowered by", f"{-float(result.against[row]):.1f}", "all negative shares together"),
            ("Weight decay", f"{float(result.weight_decay[row]):+.2g}", "belongs to no point"),
            ("Posterior variance", f"{float(result.variance[row]):.2g}",
             "0 where like inputs were seen, 1 where none"),
        ])  # fmt: skip
        lists = [
            (f"Pushed for “{name}”", result.pushed_for, result.shares_for, "{:+.3f}"),
            (f"Pushed against “{name}”", result.pushed_against, result.shares_against, "{:+.3f}"),
            ("Nearest to the network", result.neighbours, result.similarity, "cosine {:.2f}"),
            (
                "Nearest in pixels",
                result.pixel_neighbours,
                result.pixel_distance,
                "distance {:.2f}",
            ),
        ]
        own = {
            "picture": data_uri(result.points[row], self.bounds), "title": name,
            "note": self._note(row, truth), "of": f"Input {self.names[row]}",
        }  # fmt: skip
        parts = [cards, render("thumbnails.html.jinja", title="The input", cells=[own])]
        parts += [self._list(row, *one) for one in lists]
        return Section(self.title(row), "", Html("\n".join(part.markup for part in parts)))

    def _list(self, row: int, title: str, indices: Tensor, values: Tensor, form: str) -> Html:
        cells = [
            {
                "picture": data_uri(self.points[place], self.bounds),
                "title": _called(self.classes, int(self.labels[place])),
                "note": f"{form.format(value)}, point {place}", "of": f"Training point {place}",
            }
            for place, value in zip(indices[row].tolist(), values[row].tolist(), strict=True)
        ]  # fmt: skip
        return render("thumbnails.html.jinja", title=title, cells=cells)

    def _note(self, row: int, truth: Tensor | None) -> str:
        if truth is None:
            return f"input {self.names[row]}"
        label = int(truth[row])
        is_right = label == int(self.result.prediction[row])
        return "right" if is_right else f"wrong: it is {_called(self.classes, label)}"


def _cards(cards: list[tuple[str, str, str]]) -> Html:
    entries = [{"name": name, "value": value, "note": note} for name, value, note in cards]
    group = {"name": "", "colour": MODEL_COLOURS[0], "cards": entries}
    return render("glance.html.jinja", groups=[group], several=False, rows=[])


def _called(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else str(label)
