"""Declaring an attack: its options checked, its model held, what all attacks take described."""

import functools
import inspect
import math
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._tools.modes import frozen
from levelset._tools.norms import check_norm

__all__ = ["attack", "described"]

T = TypeVar("T", bound=Callable[..., Any])

_ARGUMENTS = {
    "model": "Maps `(n, *d)` to logits `(n, k)`.",
    "points": "The inputs, `(n, *d)`, inside the bounds.",
    "labels": "Their classes, `(n,)`; `None` for the model's own predictions.",
    "targets": "The classes to reach, `(n,)`; `None` for any other than the label.",
    "radius": "Largest norm of a perturbation, in the units of the points.",
    "bounds": "Smallest and largest value of an input; `None` for the classifier's own, or 0 to 1.",
    "steps": "Number of steps.",
    "loss": "What to raise: `cross_entropy`, `margin` or `ratio`.",
    "keep": (
        "`first`: an input leaves at its first point on the other side; `best`: all steps, the "
        "point of highest loss; `last`: all steps, the last point."
    ),
    "batch_size": "Most points an evaluation; `None` for the number that runs fastest.",
    "generator": "Draws one number, the seed of all; `None` for torch's global generator.",
    "progress": "Called as `progress(done, total)` after each step.",
}
_BOUNDED = "The perturbed inputs, all of them within the radius and the bounds."
_LEAST_NORM = "The nearest points of another class, or of the target's, that the search met."
_ERRORS = """\
ParameterError: If an option is out of range, points lie outside the bounds, or a target equals
    its label.
FieldError: If the model is flat at every input."""

_COUNTS = {"candidates", "draws", "restarts", "searches", "steps"}
_LENGTHS = {"first_radius", "first_weight", "radius", "reach", "step_size"}

_SECTION = re.compile(r"^(Args|Returns|Raises|Example|References):\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+): ", re.MULTILINE)


def attack(*norms: float) -> Callable[[T], T]:
    """Declare a function `(model, points, labels, *, ...)` an attack.

    Its arguments are checked by their annotations, counts and lengths by their names, and `norm`
    against `norms`; the model is held still while it runs; and its docstring is completed by
    `described`.
    """

    def declare(function: T) -> T:
        name = function.__name__
        described(*norms)(function)

        @functools.wraps(function)
        def run(*problem: Any, **options: Any) -> Any:
            for option, value in options.items():
                if option == "norm" and norms:
                    options[option] = check_norm(name, value, norms)
                elif option in _COUNTS:
                    check_at_least_one(name, option, value)
                elif option in _LENGTHS and value is not None:
                    check_positive(name, option, value)
            with frozen(problem[0]):
                return function(*problem, **options)

        return checked(run)  # type: ignore[return-value]

    return declare


def described(*norms: float) -> Callable[[T], T]:
    """Add to a docstring the arguments, the result and the errors that it leaves to this file.

    An entry that the docstring has stands as it is.
    """

    def describe(function: T) -> T:
        parameters = inspect.signature(function).parameters
        shared = _ARGUMENTS | {"norm": _either(norms)}
        text, *parts = _SECTION.split(inspect.cleandoc(function.__doc__ or ""))
        sections = dict(zip(parts[::2], parts[1::2], strict=True))
        entries = _entries(sections.get("Args", ""))
        lines = [f"{name}: {entries.get(name) or shared[name]}" for name in parameters]
        radius = parameters.get("radius")
        bounded = radius is not None and radius.default is radius.empty
        complete = {
            "Args": "\n".join(map(_hanging, lines)),
            "Returns": _BOUNDED if bounded else _LEAST_NORM,
            "Raises": _ERRORS,
        }
        complete |= {n: textwrap.dedent(s) for n, s in sections.items() if n != "Args"}
        body = [f"{n}:\n{textwrap.indent(s.strip(), '    ')}" for n, s in complete.items()]
        function.__doc__ = "\n\n".join([text.strip(), *body]) + "\n"
        return function

    return describe


def _entries(section: str) -> dict[str, str]:
    """Return the arguments that a docstring describes, each on one line."""
    _, *parts = _ENTRY.split(textwrap.dedent(section))
    texts = (" ".join(text.split()) for text in parts[1::2])
    return dict(zip(parts[::2], texts, strict=True))


def _hanging(line: str) -> str:
    return textwrap.fill(
        line, 94, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _either(norms: tuple[float, ...]) -> str:
    names = ["infinity" if math.isinf(norm) else f"{norm:g}" for norm in norms]
    return " or ".join([", ".join(names[:-1]), names[-1]]).capitalize() + "." if norms else ""
