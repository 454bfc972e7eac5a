"""Cuts: projections on several planes against a solver's, corners and nearest cells exactly."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from levelset._tools.modes import frozen
from levelset.attacks import direct_boundary
from levelset.attacks._search._cutting_planes import Cuts, refine
from levelset.attacks._search._problem import Problem

UNBOUNDED = (-math.inf, math.inf)


def nearest_in(point: np.ndarray, normals: np.ndarray, offsets: np.ndarray) -> np.ndarray | None:
    """Return the nearest z with `normals z <= offsets`, or None (Lawson & Hanson, LDP)."""
    scale = np.linalg.norm(normals, axis=1)
    g, h = -normals / scale[:, None], (normals @ point - offsets) / scale
    system = np.vstack([g.T, h])
    wanted = np.zeros(len(system))
    wanted[-1] = 1.0
    residual = system @ nnls(system, wanted, maxiter=10_000)[0] - wanted
    if abs(residual[-1]) < 1e-14:
        return None
    step = -residual[:-1] / residual[-1]
    return point + step if (g @ step - h).min() > -1e-9 else None


class Nearest(nn.Module):
    """A 1-nearest-neighbour classifier: minus the squared distance to the nearest site a class."""

    sites: Tensor

    def __init__(self, sites: Tensor, classes: int) -> None:
        super().__init__()
        self.classes = torch.arange(len(sites)) % classes
        self.register_buffer("sites", sites)
        self.k = classes

    def forward(self, points: Tensor) -> Tensor:
        away = (points.unsqueeze(1) - self.sites).square().sum(2)
        return torch.stack([-away[:, self.classes == c].amin(1) for c in range(self.k)], 1)

    def distance(self, point: Tensor, label: int, box: tuple[float, float]) -> float:
        """Return the distance to the nearest cell of another class: a small program a rival."""
        sites, place = self.sites.double().numpy(), point.double().numpy()
        own = sites[(self.classes == label).numpy()]
        sides = np.eye(len(place))
        least = math.inf
        for rival in sites[(self.classes != label).numpy()]:
            normals, offsets = 2.0 * (own - rival), (own**2).sum(1) - (rival**2).sum()
            if math.isfinite(box[0]):
                normals = np.vstack([normals, sides, -sides])
                limits = [offsets, np.full(len(place), box[1]), np.full(len(place), -box[0])]
                offsets = np.concatenate(limits)
            found = nearest_in(place, normals, offsets)
            if found is not None:
                least = min(least, float(np.linalg.norm(found - place)))
        return least


def scene(d: int, k: int, sites: int, seed: int) -> tuple[Nearest, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = Nearest(torch.rand(sites, d, generator=generator, dtype=torch.float64), k)
    points = torch.rand(40, d, generator=generator, dtype=torch.float64)
    return model, points, model(points).argmax(1)


@pytest.mark.slow
@pytest.mark.parametrize("box", [UNBOUNDED, (0.0, 1.0)])
@pytest.mark.parametrize(
    ("d", "k", "sites", "seed"), [(2, 3, 12, 0), (3, 3, 15, 1), (10, 5, 50, 3)]
)
def test_nearest_neighbour_fields_are_exact(
    d: int, k: int, sites: int, seed: int, box: tuple[float, float]
) -> None:
    model, points, labels = scene(d, k, sites, seed)
    found = direct_boundary(model, points, labels, bounds=box, steps=400, rivals=5)
    rows = zip(points, labels.tolist(), strict=True)
    solved = [model.distance(point, label, box) for point, label in rows]
    exact = torch.tensor(solved, dtype=torch.float64)
    assert (found.distance >= exact * (1 - 1e-9)).all()
    assert (found.distance <= exact * (1 + 1e-6)).double().mean() >= 0.99


@pytest.mark.parametrize(("low", "high"), [UNBOUNDED, (0.0, 1.0)])
def test_projections_are_those_of_a_solver(low: float, high: float) -> None:
    generator = torch.Generator().manual_seed(4)
    points = torch.rand(30, 8, generator=generator, dtype=torch.float64)
    inside = torch.rand(30, 8, generator=generator, dtype=torch.float64)
    cuts = Cuts(points)
    planes = []
    for _ in range(4):
        normal = torch.randn(30, 8, generator=generator, dtype=torch.float64)
        value = (normal * (points - inside)).sum(1) + 0.1  # `inside` is on the far side by 0.1
        cuts.add(points, value, normal)
        planes.append((normal, (normal * points).sum(1) - value))
    sides = torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)
    there = cuts.project(*sides, torch.zeros(30, dtype=torch.float64))
    for i in range(30):
        normals = np.stack([normal[i].numpy() for normal, _ in planes])
        offsets = np.array([float(offset[i]) for _, offset in planes])
        if math.isfinite(low):
            normals = np.vstack([normals, np.eye(8), -np.eye(8)])
            offsets = np.concatenate([offsets, np.ones(8), np.zeros(8)])
        solved = nearest_in(points[i].numpy(), normals, offsets)
        if solved is not None:
            np.testing.assert_allclose(there[i].numpy(), solved, atol=1e-8)


def test_no_more_planes_are_kept_than_there_is_room_for() -> None:
    """The one that bears nothing makes room, so a later one that binds is not lost."""
    point = torch.zeros(1, 2, dtype=torch.float64)
    cuts = Cuts(point)
    sides = torch.tensor(-9.0, dtype=torch.float64), torch.tensor(9.0, dtype=torch.float64)
    nothing = torch.zeros(1, dtype=torch.float64)
    for length in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 2.0, 0.4):
        normal = torch.tensor([[-1.0, 0.0]], dtype=torch.float64)  # x >= length
        cuts.add(point, torch.tensor([length], dtype=torch.float64), normal)
        cuts.project(*sides, nothing)
    there = cuts.project(*sides, nothing)
    torch.testing.assert_close(there, torch.tensor([[2.0, 0.0]], dtype=torch.float64))
    cuts.forget(torch.tensor([True]))
    torch.testing.assert_close(cuts.project(*sides, nothing), point)


class Wedge(nn.Module):
    """Class 1 where both coordinates exceed 1: the nearest point of it to the origin is (1, 1)."""

    def forward(self, points: Tensor) -> Tensor:
        return torch.stack([(1.0 - points).amax(1), torch.zeros_like(points[:, 0])], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_corner_is_found(dtype: torch.dtype) -> None:
    points = torch.tensor([[0.0, 0.0], [0.5, -1.0], [3.0, 0.5]], dtype=dtype)
    model = Wedge()
    with frozen(model):
        problem = Problem("t", model, points, None, norm=2.0, bounds=UNBOUNDED)
        rows = torch.arange(3)
        ended = refine(problem, rows, points + 4.0, torch.ones(3, dtype=torch.int64), 8)
    assert ended.all()
    exact = (points.clamp(min=1.0) - points).norm(dim=1)
    torch.testing.assert_close(problem.distance, exact, rtol=2e-4, atol=0)
    assert (model(problem.best).argmax(1) == 1).all()
    assert (problem.gradients <= 8).all()


def test_a_row_leaves_when_it_has_no_nearer_point_to_offer() -> None:
    points = torch.zeros(1, 2, dtype=torch.float64)
    with frozen(Wedge()):
        problem = Problem("t", Wedge(), points, None, norm=2.0, bounds=UNBOUNDED)
        rows, rivals = torch.tensor([0]), torch.tensor([1])
        problem.distance[0] = 0.5  # nearer than the wedge is
        ended = refine(problem, rows, points + 4.0, rivals, 8)
    assert not ended.any()
    assert problem.distance.item() == 0.5
    assert problem.gradients.item() == 1


def test_flat_and_broken_planes_are_passed_over() -> None:
    points = torch.zeros(3, 2, dtype=torch.float64)
    cuts = Cuts(points)
    normal = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [math.nan, 1.0]], dtype=torch.float64)
    cuts.add(points, torch.ones(3, dtype=torch.float64), normal)
    sides = torch.tensor(-9.0, dtype=torch.float64), torch.tensor(9.0, dtype=torch.float64)
    there = cuts.project(*sides, torch.zeros(3, dtype=torch.float64))
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(there, expected)
