"""A view a model and norm, of which the page shows the chosen one."""

from collections.abc import Callable, Sequence

from levelset._display.palette import model_colours
from levelset._tools.norms import norm_name
from levelset.auditing._result import Audit
from levelset.report._render import Html, render
from levelset.report._words import norm_words

__all__ = ["choices", "norms_of", "views"]


def norms_of(audits: Sequence[Audit]) -> list[float]:
    """Return every norm of any of the audits, in their order, once."""
    return list(dict.fromkeys(norm for audit in audits for norm in audit.norms))


def views(
    name: str,
    audits: Sequence[Audit],
    draw: Callable[[Audit, float], Html],
    *,
    inspector: bool = False,
) -> Html:
    """Return one view a model and norm, of which the page shows the chosen one."""
    shown = [
        {"audit": place, "norm": norm_name(norm), "content": draw(audit, norm)}
        for place, audit in enumerate(audits)
        for norm in audit.norms
    ]
    return render(
        "views.html.jinja", views=shown, choices=choices(audits, name), inspector=inspector
    )


def choices(audits: Sequence[Audit], name: str) -> Html:
    """Return the buttons that choose a model and a norm; `name` is that of their place."""
    norms = [(norm_name(norm), norm_words(norm)) for norm in norms_of(audits)]
    models = list(zip([audit.name for audit in audits], model_colours(len(audits)), strict=True))
    return render("choices.html.jinja", norms=norms, models=models, name=name)
