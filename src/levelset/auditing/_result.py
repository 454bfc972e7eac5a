"""The result of an audit: a table with one row for each input, and the witnesses."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.norms import norm_name
from levelset._tools.proportions import clopper_pearson
from levelset._tools.results import Result
from levelset._typing import Norm, PerPoint, Points, Summary
from levelset.auditing._measure import Radius, of_norm
from levelset.auditing._measures import MEASURES
from levelset.errors import ParameterError

__all__ = ["Audit", "RobustnessCurve"]


@dataclass(frozen=True, eq=False, repr=False)
class RobustnessCurve(Result):
    """Accuracy against the size of the perturbation, an upper bound of the robust accuracy.

    Attributes:
        norm: The norm in which perturbations are measured.
        radius: Sizes of the perturbation, `(s,)`, in the units of the points.
        accuracy: Share of the inputs that are classified right and have no witness within the
            radius, `(s,)`.
        low: Lower end of the exact (Clopper-Pearson) interval of that share, `(s,)`.
        high: Upper end, `(s,)`.
        confidence: Smallest probability that the interval covers the share, radius by radius.
    """

    _headline: ClassVar = ("norm", "radius", "radius_max", "accuracy_max", "accuracy_min")

    norm: float
    radius: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    confidence: float

    def summary(self) -> Summary:
        """Return the norm, the largest radius and the largest and smallest accuracy."""
        numbers: Summary = {"norm": self.norm, "confidence": self.confidence}
        if len(self.radius):
            numbers["radius_max"] = float(self.radius.max())
            numbers["accuracy_max"] = float(self.accuracy.max())
            numbers["accuracy_min"] = float(self.accuracy.min())
        return numbers


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """Every measurement of one model on one set of inputs.

    Attributes:
        points: The inputs, `(n, *d)`.
        columns: One tensor `(n,)` a name, or `(n, q)`, in the order of the table on disk:
            `index`, `label`, `prediction`, `correct`, `margin`, then those of each measure, which
            the documentation lists in its table of columns. `attack_2` and `attack_inf` are names
            on disk, here places in `levelset.boundary.ATTACKS`, -1 for none.
        witnesses: For each norm the nearest point found of another class than the label,
            `(n, *d)`; the input itself where it is misclassified, NaN where none was found.
        norms: The norms, in order.
        classes: Names of the classes, `k` of them.
        name: A name for the model and its data, for the report.
        bounds: Smallest and largest value that an input may have.
        settings: What single measures were made with, the same for all rows: `smoothing` of
            curvature, `adversarial`, how many inputs have an adversarial one, `radii` of
            robust accuracy.
    """

    _headline: ClassVar = (
        "name", "points", "measures", "accuracy", "distance_2_median", "distance_inf_median",
    )  # fmt: skip

    points: Points
    columns: dict[str, Tensor]
    witnesses: dict[float, Tensor]
    norms: tuple[float, ...]
    classes: tuple[str, ...]
    name: str = "model"
    bounds: tuple[float, float] = (0.0, 1.0)
    settings: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.points)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures whose columns there are."""
        return tuple(
            name
            for name, measure in MEASURES.items()
            if measure.was_made(self.columns, self.norms, self.radii)
        )

    @property
    def radii(self) -> tuple[Radius, ...]:
        """Within which perturbations it was attacked: norm and size of each, in order."""
        return tuple(self.settings.get("radii", ()))

    @checked
    def distance(self, norm: Norm) -> PerPoint:
        """Return the distance of each input to its witness in `norm`: 0 if misclassified."""
        return self._column("distance", norm)

    @checked
    def nearest_class(self, norm: Norm) -> Tensor:
        """Return the class of each witness in `norm`, -1 where none was found."""
        return self._column("nearest_class", norm)

    def summary(self) -> Summary:
        """Return the numbers of the whole audit, ready for JSON.

        Distances are over the inputs classified right that have a witness; those classified wrong
        have distance 0 and are counted apart, as are those without a witness (`missed`). Medians
        of persistence are over the inputs where it is finite, those of certified radii over the
        inputs that have one.
        """
        correct = self.columns["correct"].bool()
        numbers: Summary = {
            "points": len(self),
            "correct": int(correct.sum()),
            "accuracy": float(correct.double().mean()) if len(self) else 0.0,
        }
        settings = {"norms": self.norms, **self.settings}
        for name in self.measures:
            numbers |= MEASURES[name].summary(self.columns, settings)
        return numbers

    @checked
    def robustness(
        self, norm: Norm, radius: Float[Tensor, " s"] | None = None, *, confidence: float = 0.95
    ) -> RobustnessCurve:
        """Return the accuracy under perturbations of growing size.

        Args:
            norm: One of `norms`.
            radius: Sizes to evaluate at, `(s,)`; `None` for 101 from 0 to the largest distance.
            confidence: Of the interval at each radius.
        """
        distance = self.distance(norm).double().cpu()
        robust = torch.where(self.columns["correct"].bool().cpu(), distance, -1.0)
        if radius is None:
            finite = distance[distance.isfinite()]
            top = float(finite.max()) if len(finite) else 1.0
            radius = torch.linspace(0.0, top or 1.0, 101, dtype=torch.float64)
        survivors = len(robust) - torch.searchsorted(robust.sort().values, radius, right=True)
        low, high = clopper_pearson(survivors, len(robust), confidence)
        accuracy = survivors.double() / max(len(robust), 1)
        return RobustnessCurve(norm, radius, accuracy, low, high, confidence)

    @checked
    def borders(self, norm: Norm) -> Tensor:
        """Return how many inputs of each predicted class have each class nearest, `(k, k)`.

        Inputs classified wrong are left out: their nearest class is their prediction.
        """
        k = len(self.classes)
        nearest = self.nearest_class(norm).long()
        right = self.columns["correct"].bool() & (nearest >= 0)
        cell = self.columns["prediction"].long()[right] * k + nearest[right]
        return torch.bincount(cell, minlength=k * k).view(k, k)

    def _column(self, name: str, norm: float) -> Tensor:
        if norm not in self.norms:
            known = ", ".join(norm_name(p) for p in self.norms)
            message = f"Audit: `norm` must be one of {known}, got {norm_name(norm)}."
            raise ParameterError(message)
        return self.columns[of_norm(name, norm)]
