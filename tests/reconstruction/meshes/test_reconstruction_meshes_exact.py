"""Exact meshes: every triangle lies in the level set, every edge has two faces."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.reconstruction import exact_mesh, extract_mesh

BOX = ((-2.5, -2.5, -2.5), (2.5, 2.5, 2.5))


def fitted(settled, middle, seed=0):
    """Return a network whose level set is a closed blob: units, plus the L1 norm."""
    network = settled(middle, seed, torch.float64)
    return Blob(network).double()


class Blob(nn.Module):
    def __init__(self, network, strength=0.1):
        super().__init__()
        self.network, self.strength = network, strength
        self.turn = nn.Linear(3, 9)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            self.turn.weight.copy_(torch.randn(9, 3, generator=generator))
            self.turn.bias.zero_()

    def forward(self, x):
        z = self.turn(x)
        size = functional.relu(z) + functional.relu(-z)
        return size.mean(1, keepdim=True) - 0.7 + self.strength * self.network(x)


def check(field, mesh, level=0.0):
    with torch.no_grad():
        corners = mesh.vertices[mesh.faces]
        for share in ((1, 0, 0), (0.2, 0.5, 0.3), (1 / 3, 1 / 3, 1 / 3)):
            weights = torch.tensor(share, dtype=torch.float64).view(1, 3, 1)
            values = field((corners * weights).sum(1)).reshape(-1) - level
            assert float(values.abs().max()) < 1e-13


MIDDLES = {
    "relu": lambda: nn.Sequential(
        nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 1)
    ),
    "leaky": lambda: nn.Sequential(nn.Linear(3, 20), nn.LeakyReLU(0.1), nn.Linear(20, 1)),
    "hardtanh": lambda: nn.Sequential(
        nn.Linear(3, 12), nn.Hardtanh(-0.3, 0.4), nn.Linear(12, 9), nn.ReLU6(), nn.Linear(9, 1)
    ),
}


@pytest.mark.parametrize("kind", sorted(MIDDLES))
def test_the_mesh_is_closed_and_every_triangle_lies_in_the_level_set(settled, kind):
    field = fitted(settled, MIDDLES[kind]())
    mesh = exact_mesh(field, bounds=BOX, seeds=12)
    assert mesh.watertight
    assert mesh.genus == 0
    assert len(mesh.faces) > 200
    check(field, mesh)
    rough = extract_mesh(field, bounds=BOX, resolution=96)
    assert float(mesh.volume) == pytest.approx(float(rough.volume), rel=2e-3)
    assert float(mesh.volume) > 0  # faces look outwards, towards larger values


def test_a_level_and_its_shift_are_one(settled):
    field = fitted(settled, MIDDLES["relu"]())
    mesh = exact_mesh(field, bounds=BOX, level=-0.1, seeds=12)
    check(field, mesh, -0.1)
    assert mesh.watertight


def test_the_faces_at_the_box_are_open(settled):
    field = fitted(settled, MIDDLES["relu"]())
    mesh = exact_mesh(field, bounds=((-2.5, -2.5, 0.05), (2.5, 2.5, 2.5)), seeds=12)
    check(field, mesh)
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    pairs, counts = edges.sort(1).values.unique(dim=0, return_counts=True)
    assert int(counts.max()) == 2
    lone = mesh.vertices[pairs[counts == 1]]
    assert len(lone) == mesh.boundary_edges
    assert len(lone) > 10
    torch.testing.assert_close(lone[..., 2], torch.full_like(lone[..., 2], 0.05))


class Cube(nn.Module):
    """The largest of |x|, |y|, |z|, less 1, by ReLUs."""

    def __init__(self):
        super().__init__()
        self.first, self.pick = nn.Linear(3, 6, bias=False), nn.Linear(6, 3, bias=False)
        eye = torch.eye(3)
        self.first.weight = nn.Parameter(torch.cat([eye, -eye]))
        self.pick.weight = nn.Parameter(torch.cat([eye, eye], 1))
        self.one, self.two, self.three = (nn.Linear(3, 1, bias=False) for _ in range(3))
        for place, layer in enumerate((self.one, self.two, self.three)):
            layer.weight = nn.Parameter(eye[place : place + 1])

    def forward(self, x):
        sizes = self.pick(functional.relu(self.first(x)))
        largest = self.one(sizes)
        for other in (self.two, self.three):
            largest = largest + functional.relu(other(sizes) - largest)
        return largest - 1.0


def test_a_cube_has_six_faces():
    """Units coincide in pairs, and more than two meet in the corners."""
    field = Cube().double()
    mesh = exact_mesh(field, bounds=BOX, seeds=10)
    check(field, mesh)
    assert mesh.watertight
    assert float(mesh.volume) == pytest.approx(8.0, rel=1e-12)
    assert float(mesh.area) == pytest.approx(24.0, rel=1e-12)


def test_units_twice_and_negated_change_nothing(settled):
    once = fitted(settled, nn.Sequential(nn.Linear(3, 10), nn.ReLU(), nn.Linear(10, 1)))
    first, last = once.network[0], once.network[2]
    wide, end = nn.Linear(3, 30).double(), nn.Linear(30, 1).double()
    with torch.no_grad():
        wide.weight.copy_(torch.cat([first.weight, first.weight, -2 * first.weight]))
        wide.bias.copy_(torch.cat([first.bias, first.bias, -2 * first.bias]))
        end.weight.copy_(torch.cat([last.weight / 2, last.weight / 2, 0 * last.weight], 1))
        end.bias.copy_(last.bias)
    expected = exact_mesh(once, bounds=BOX, seeds=10)
    once.network = nn.Sequential(wide, nn.ReLU(), end)
    mesh = exact_mesh(once, bounds=BOX, seeds=10)
    assert mesh.watertight
    assert len(mesh.faces) == len(expected.faces)
    assert float(mesh.volume) == pytest.approx(float(expected.volume), rel=1e-12)


def test_nothing_there_is_an_empty_mesh(settled):
    field = fitted(settled, MIDDLES["relu"]())
    mesh = exact_mesh(field, bounds=BOX, level=-50.0, seeds=5)
    assert len(mesh.vertices) == len(mesh.faces) == 0


def test_bad_input(settled):
    field = fitted(settled, MIDDLES["relu"]())
    with pytest.raises(FieldError, match=r"\(Tanh\), which is smooth.*extract_mesh"):
        exact_mesh(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), bounds=BOX)
    with pytest.raises(FieldError, match="got 2 values a point"):
        exact_mesh(nn.Linear(3, 2), bounds=BOX)
    pooled = nn.Sequential(
        nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2)), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 1)
    )
    with pytest.raises(FieldError, match="must not pool"):
        exact_mesh(pooled, bounds=BOX)
    with pytest.raises(FieldError, match="more than `max_faces`=10 polygons"):
        exact_mesh(field, bounds=BOX, max_faces=10)
    with pytest.raises(ShapeError, match="exact_mesh: `bounds`"):
        exact_mesh(field, bounds=((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ParameterError, match="exact_mesh: `bounds` must have its lowest corner"):
        exact_mesh(field, bounds=((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    with pytest.raises(ParameterError, match="`seeds` must be an integer of at least 2"):
        exact_mesh(field, bounds=BOX, seeds=1)
