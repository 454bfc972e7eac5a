"""What a few predictions are made of, gathered for a page."""

from dataclasses import dataclass

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one
from levelset._tools.results import Rows
from levelset._typing import Points, Summary
from levelset.kernels._gaussian_process import GaussianProcess
from levelset.kernels._path_kernel import PathKernel

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Rows):
    """What the predictions of n points are made of; t training points a list.

    Attributes:
        points: The points, `(n, *d)`.
        prediction: The class that the network gives, `(n,)`.
        logits: Its logits, `(n, k)`.
        start: The logits before training, `(n, k)`.
        weight_decay: The share of weight decay in the logit of the prediction, `(n,)`.
        toward: The sum of all positive shares in that logit, `(n,)`.
        against: The sum of all negative ones, `(n,)`.
        pushed_for: Training points with the largest shares in it, `(n, t)`.
        shares_for: Their shares, `(n, t)`.
        pushed_against: Those with the most negative shares, `(n, t)`.
        shares_against: Their shares, `(n, t)`.
        neighbours: Nearest training points by the kernel, `(n, t)`.
        similarity: Their cosines, `(n, t)`.
        pixel_neighbours: Nearest by their pixels, `(n, t)`.
        pixel_distance: Their distances, `(n, t)`.
        variance: Posterior variance of the Gaussian process, `(n,)`, from 0 (known) to 1.
        errors: Largest difference of the sum of all shares and a logit, `(n,)`.
    """

    points: Tensor
    prediction: Tensor
    logits: Tensor
    start: Tensor
    weight_decay: Tensor
    toward: Tensor
    against: Tensor
    pushed_for: Tensor
    shares_for: Tensor
    pushed_against: Tensor
    shares_against: Tensor
    neighbours: Tensor
    similarity: Tensor
    pixel_neighbours: Tensor
    pixel_distance: Tensor
    variance: Tensor
    errors: Tensor

    @property
    def identity_error(self) -> float:
        """Largest difference of the sum of all shares and a logit, over all points."""
        return float(self.errors.max()) if len(self) else 0.0

    def summary(self) -> Summary:
        """Return how exact it is, ready for JSON."""
        return {"points": len(self), "identity_error": self.identity_error}


@checked
def explain(
    kernel: PathKernel,
    points: Points,
    *,
    top: int = 8,
    process: GaussianProcess | None = None,
    stride: int | None = None,
) -> Explanation:
    """Return which training points made the predictions of a few points, and what is like them.

    Cost: the contributions of the points, the kernel between them and all training points, and a
    Gaussian process if none is given.

    Args:
        kernel: Of the training.
        points: `(n, *d)`.
        top: Training points a list.
        process: A Gaussian process on the kernel; `None` to make one of 1,000 training points.
        stride: Take each `stride`-th step only for neighbours and variance; `None` for 20 steps in
            all. Shares are of all steps.

    Returns:
        What [`report.explanation`][levelset.report.explanation] shows.
    """
    check_at_least_one("explain", "top", top)
    if stride is None:
        stride = max(kernel.recording.steps // 20, 1)
    parts = kernel.contributions(points)
    chosen = parts.network_logits.argmax(1) if len(points) else parts.rest.new_zeros(0).long()
    rows = torch.arange(len(chosen), device=chosen.device)
    shares = parts.shares[rows, chosen]
    count = min(top, shares.shape[1])
    high, low = shares.topk(count, 1), shares.topk(count, 1, largest=False)
    near = kernel.neighbours(points, k=top, stride=stride)
    process = GaussianProcess(kernel, count=1000, stride=stride) if process is None else process
    errors = (parts.logits - parts.network_logits).abs()
    return Explanation(
        points=points.detach(),
        prediction=chosen,
        logits=parts.network_logits,
        start=parts.start,
        weight_decay=parts.weight_decay[rows, chosen],
        toward=shares.clamp(min=0).sum(1),
        against=shares.clamp(max=0).sum(1),
        pushed_for=high.indices,
        shares_for=high.values,
        pushed_against=low.indices,
        shares_against=low.values,
        neighbours=near.indices,
        similarity=near.similarity,
        pixel_neighbours=near.pixel_indices,
        pixel_distance=near.pixel_distance,
        variance=process.predict(points)[1],
        errors=errors.amax(1) if errors.numel() else errors.sum(1),
    )
