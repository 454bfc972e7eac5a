"""What a path kernel answers with."""

from dataclasses import dataclass

from torch import Tensor

from levelset._tools.results import Result, Rows
from levelset._typing import Summary

__all__ = ["Contributions", "Neighbours", "Prediction", "Signs"]


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(Rows):
    """The outputs that the kernel gives for n points, and those of the network.

    Attributes:
        logits: The kernel's, `(n, k)`: `start + from_points + weight_decay`.
        network_logits: The network's own, `(n, k)`.
        start: Outputs before the first step, `(n, k)`.
        from_points: What all training points did together, `(n, k)`.
        weight_decay: What the pull of the weights to 0 did, `(n, k)`.
    """

    logits: Tensor
    network_logits: Tensor
    start: Tensor
    from_points: Tensor
    weight_decay: Tensor

    @property
    def identity_error(self) -> float:
        """Largest difference between kernel and network."""
        if self.logits.numel() == 0:
            return 0.0
        return float((self.logits - self.network_logits).abs().max())

    def summary(self) -> Summary:
        """Return how well kernel and network agree, ready for JSON."""
        same = self.logits.argmax(1) == self.network_logits.argmax(1)
        numbers: Summary = {"points": len(self), "identity_error": self.identity_error}
        if len(self):
            numbers["agreement"] = float(same.double().mean())
        return numbers


@dataclass(frozen=True, eq=False, repr=False)
class Contributions(Rows):
    """The signed share of training points in each of the k outputs of n points.

    Attributes:
        shares: `(n, k, m)`: of all m training points in their order; or of those in `indices`, from
            the largest to the most negative.
        indices: The training points that the shares are of, `(n, k, t)`; `None` where all are.
        rest: The sum of the shares that are left out, `(n, k)`.
        start: Outputs before the first step, `(n, k)`.
        weight_decay: The share of the pull of the weights to 0, `(n, k)`.
        network_logits: What the network answers, `(n, k)`.
    """

    shares: Tensor
    indices: Tensor | None
    rest: Tensor
    start: Tensor
    weight_decay: Tensor
    network_logits: Tensor

    @property
    def logits(self) -> Tensor:
        """What the shares sum to, `(n, k)`: start, decay, training points."""
        return self.start + self.weight_decay + self.shares.sum(2) + self.rest

    @property
    def identity_error(self) -> float:
        """Largest difference between the sum of all shares and the network."""
        if self.rest.numel() == 0:
            return 0.0
        return float((self.logits - self.network_logits).abs().max())

    def summary(self) -> Summary:
        """Return the size, and how much the shares cancel each other, ready for JSON."""
        numbers: Summary = {"points": len(self), "identity_error": self.identity_error}
        if len(self) and self.indices is None:
            sums = self.shares.sum(2).abs()
            apart = self.shares.abs().sum(2)
            chosen = self.network_logits.argmax(1, keepdim=True)
            ratio = (apart / sums).gather(1, chosen)
            numbers["cancellation_median"] = float(ratio.median())
        return numbers


@dataclass(frozen=True, eq=False, repr=False)
class Neighbours(Rows):
    """The nearest training points of n points, by the kernel and by their pixels.

    Attributes:
        indices: Nearest by the kernel, `(n, k)`, nearest first.
        similarity: The cosine of the angle between the gradients along the path, `(n, k)`.
        pixel_indices: Nearest by Euclidean distance, `(n, k)`.
        pixel_distance: That distance, `(n, k)`, in the units of the points.
    """

    indices: Tensor
    similarity: Tensor
    pixel_indices: Tensor
    pixel_distance: Tensor

    def summary(self) -> Summary:
        """Return how often both agree on the nearest, ready for JSON."""
        numbers: Summary = {"points": len(self)}
        if len(self):
            same = self.indices[:, 0] == self.pixel_indices[:, 0]
            numbers["same_nearest"] = float(same.double().mean())
        return numbers


@dataclass(frozen=True, eq=False, repr=False)
class Signs(Result):
    """Whether the sum over the steps is one kernel: whether its coefficients keep their signs.

    Attributes:
        is_kernel: Whether no coefficient ever changes its sign.
        violations: Share of the coefficients (step, training point, output) with another sign than
            the first of the same point and output.
        per_point: The same for each training point, `(n,)`.
    """

    is_kernel: bool
    violations: float
    per_point: Tensor

    def summary(self) -> dict[str, int | float | str | None]:
        """Return the answer, ready for JSON."""
        return {"is_kernel": self.is_kernel, "violations": self.violations}
