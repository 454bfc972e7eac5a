"""What a few predictions are made of, gathered for a page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import check_at_least_one
from levelset._tools.engines import EngineName, Place, in_pieces
from levelset._tools.results import Rows, concatenate
from levelset._typing import Points, Progress, Summary
from levelset.kernels._gaussian_process import GaussianProcess
from levelset.kernels._path_kernel import PathKernel

__all__ = ["Explanation", "explain"]

# Most points a piece. Each takes the gradients of all training points again: 10 points of fc(64,
# 100, 2) with 1,000 training points take 1.0 s, 600 of them 2.2 s. And the share of the kernel's
# memory that their shares may take.
_PIECE, _SHARE = 512, 0.25


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
    engine: EngineName = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Return which training points made the predictions of points, and what is like them.

    Many points are explained in pieces of at most 512, fewer where the shares of a piece would take
    more than a quarter of the kernel's `memory`.

    Cost: the contributions of the points, the kernel between them and all training points, and a
    Gaussian process if none is given. Each piece takes the gradients of all training points again.

    Args:
        kernel: Of the training.
        points: `(n, *d)`.
        top: Training points a list.
        process: A Gaussian process on the kernel; `None` to make one of 1,000 training points.
        stride: Take each `stride`-th step only for neighbours and variance; `None` for 20 steps in
            all. Shares are of all steps.
        engine: Where pieces are explained: `local`, in processes on this machine, or `ray`, on a
            cluster (needs the extra `ray`), whose machines must all see the recording's folder. The
            rows are the same to the bit on the same kind of processor.
        workers: How many pieces are explained at a time, each on one processor thread; `None` for
            as many as `torch.get_num_threads()`, or as the cluster has processors (or devices) for.
            A piece alone gets all threads.
        address: Of the cluster, as `ray.init` takes it; `None` for the one in use, or a new one.
        progress: Called as `progress(done, total)` in points, after each piece.

    Returns:
        What [`report.explanation`][levelset.report.explanation] shows.

    Raises:
        ParameterError: If an option is out of range.
        DataError: If a step of the recording is missing or damaged.
        RunError: If no cluster answers, its workers have another version of this package, or a
            piece ends three workers.
        MissingExtraError: If Ray is chosen and not installed.
    """
    check_at_least_one("explain", "top", top)
    if stride is None:
        stride = max(kernel.recording.steps // 20, 1)
    process = GaussianProcess(kernel, count=1000, stride=stride) if process is None else process
    rows = _pieces(kernel, points)
    threads = 1 if len(rows) > 1 else torch.get_num_threads()
    parts = in_pieces(
        "explain", _Explaining(kernel, process, top, stride), lambda part: points[part].detach(),
        rows, Place(engine, workers, address), threads=threads, device=kernel.points.device.type,
        progress=progress,
    )  # fmt: skip
    return concatenate(parts)


def _pieces(kernel: PathKernel, points: Tensor) -> list[slice]:
    """Return the rows of each piece, one at least."""
    if not len(points):
        return [slice(0, 0)]
    outputs = kernel.outputs(points[:1])
    one = len(kernel.points) * outputs.numel() * outputs.element_size()
    most = max(min(_PIECE, int(_SHARE * kernel.memory / one)), 1)
    return list(row_batches(len(points), most))


@dataclass(frozen=True)
class _Explaining:
    """Explains a piece of the points, wherever it is.

    Attributes:
        kernel: Of the training.
        process: A Gaussian process on it.
        top: Training points a list.
        stride: Of the steps, for neighbours.
    """

    kernel: PathKernel
    process: GaussianProcess
    top: int
    stride: int

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.kernel.recording.model

    def __call__(self, points: Tensor, tell: Callable[[Any], None]) -> Explanation:
        del tell
        kernel, points = self.kernel, points.to(self.kernel.points.device)
        parts = kernel.contributions(points)
        chosen = parts.network_logits.argmax(1) if len(points) else parts.rest.new_zeros(0).long()
        rows = torch.arange(len(chosen), device=chosen.device)
        shares = parts.shares[rows, chosen]
        count = min(self.top, shares.shape[1])
        high, low = shares.topk(count, 1), shares.topk(count, 1, largest=False)
        near = kernel.neighbours(points, k=self.top, stride=self.stride)
        errors = (parts.logits - parts.network_logits).abs()
        return Explanation(
            points=points,
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
            variance=self.process.predict(points)[1],
            errors=errors.amax(1) if errors.numel() else errors.sum(1),
        )
