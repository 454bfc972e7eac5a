"""What a loss says of itself while it is evaluated: its terms, its samples, its search."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from levelset._tools.results import Result
from levelset._typing import Summary

__all__ = ["Diagnostics", "Watch"]


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics(Result):
    """The parts of one evaluation of a loss.

    Attributes:
        terms: Summands of the loss by name, scalars with their graph, weights applied; they add up
            to what the loss returned. A loss of one term has none.
        converged: Whether each sample lies on its level set, `(m,)`; `None` of losses without
            samples.
        distance: How far each sample is from its input, `(m,)`, in the norm of the loss and the
            units of the points; `None` of losses without samples.
        ends: Where the search about each input ended, `(n, *d)`, to be its `starts` when the same
            inputs come again; called `search`, in a sum of losses by the name of each.
    """

    terms: Mapping[str, Tensor] = field(default_factory=dict)
    converged: Tensor | None = None
    distance: Tensor | None = None
    ends: Mapping[str, Tensor] = field(default_factory=dict)

    def summary(self) -> Summary:
        """Return the value of each term, the share of samples that converged, their distance."""
        numbers = {name: float(term.detach()) for name, term in self.terms.items()}
        if self.converged is not None and len(self.converged):
            numbers["converged"] = float(self.converged.double().mean())
        if self.distance is not None and len(self.distance):
            numbers["distance_median"] = float(self.distance.detach().median())
        return dict(numbers)


Watch: TypeAlias = Callable[[Diagnostics], None]
"""Called by a loss once an evaluation, before it returns."""
