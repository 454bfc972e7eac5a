"""Meshes of fields whose level sets are known."""

import math
import sys
import time

import numpy as np
import pytest
import torch

from levelset._tools.evaluation import Evaluator
from levelset.errors import FieldError, MissingExtraError, ParameterError, ShapeError
from levelset.networks import fc_2
from levelset.reconstruction import Mesh, extract_mesh
from levelset.reconstruction._meshes import _extract as lattices
from levelset.shapes import Ellipsoid, Sphere, Torus

BOX = ((-1.2,) * 3, (1.2,) * 3)
TORUS = Torus(0.7, 0.3)


class Counted:
    """A field that counts its evaluations."""

    def __init__(self, field):
        self.field, self.count = field, 0

    def __call__(self, points):
        self.count += len(points)
        return self.field(points)


@pytest.mark.parametrize(
    ("shape", "genus", "volume"),
    [
        (Sphere(), 0, 4 / 3 * math.pi),
        (Sphere(0.7, (0.1, 0.2, -0.3)), 0, 4 / 3 * math.pi * 0.343),
        (TORUS, 1, 2 * math.pi**2 * 0.7 * 0.09),
        (Ellipsoid((1.1, 0.6, 0.3)), 0, 4 / 3 * math.pi * 1.1 * 0.6 * 0.3),
    ],
)
def test_meshes_of_shapes_lie_on_them_closed_and_outwards(shape, genus, volume):
    mesh = extract_mesh(shape, bounds=BOX, resolution=48)
    assert float(shape.distance(mesh.vertices).max()) < 1e-9
    assert (mesh.watertight, mesh.genus, mesh.components) == (True, genus, 1)
    assert mesh.volume == pytest.approx(volume, rel=0.02)
    assert mesh.volume < volume or genus  # a convex shape holds its chords
    leaf = mesh.vertices.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(shape(leaf).sum(), leaf)
    exact = torch.nn.functional.normalize(gradient, dim=1)
    assert float((mesh.normals - exact).abs().max()) < 1e-9
    # the faces look where the gradient does
    middle = mesh.normals[mesh.faces].mean(1)
    assert float((middle * mesh.face_normals).sum(1).min()) > 0.7


def test_the_error_of_the_faces_falls_with_the_square_of_the_cell():
    volumes = [extract_mesh(Sphere(), bounds=BOX, resolution=n).volume for n in (20, 40, 80)]
    errors = [4 / 3 * math.pi - volume for volume in volumes]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_levels_beside_zero():
    mesh = extract_mesh(TORUS, bounds=BOX, resolution=32, level=-0.1)
    assert float(Torus(0.7, 0.2).distance(mesh.vertices).max()) < 1e-9
    assert mesh.genus == 1


def test_pieces_are_all_found():
    def four(points):
        spots = [(-0.8, 0.1, 0.2), (0.75, 0.0, -0.3), (0.0, 0.9, 0.0), (0.1, -0.8, 0.9)]
        radii = [0.3, 0.2, 0.1, 0.06]
        return torch.stack([Sphere(r, s)(points) for r, s in zip(radii, spots, strict=True)]).amin(
            0
        )

    mesh = extract_mesh(four, bounds=BOX, resolution=64)
    assert (mesh.components, mesh.watertight) == (4, True)
    assert float(four(mesh.vertices).abs().max()) < 1e-9


@pytest.mark.parametrize(
    "bend",
    [
        lambda f: 10 * f,
        lambda f: 1e-6 * f,
        lambda f: torch.tanh(30 * f),
        lambda f: f * (2 + (9 * f).sin()),
        lambda f: f + 0.5 * (f - 0.01).abs() - 0.005,
        lambda f: torch.where(f > 0, 100 * f, f),
    ],
    ids=["steep", "flat", "squashed", "wavy", "kinked", "one-sided"],
)
def test_fields_that_are_no_distances_have_the_same_mesh(bend):
    plain = extract_mesh(TORUS, bounds=BOX, resolution=40)
    mesh = extract_mesh(lambda x: bend(TORUS(x)), bounds=BOX, resolution=40)
    assert (mesh.genus, mesh.watertight, len(mesh.vertices)) == (1, True, len(plain.vertices))
    assert float(TORUS.distance(mesh.vertices).max()) < 1e-9


def test_a_jump_is_meshed_where_it_is():
    """Newton finds no zero; the corners stay where marching cubes put them."""
    mesh = extract_mesh(lambda x: Sphere()(x).sign() * 5 + Sphere()(x), bounds=BOX, resolution=32)
    assert (mesh.watertight, mesh.genus) == (True, 0)
    assert float(Sphere().distance(mesh.vertices).max()) < 2.4 / 32


def wavy(seed):
    """A smooth random field, no distance, with many pieces."""
    generator = torch.Generator().manual_seed(seed)
    waves = 5.0 * torch.randn(12, 3, generator=generator, dtype=torch.float64)
    phases = 6.3 * torch.rand(12, generator=generator, dtype=torch.float64)
    return lambda x: (x.double() @ waves.T + phases).sin().sum(1)


def made(field, cells, box=BOX):
    low, step = np.array(box[0]), (box[1][0] - box[0][0]) / cells[0]
    return lattices.Lattice(low, step, cells, Evaluator("test", field), 0.0, torch.from_numpy)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cells", [(48, 48, 48), (45, 33, 50), (3, 5, 2)])
def test_the_band_has_the_signs_of_the_whole_lattice_and_its_values_near_zero(seed, cells):
    lattice = made(wavy(seed), cells)
    volume = lattices.narrow_band(lattice)
    places = np.stack(np.meshgrid(*(np.arange(c + 1.0) for c in cells), indexing="ij"), -1)
    whole = lattice.values(places.reshape(-1, 3)).reshape(volume.shape)
    assert ((volume < 0) == (whole < 0)).all()
    for axis in range(3):
        a, b = (np.moveaxis(volume, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
        e, f = (np.moveaxis(whole, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
        crossed = (e < 0) != (f < 0)
        assert np.allclose(a[crossed] * lattice.steepest, e[crossed], rtol=1e-4, atol=1e-4)
        assert np.allclose(b[crossed] * lattice.steepest, f[crossed], rtol=1e-4, atol=1e-4)


def test_what_was_found_of_a_surface_is_followed_to_its_end():
    """Begin at one corner with wrong signs far away: no sheet, no crack remains."""
    lattice = made(TORUS, (40, 40, 40))
    lattice.steepest = lattice.step
    shape = (41, 41, 41)
    volume, known = np.full(shape, np.float32(1e3)), np.zeros(shape, dtype=bool)
    seed = np.ravel_multi_index(([31, 32, 33], [20, 20, 20], [20, 20, 20]), shape)
    done = lattices._filled(lattice, volume, known, seed, None)
    places = np.stack(np.meshgrid(*(np.arange(41.0),) * 3, indexing="ij"), -1).reshape(-1, 3)
    assert ((done < 0).ravel() == (lattice.values(places) < 0)).all()
    assert known.mean() < 0.5


def test_boxes_of_any_sides_have_cubic_cells():
    box = ((-1.05, -1.3, -1.21), (1.07, 1.55, 2.0))
    mesh = extract_mesh(Sphere(), bounds=torch.tensor(box), resolution=37)
    assert (mesh.watertight, mesh.genus) == (True, 0)
    assert float(Sphere().distance(mesh.vertices).max()) < 1e-9
    assert mesh.volume == pytest.approx(4 / 3 * math.pi, rel=0.02)
    edges = mesh.vertices[mesh.edges[:, 0]] - mesh.vertices[mesh.edges[:, 1]]
    assert float(edges.norm(dim=1).max()) < 2 * 3.21 / 37


def test_a_surface_that_leaves_the_box_is_open_there_only():
    mesh = extract_mesh(Sphere(1.4), bounds=BOX, resolution=40)
    assert not mesh.watertight
    assert mesh.boundary_edges > 0
    keys, uses = torch.unique(
        torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]).sort(1)[0],
        dim=0, return_counts=True,
    )  # fmt: skip
    rim = mesh.vertices[keys[uses == 1].flatten()]
    assert float((rim.abs().amax(1) - 1.2).abs().max()) < 2.4 / 40


def test_no_level_set_is_no_mesh():
    mesh = extract_mesh(Sphere(5.0), bounds=BOX, resolution=16)
    assert (len(mesh.vertices), len(mesh.faces), mesh.watertight) == (0, 0, False)
    assert mesh.normals.shape == (0, 3)


def test_points_drop_phantoms_and_open_what_was_not_seen(noise):
    def field(points):
        return torch.minimum(Sphere(0.6)(points), Sphere(0.1, (0.9, 0.9, 0.9))(points))

    points = 0.6 * torch.nn.functional.normalize(noise(4000, 3), dim=1)
    closed = extract_mesh(field, bounds=BOX, resolution=40, points=points)
    assert (closed.components, closed.genus) == (1, 0)
    half = points[points[:, 0] < 0]
    opened = extract_mesh(field, bounds=BOX, resolution=40, points=half, max_distance=0.05)
    assert (opened.components, opened.watertight) == (1, False)
    assert -0.6 < float(opened.vertices[:, 0].max()) < 0.05


def network(settled, dtype=torch.float32):
    """A small network with a level set inside the box."""
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 24), torch.nn.Softplus(beta=10), torch.nn.Linear(24, 24),
        torch.nn.Dropout(), torch.nn.Tanh(), torch.nn.Linear(24, 1),
    )  # fmt: skip
    return settled(model, seed=1, dtype=dtype)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_networks_run_in_their_own_dtype_and_stay_as_found(settled, left_as_found, dtype, tol):
    model = network(settled, dtype).train()
    with torch.no_grad():
        level = float(model.eval()(torch.zeros(1, 3, dtype=dtype)))
    model.train()
    with left_as_found(model):
        mesh = extract_mesh(model, bounds=BOX, resolution=24, level=level)
    assert len(mesh.faces) > 100
    with torch.no_grad():
        residual = model.double().eval()(mesh.vertices)[:, 0] - level
    assert float(residual.abs().max()) < tol


def test_batches_change_nothing_but_rounding(settled):
    model = network(settled, torch.float64)
    whole = extract_mesh(model, bounds=BOX, resolution=12)
    parts = extract_mesh(model, bounds=BOX, resolution=12, batch_size=7)
    assert torch.equal(whole.faces, parts.faces)
    assert float((whole.vertices - parts.vertices).abs().max()) < 1e-12


def test_progress_ends_at_its_total_and_tells_the_truth():
    seen = []
    field = Counted(TORUS)
    extract_mesh(field, bounds=BOX, resolution=64, progress=lambda *step: seen.append(step))
    assert all(0 < done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1]
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)
    assert seen[-1][0] < field.count < 0.5 * 65**3


def test_less_than_a_tenth_of_a_lattice_of_128_is_evaluated():
    """Corners of the lattice, middles of blocks; then the corners of the mesh, three times."""
    field = Counted(TORUS)
    mesh = extract_mesh(field, bounds=BOX, resolution=128)
    lattice = field.count - 3 * len(mesh.vertices)
    assert lattice / 129**3 < 0.11
    assert field.count / 129**3 < 0.17


@pytest.mark.slow
def test_at_256_cells_a_cheap_field_takes_five_seconds_and_a_twelfth_of_the_lattice():
    field = Counted(Sphere())
    began = time.process_time()
    mesh = extract_mesh(field, bounds=((-1.1,) * 3, (1.1,) * 3), resolution=256)
    assert time.process_time() - began < 5.0
    assert (mesh.watertight, mesh.genus) == (True, 0)
    assert (field.count - 3 * len(mesh.vertices)) / 257**3 < 1 / 12


def test_flat_spots_of_the_gradient_get_the_normals_of_their_faces():
    mesh = extract_mesh(lambda x: (Sphere()(x)).clamp(-1e-9, 1e-9) * 0, bounds=BOX, resolution=8)
    assert len(mesh.faces) == 0
    rounded = extract_mesh(
        lambda x: torch.sign(Sphere()(x)) + 0 * x.sum(1), bounds=BOX, resolution=16
    )
    assert float((rounded.normals.norm(dim=1) - 1).abs().max()) < 1e-9
    outward = torch.nn.functional.normalize(rounded.vertices, dim=1)
    assert float((rounded.normals * outward).sum(1).min()) > 0.7


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"bounds": ((0.0, 0.0), (1.0, 1.0))}, ShapeError, r"two corners .*\(2, 3\), got \(2, 2\)"),
        ({"bounds": ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0))}, ParameterError, "lowest corner first"),
        (
            {"bounds": ((0.0, 0.0, 0.0), (math.inf, 1.0, 1.0))},
            ParameterError,
            "lowest corner first",
        ),
        ({"resolution": 1}, ParameterError, "`resolution` must lie in 2 to 1024 cells, got 1"),
        ({"resolution": 2000}, ParameterError, "must lie in 2 to 1024 cells, got 2000"),
        ({"level": math.nan}, ParameterError, "`level` must be finite"),
        ({"batch_size": 0}, ParameterError, "`batch_size` must be at least 1"),
        ({"max_distance": 0.1}, ParameterError, "`max_distance` must come with `points`"),
        ({"max_distance": 0.0}, ParameterError, "`max_distance` must be positive"),
        ({"points": torch.zeros(4, 2)}, ShapeError, r"`points` must have the shape \(n, 3\)"),
        ({"points": torch.zeros(4, 3, dtype=torch.int64)}, ShapeError, "must be floating point"),
    ],
)
def test_options_out_of_range(options, error, words):
    with pytest.raises(error, match=words):
        extract_mesh(Sphere(), **({"bounds": BOX, "resolution": 8} | options))


def test_fields_that_are_none():
    with pytest.raises(ShapeError, match=r"one equation, .*got 2. For curves use `trace_curve`"):
        extract_mesh(lambda x: x[:, :2], bounds=BOX, resolution=8)
    with pytest.raises(FieldError, match="must return finite values, got NaN or infinity on all"):
        extract_mesh(lambda x: x[:, 0] * torch.nan, bounds=BOX, resolution=8)
    with pytest.raises(FieldError, match="must map points"):
        extract_mesh(lambda x: x.sum(), bounds=BOX, resolution=8)


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'levelset\[mesh\]'"):
        extract_mesh(Sphere(), bounds=BOX, resolution=8)


def test_a_network_of_the_paper_is_meshed(settled):
    mesh = extract_mesh(fc_2(), bounds=BOX, resolution=10)
    assert isinstance(mesh, Mesh)
