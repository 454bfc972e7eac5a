"""What training lowers: a sum of losses, whose weights and options may follow schedules."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.checks import shown
from levelset._typing import Labels, Model, Points
from levelset.errors import FieldError, ParameterError
from levelset.losses import Diagnostics, Watch
from levelset.training._schedule import Schedule

__all__ = ["Loss", "Objective", "Term"]

Loss: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""What training lowers: `(model, points (n, *d), labels (n,))` to one number with a gradient."""

# Not a name that an option could have: `weight` is one of `geometric_svm`.
_WEIGHT = "weight of the term"


@dataclass(frozen=True)
class Term:
    """One loss of an objective.

    Attributes:
        loss: Maps `(model, points, labels)` to a scalar. If it takes `watch`, it is asked for its
            own terms and samples.
        options: Its options by name; a [`Schedule`][levelset.training.Schedule] in place of a
            number makes it change with the epochs.
        weight: What it is multiplied by, a number or a schedule. While it is 0 the loss is not
            evaluated.

    Raises:
        ParameterError: If `loss` is not callable, or `weight` is not finite.
    """

    loss: Loss
    options: Mapping[str, Any] = field(default_factory=dict)
    weight: int | float | Schedule = 1.0

    def __post_init__(self) -> None:
        if not callable(self.loss):
            message = f"Term: `loss` must be callable, got {shown(self.loss)}."
            raise ParameterError(message)
        if not isinstance(self.options, Mapping) or not all(
            isinstance(name, str) for name in self.options
        ):
            message = f"Term: `options` must be a dict with names, got {shown(self.options)}."
            raise ParameterError(message)
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not (isinstance(self.weight, Schedule) or (number and math.isfinite(self.weight))):
            message = (
                "Term: `weight` must be a finite number, or a schedule such as "
                f"Ramp({{0: 0.1, 50: 1.0}}), got {shown(self.weight)}."
            )
            raise ParameterError(message)

    @property
    def name(self) -> str:
        """Name of the loss."""
        return _name(self.loss)

    @property
    def scheduled(self) -> dict[str, Schedule]:
        """The options and the weight that change with the epochs."""
        numbers = {**self.options, _WEIGHT: self.weight}
        return {key: value for key, value in numbers.items() if isinstance(value, Schedule)}

    @checked
    def at(self, epoch: float, epochs: int) -> "Term":
        """Return the term as it is after `epoch` epochs out of `epochs`."""
        values = {key: value.at(epoch, epochs) for key, value in self.scheduled.items()}
        weight = values.pop(_WEIGHT, self.weight)
        return replace(self, options={**self.options, **values}, weight=weight)

    def __str__(self) -> str:
        """Return the term as `build_loss` reads it."""
        inside = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        written = f"{self.name}({inside})" if inside else self.name
        return written if self.weight == 1.0 else f"{self.weight!r} * {written}"


class Objective:
    r"""A sum of losses with weights, $\sum_i w_i \ell_i$; weights and options may follow schedules.

    It is a loss itself as long as nothing in it follows a schedule; `at` fixes what does.
    [`train`][levelset.training.train] asks for the objective of each step, evaluated in the middle
    of it.

    Args:
        terms: The losses, each a [`Term`][levelset.training.Term] or a function.

    Raises:
        ParameterError: If there is none.

    Example:
        >>> from levelset.losses import interval_bound, robust_distance
        >>> from levelset.training import Objective, Ramp, Term
        >>> rising = Ramp({"0%": 0.0, "50%": 0.3})
        >>> objective = Objective(
        ...     Term(interval_bound, {"radius": rising}, weight=0.5),
        ...     Term(robust_distance, {"radius": 0.4}),
        ... )
        >>> print(objective)
        0.5 * interval_bound(radius=ramp({'0%': 0.0, '50%': 0.3})) + robust_distance(radius=0.4)
        >>> print(objective.at(10, 40))
        0.5 * interval_bound(radius=0.15) + robust_distance(radius=0.4)
    """

    def __init__(self, *terms: Term | Loss) -> None:
        if not terms:
            message = "Objective: `terms` must hold at least one loss, got none."
            raise ParameterError(message)
        self.terms = tuple(term if isinstance(term, Term) else _as_term(term) for term in terms)
        names = [term.name for term in self.terms]
        earlier = [names[:i].count(name) for i, name in enumerate(names)]
        self._names = [f"{n}_{i + 1}" if i else n for n, i in zip(names, earlier, strict=True)]

    @classmethod
    @checked
    def of(cls, loss: Loss) -> "Objective":
        """Return a loss as an objective: itself, or the sum of this one."""
        return loss if isinstance(loss, Objective) else cls(loss)

    @checked
    def at(self, epoch: float, epochs: int) -> "Objective":
        """Return the objective as it is after `epoch` epochs, whole or not, out of `epochs`."""
        if not any(term.scheduled for term in self.terms):
            return self
        return Objective(*(term.at(epoch, epochs) for term in self.terms))

    @property
    def resuming(self) -> list[str]:
        """Names of the losses whose searches start where they ended last."""
        pairs = zip(self._names, self.terms, strict=True)
        return [name for name, term in pairs if term.options.get("starts") == "last"]

    @checked
    def scheduled(self, epoch: float, epochs: int) -> dict[str, float]:
        """Return the numbers that follow a schedule, by name, after `epoch` epochs."""
        return {
            f"{name}: {key}": value.at(epoch, epochs)
            for name, term in zip(self._names, self.terms, strict=True)
            for key, value in term.scheduled.items()
        }

    @checked
    def __call__(
        self,
        model: Model,
        points: Points,
        labels: Labels,
        *,
        starts: Mapping[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Return the weighted sum at a batch, a scalar.

        Args:
            model: Passed to the losses.
            points: The batch, `(n, *d)`.
            labels: Their classes, `(n,)`.
            starts: Where searches start, `(n, *d)`, by the names of the losses that do so.
            watch: Called with the diagnostics of the sum.

        Raises:
            ParameterError: If a number still follows a schedule, or every weight is 0.
        """
        pairs = list(zip(self._names, self.terms, strict=True))
        changing = next((term for term in self.terms if term.scheduled), None)
        if changing is not None:
            message = (
                f"Objective: {changing} follows a schedule. Call `objective.at(epoch, epochs)`, "
                "which is a loss; `train` does it at each step."
            )
            raise ParameterError(message)
        active = [(name, term) for name, term in pairs if term.weight != 0]
        if not active:
            message = f"Objective: the weight of every term is 0 in {self}. Give one that is not."
            raise ParameterError(message)
        parts = [
            _evaluated(name, term, model, points, labels, (starts or {}).get(name))
            for name, term in active
        ]
        if watch is not None:
            watch(_joined([diagnostics for _, diagnostics in parts]))
        values = [value for value, _ in parts]
        return values[0] if len(values) == 1 else torch.stack(values).sum()

    def __str__(self) -> str:
        """Return the objective as `build_loss` reads it."""
        return " + ".join(map(str, self.terms))

    def __repr__(self) -> str:
        """Return the objective as text."""
        return f"Objective({self})"


def _as_term(loss: Loss) -> Term:
    if isinstance(loss, functools.partial) and not loss.args:
        return Term(loss.func, loss.keywords)
    return Term(loss)


def _name(loss: Any) -> str:
    """Return the name of a function, with its options where it is a `functools.partial`."""
    if isinstance(loss, functools.partial):
        options = [repr(a) for a in loss.args] + [f"{k}={v!r}" for k, v in loss.keywords.items()]
        return f"{_name(loss.func)}({', '.join(options)})"
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def _takes_watch(loss: Loss) -> bool:
    try:
        return "watch" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return False


def _evaluated(
    name: str, term: Term, model: Model, points: Tensor, labels: Tensor, starts: Tensor | None
) -> tuple[Tensor, Diagnostics]:
    """Return a term with its weight, and its diagnostics with the name of the term before theirs.

    Raises:
        FieldError: If the loss returns something else than a scalar.
    """
    reports: list[Diagnostics] = []
    options: dict[str, Any] = dict(term.options)
    if _takes_watch(term.loss):
        options["watch"] = reports.append
    if starts is not None:
        options["starts"] = starts
    value = term.loss(model, points, labels, **options)
    if not isinstance(value, Tensor) or value.dim() != 0:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        message = f"{name}: a loss must return a tensor with one number, shape (), got {got}."
        raise FieldError(message)
    weight = 1.0 if isinstance(term.weight, Schedule) else term.weight
    weighted = value if weight == 1.0 else weight * value
    own = reports[-1] if reports else Diagnostics()
    terms = {f"{name}.{key}": weight * inner for key, inner in own.terms.items()}
    ends = {name: own.ends["search"]} if own.ends else {}
    return weighted, replace(own, terms=terms or {name: weighted}, ends=ends)


def _joined(parts: list[Diagnostics]) -> Diagnostics:
    """Return the diagnostics of a sum: the terms of all, and the samples of all."""
    converged = [part.converged for part in parts if part.converged is not None]
    distance = [part.distance for part in parts if part.distance is not None]
    return Diagnostics(
        {name: term for part in parts for name, term in part.terms.items()},
        torch.cat(converged) if converged else None,
        torch.cat(distance) if distance else None,
        {name: points for part in parts for name, points in part.ends.items()},
    )
