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


@pytest.fixture
def check_changes() -> Callable[..., None]:
    """Return a check of a classifier's crossings of segments, against dense samples of these.

    At each the two highest logits are equal, and the classes are the stated ones a step before and
    after it along its normal. There are as many as a dense sample shows, but for two.
    """

    def check(model, start: Tensor, end: Tensor, *, step: float = 1e-8) -> None:
        changes = model.crossings(start, end)
        top = model(changes.points).topk(2, 1).values
        assert (top[:, 0] - top[:, 1]).abs().max() <= 1e-12
        move = step * changes.normals
        assert torch.equal(model(changes.points + move).argmax(1), changes.after)
        assert torch.equal(model(changes.points - move).argmax(1), changes.before)
        share = torch.linspace(0, 1, 3_001, dtype=torch.float64).reshape(1, -1, 1)
        dense = start.unsqueeze(1) + share * (end - start).unsqueeze(1)
        classes = model(dense.flatten(0, 1)).argmax(1).reshape(len(start), -1)
        seen = (classes.diff(dim=1) != 0).sum(1)
        counts = torch.bincount(changes.segments, minlength=len(start))
        assert (counts - seen).abs().sum() <= 2

    return check
