r"""The wedge of Bell 2023: an orthant tipped towards its first axis, by one angle a plane."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_finite, check_positive
from levelset._typing import Mask, PerPoint, Points
from levelset.errors import ParameterError, ShapeError
from levelset.shapes._leads import check_segments

__all__ = ["Wedge"]

# Of the quadrature over the first coordinate: its points, and where a normal density ends.
_NODES, _TAIL = 400, 9.0


@checked
@dataclass(frozen=True)
class Wedge:
    r"""The wedge $\{x : x_1 \ge 0, \ x_i \ge x_1 \tan \theta_{i-1} \text{ for } 1 < i \le k\}$.

    With all angles 0 it is the orthant of k = 1 + `len(angles)` planes; a positive angle makes it
    more acute there, a negative one more obtuse. As a field it is the largest of the signed
    distances from the k planes, negative inside: inside that is the distance from the boundary,
    outside at most that.

    Attributes:
        angles: The angles $\theta$ in radians, between -pi/2 and pi/2, k - 1 of them.
        d: Number of dimensions, at least k.

    References:
        - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.8. The projection
          there (equations 107 to 120) is unfinished; here it is the least-squares problem that it
          stands for.
    """

    angles: tuple[float, ...]
    d: int

    def __post_init__(self) -> None:
        """Check angles and dimensions."""
        if not all(abs(angle) < math.pi / 2 for angle in self.angles):
            message = f"Wedge: `angles` must lie between -pi/2 and pi/2, got {self.angles}."
            raise ParameterError(message)
        if self.d < len(self.angles) + 1:
            message = (
                f"Wedge: `d` must be at least {len(self.angles) + 1}, one more than the angles, "
                f"got {self.d}."
            )
            raise ParameterError(message)

    @checked
    def __call__(self, points: Points) -> PerPoint:
        """Return the largest signed distance from a plane, `(n,)`, negative inside."""
        return -self._heights(points).amin(1)

    @checked
    def contains(self, points: Points) -> Mask:
        """Return which points lie in the wedge or on its boundary."""
        return (self._heights(points) >= 0).all(1)

    @checked
    def project(self, points: Points) -> Points:
        """Return the nearest points of the boundary; where several are, one of them.

        Cost: outside the wedge a small least-squares problem a point, solved one by one.
        """
        check_finite("Wedge", points)
        heights = self._heights(points)
        normals = self._normals(points)
        least, plane = heights.min(1)
        moved = points - least.unsqueeze(1) * normals[plane]
        for row in (~self.contains(points)).nonzero().flatten().tolist():
            # The projection on {x : N x >= 0} is x + N^T m, with m >= 0 of least |x + N^T m|.
            row_points = points[row].detach().cpu().double()
            weights, _ = nnls(normals.cpu().double().numpy().T, -row_points.numpy())
            moved[row] = points[row] + torch.from_numpy(weights).to(points) @ normals
        return moved

    @checked
    def distance(self, points: Points) -> PerPoint:
        """Return the distances from the boundary."""
        return (points - self.project(points)).norm(dim=1)

    @checked
    def centerline(self, positions: PerPoint) -> Points:
        r"""Return the points with $x_1 = t$ and $x_i = t \tan(\pi/4 + \theta_{i-1}/2)$, `(n, d)`.

        The line enters at t = 0, at the apex, and halves the angle of each plane with the first.

        Args:
            positions: The numbers t, `(n,)`.

        References:
            - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.9, which has
              $\tan(\theta/2)$: along the boundary for an orthant, past an acute wedge.
        """
        points = positions.new_zeros(len(positions), self.d)
        points[:, 0] = positions
        for i, angle in enumerate(self.angles, start=1):
            points[:, i] = positions * math.tan(math.pi / 4 + angle / 2)
        return points

    @checked
    def parallel(self, positions: PerPoint, *, offset: float) -> Points:
        r"""Return the points with $x_1 = t$ and every other coordinate $\varepsilon$, `(n, d)`.

        Args:
            positions: The numbers t, `(n,)`.
            offset: The number $\varepsilon$.

        References:
            - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 30.9.
        """
        points = positions.new_full((len(positions), self.d), offset)
        points[:, 0] = positions
        return points

    @checked
    def crossings(self, start: Points, end: Points) -> Tensor:
        """Return where segments enter the wedge and where they leave it, exactly, `(n, 2)`.

        As shares of the way: 0 where the segment starts inside, 1 where it ends there; NaN where
        it does not meet the wedge.

        Args:
            start: Where the segments begin, `(n, d)`.
            end: Where they end, `(n, d)`.
        """
        check_segments("Wedge.crossings", start, end, self.d)
        before, after = self._heights(start), self._heights(end)
        gain = after - before
        share = -before / torch.where(gain == 0, 1.0, gain)
        enter = torch.where(gain > 0, share, 0.0).amax(1).clamp(min=0)
        leave = torch.where(gain < 0, share, 1.0).amin(1).clamp(max=1)
        missed = (enter > leave) | ((gain == 0) & (before < 0)).any(1)
        both = torch.stack([enter, leave], dim=1)
        return torch.where(missed.unsqueeze(1), math.nan, both)

    @checked
    def stability(self, points: Points, *, sigma: float) -> PerPoint:
        r"""Return the share of $N(x, \sigma^2 I)$ on the side of each x, by quadrature.

        Given the first coordinate the others are independent, so that one integral is left,

        $$\int_{-x_1/\sigma}^\infty \varphi(u) \prod_{i>1}
        \Phi\Bigl(\frac{x_i - (x_1 + \sigma u) \tan \theta_{i-1}}{\sigma}\Bigr) du,$$

        taken by Gauss and Legendre's rule in float64; to 1e-9 for angles up to 1.5.

        Args:
            points: The points x, `(n, d)`.
            sigma: The noise, positive.
        """
        check_positive("Wedge.stability", "sigma", sigma)
        inside = self.contains(points)
        share = self._share(points, torch.full((len(points),), sigma, dtype=torch.float64))
        return torch.where(inside, share, 1 - share).to(points)

    @checked
    def persistence(self, points: Points, *, gamma: float) -> PerPoint:
        r"""Return the noise up to which at least a share gamma stays on the side of each point.

        The least sigma at which the share falls to gamma, from a search over 200 values between
        1/100 and 10,000 distances from the boundary, and bisection; infinity where it never does.

        Args:
            points: The points, `(n, d)`.
            gamma: The share, between 0 and 1.

        References:
            - B. Bell, "Neighborhoods of Adversarial Examples", 2023: definition 4.2.
        """
        if not 0.0 < gamma < 1.0:
            message = (
                f"Wedge.persistence: `gamma` must lie between 0 and 1, both excluded, got {gamma}."
            )
            raise ParameterError(message)
        inside = self.contains(points)
        distance = self.distance(points).double().cpu()

        def stays(sigma: Tensor) -> Tensor:
            share = self._share(points, sigma)
            return torch.where(inside.cpu(), share, 1 - share) >= gamma

        scale = distance.clamp(min=1e-300)
        low, high = torch.zeros_like(scale), torch.full_like(scale, math.inf)
        for factor in torch.logspace(-2, 4, 200, dtype=torch.float64):
            within, searched = stays(factor * scale), high.isinf()
            low = torch.where(searched & within, factor * scale, low)
            high = torch.where(searched & ~within, factor * scale, high)
        falls = high.isfinite()
        for _ in range(60):
            middle = torch.where(falls, (low + high) / 2, scale)
            within = stays(middle)
            low, high = torch.where(within, middle, low), torch.where(within, high, middle)
        sigma = torch.where(falls, low, math.inf)
        return torch.where(distance > 0, sigma, 0.0).to(points)

    def _share(self, points: Tensor, sigma: Tensor) -> Tensor:
        """Return the share of noise of `(n,)` sizes around `(n, d)` points that lies inside."""
        nodes, weights = _rule()
        scaled = points.detach().double().cpu() / sigma.unsqueeze(1)
        low = (-scaled[:, :1]).clamp(min=-_TAIL)
        half = (_TAIL - low).clamp(min=0) / 2
        u = low + half * (1 + nodes)
        product = half * weights * torch.exp(-u * u / 2) / math.sqrt(2 * math.pi)
        for i, angle in enumerate(self.angles, start=1):
            product = product * torch.special.ndtr(
                scaled[:, i, None] - (scaled[:, :1] + u) * math.tan(angle)
            )
        return product.sum(1)

    def _normals(self, points: Tensor) -> Tensor:
        """Return the unit normals that point inwards, `(k, d)`."""
        normals = torch.zeros(len(self.angles) + 1, self.d, dtype=points.dtype)
        normals[0, 0] = 1.0
        for i, angle in enumerate(self.angles, start=1):
            normals[i, 0], normals[i, i] = -math.sin(angle), math.cos(angle)
        return normals.to(points.device)

    def _heights(self, points: Tensor) -> Tensor:
        if points.dim() != 2 or points.shape[1] != self.d:
            message = (
                f"Wedge: `points` must have the shape (n, {self.d}), got {tuple(points.shape)}."
            )
            raise ShapeError(message)
        return points @ self._normals(points).T


@functools.cache
def _rule() -> tuple[Tensor, Tensor]:
    """Return the points and weights of Gauss and Legendre's rule on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights)
