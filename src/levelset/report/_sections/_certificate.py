"""The section about certified radii: lower bounds beside the distances found."""

from collections.abc import Sequence

from levelset._display.palette import model_colours
from levelset._tools.medians import median
from levelset.auditing._result import Audit
from levelset.report._figures import histogram
from levelset.report._images import Pictures
from levelset.report._presentation import Presentation
from levelset.report._write import Section

__all__ = ["CERTIFICATE"]

_MEANING = (
    "The certified radius is a lower bound of the L∞ distance to the boundary: within it no input "
    "has another class, for certain and without a search, by bounds of every unit of the network. "
    "The distances above are upper bounds, each with a witness: the boundary lies between the two. "
    "A small radius says that little is certain, not that the boundary is near."
)


def _cards(audit: Audit) -> list[dict[str, str]]:
    middle = audit.summary().get("certified_inf_median")
    value = "none" if middle is None else f"{middle:.3g}"
    note = "a lower bound of the distance, over the inputs classified right"
    always = int(audit.columns["certified_inf"].isinf().sum())
    if always:
        note += f", without the {always:,} within whose bounds there is no other class"
    return [{"name": "Median certified radius, L∞", "value": value, "note": note}]


def _sections(audits: Sequence[Audit], pictures: Pictures | None) -> list[Section]:
    del pictures
    series, lines = [], []
    for audit, colour in zip(audits, model_colours(len(audits)), strict=True):
        right = audit.columns["correct"].bool()
        radius = audit.columns["certified_inf"][right]
        series.append((audit.name, colour, radius))
        lines.append(_line(audit, int((radius > 0).sum()), len(radius)))
    figure = histogram("Certified radius, L∞", series)
    return [Section("Certified radii", "\n\n".join([_MEANING, *lines]), figure)]


def _line(audit: Audit, certain: int, right: int) -> str:
    words = f"“{audit.name}”: {certain:,} of {right:,} inputs classified right have one above 0"
    nearest = audit.columns.get("distance_inf")
    if nearest is None:
        return words + "."
    radius = audit.columns["certified_inf"]
    both = audit.columns["correct"].bool() & nearest.isfinite() & (nearest > 0) & radius.isfinite()
    if not both.any():
        return words + "."
    share = 100.0 * median((radius[both] / nearest[both]).double())
    return f"{words}; at the median it is {share:.0f}\u00a0% of the distance found."


CERTIFICATE = Presentation("certificate", _cards, _sections)
