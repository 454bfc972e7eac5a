"""Checks that every shape must pass, whatever it is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


@pytest.fixture
def check_nearest() -> Callable[..., None]:
    """Return a check of a shape's answers at points, against a dense sample of its surface.

    No sampled point may be nearer than the answer, which holds to rounding; and some sampled
    point must be nearly as near, which holds to the width of the sample.
    """

    def check(
        shape, points: Tensor, surface: Tensor, *, width: float, exact: float = 1e-12
    ) -> None:
        nearest = shape.project(points)
        assert nearest.shape == points.shape
        assert nearest.dtype == points.dtype
        values = shape(nearest)
        assert values.abs().max() <= exact * (1 + float(points.abs().max()))
        lengths = (points - nearest).norm(dim=1)
        assert (shape.distance(points) - lengths).abs().max() <= exact * (1 + float(lengths.max()))
        sampled = torch.cdist(points, surface, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        assert (lengths <= sampled + exact * (1 + lengths)).all()
        assert (sampled - lengths <= width).all()

    return check


@pytest.fixture
def slope() -> Callable[..., Tensor]:
    """Return the Jacobian `(n, l, d)` of a shape, by differentiation."""

    def differentiate(shape, points: Tensor) -> Tensor:
        leaf = points.clone().requires_grad_()
        values = shape(leaf).reshape(len(points), -1)
        rows = [torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in values.unbind(1)]
        return torch.stack(rows, 1)

    return differentiate


@pytest.fixture
def cloud(noise) -> Tensor:
    """Return points of every distance from the origin, in space."""
    return noise(150, 3, seed=11) * torch.logspace(-3, 1, 150, dtype=torch.float64).unsqueeze(1)
