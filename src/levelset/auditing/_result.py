"""What an audit found: a column a quantity, a row an input, and the witnesses."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.medians import median
from levelset._tools.norms import norm_name
from levelset._tools.proportions import clopper_pearson
from levelset._typing import Norm, PerPoint, Points
from levelset.errors import ParameterError

__all__ = ["Audit", "RobustnessCurve"]


@dataclass(frozen=True, eq=False)
class RobustnessCurve:
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

    norm: float
    radius: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    confidence: float


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Every measurement of one model on one set of inputs.

    Attributes:
        points: The inputs, `(n, *d)`.
        columns: One tensor `(n,)` a name, in the order of the table on disk: `index`, `label`,
            `prediction`, `correct`, `margin`, then for each norm p `distance_p`,
            `nearest_class_p`, `iterations_p`, `converged_p` and `attack_p` (on disk the name of
            the attack that found the witness, here its place in `levelset.boundary.ATTACKS`, -1
            where none did), p written `2` or `inf`; and where persistence was measured
            `sigma_star`, `sigma_low`, `sigma_high`, `certified_radius`, `certified_sigma` and
            `noise_rival`, with `distance` too `sigma_star_adversarial` (NaN where not measured);
            and where curvature was `curvature_largest`, `curvature_smallest`, `curvature_mean`,
            `curvature_mean_error`, `curvature_rival`, `curvature_smoothing`, `curvature_scale` and
            `curvature_principal`, `(n, q)`: all of a row in descending order, or half from the top
            and half from the bottom.
        witnesses: For each norm the nearest point found of another class than the label,
            `(n, *d)`; the input itself where it is misclassified, NaN where none was found.
        norms: The norms, in order.
        classes: Names of the classes, `k` of them.
        name: What the reader shall call this model and its data.
        bounds: Smallest and largest value that an input may have.
    """

    points: Points
    columns: dict[str, Tensor]
    witnesses: dict[float, Tensor]
    norms: tuple[float, ...]
    classes: tuple[str, ...]
    name: str = "model"
    bounds: tuple[float, float] = (0.0, 1.0)

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return the summary on one line."""
        inside = ", ".join(f"{k}={v:.4g}" for k, v in self.summary().items())
        return f"Audit({inside})"

    @checked
    def distance(self, norm: Norm) -> PerPoint:
        """Return the distance of each input to its witness in `norm`: 0 if misclassified."""
        return self._column("distance", norm)

    @checked
    def nearest_class(self, norm: Norm) -> Tensor:
        """Return the class of each witness in `norm`, -1 where none was found."""
        return self._column("nearest_class", norm)

    def summary(self) -> dict[str, int | float]:
        """Return the numbers of the whole audit, ready for JSON.

        Distances are over the inputs classified right that have a witness; those classified wrong
        have distance 0 and are counted apart, as are those without a witness (`missed`). Medians
        of persistence are over the inputs where it is finite, those of certified radii over the
        inputs that have one.
        """
        correct = self.columns["correct"].bool()
        found: dict[str, int | float] = {
            "points": len(self),
            "correct": int(correct.sum()),
            "accuracy": float(correct.double().mean()) if len(self) else 0.0,
        }
        for norm in self.norms:
            distance = self.distance(norm)[correct].double()
            name = norm_name(norm)
            finite = distance[distance.isfinite()]
            found[f"missed_{name}"] = int((~distance.isfinite()).sum())
            if len(finite):
                found[f"distance_{name}_median"] = median(finite)
                found[f"distance_{name}_mean"] = float(finite.mean())
                found[f"distance_{name}_min"] = float(finite.min())
        if "sigma_star" in self.columns:
            sigma = self.columns["sigma_star"].double()
            finite = sigma[sigma.isfinite()]
            found["sigma_star_found"] = int((finite > 0).sum())
            if len(finite):
                found["sigma_star_median"] = median(finite)
            certified = self.columns["certified_radius"]
            if (made := certified.isfinite()).any():
                found["certified_radius_median"] = median(certified[made])
        if "curvature_mean" in self.columns:
            known = self.columns["curvature_mean"].isfinite()
            found["curvature_found"] = int(known.sum())
            for name in ("smoothing", "scale"):  # the same for all rows of an audit
                found[f"curvature_{name}"] = self.columns[f"curvature_{name}"][0].item()
            for name in ("mean", "largest", "smallest") if known.any() else ():
                found[f"curvature_{name}_median"] = median(self.columns[f"curvature_{name}"][known])
        return found

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
        kept = self.columns["correct"].bool() & (nearest >= 0)
        cell = self.columns["prediction"].long()[kept] * k + nearest[kept]
        return torch.bincount(cell, minlength=k * k).view(k, k)

    def _column(self, name: str, norm: float) -> Tensor:
        if norm not in self.norms:
            known = ", ".join(norm_name(p) for p in self.norms)
            message = f"Audit: `norm` must be one of {known}, got {norm_name(norm)}."
            raise ParameterError(message)
        return self.columns[f"{name}_{norm_name(norm)}"]
