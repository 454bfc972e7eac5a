"""Open surfaces end where their points end: area, length of the edge, pieces, sides."""

import numpy as np
import pytest
import torch

from levelset.reconstruction import Fast, Mesh, extract_mesh, surface
from levelset.reconstruction._open import Footprint, cut_along, lids
from levelset.shapes import Sphere

RNG = np.random.default_rng(0)


def rim(mesh):
    """Return the length of the edge."""
    sides = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).sort(1).values
    edges, uses = sides.unique(dim=0, return_counts=True)
    ends = mesh.vertices[edges[uses == 1]]
    return float((ends[:, 0] - ends[:, 1]).norm(dim=1).sum())


@pytest.fixture(scope="module")
def ball():
    return extract_mesh(Sphere(1.0), bounds=((-1.2,) * 3, (1.2,) * 3), resolution=48)


@pytest.mark.parametrize("height", [0.0, 0.35, -0.6])
def test_a_sphere_cut_by_a_plane_has_the_area_and_the_edge_of_a_cap(ball, height):
    cap = cut_along(ball, ball.vertices[:, 2].numpy() - height)
    assert cap.area == pytest.approx(2 * np.pi * (1 + height), rel=3e-3)
    assert rim(cap) == pytest.approx(2 * np.pi * np.sqrt(1 - height**2), rel=5e-3)
    assert float(cap.vertices[:, 2].max()) < height + 1e-3
    assert cap.normals is not None
    assert float((cap.normals * cap.vertices).sum(1).min()) > 0.99
    assert float((cap.face_normals * cap.vertices[cap.faces[:, 0]]).sum(1).min()) > 0.8


def test_cutting_nothing_and_everything(ball):
    ones = np.ones(len(ball.vertices))
    assert cut_along(ball, -ones).area == pytest.approx(ball.area, rel=1e-12)
    assert len(cut_along(ball, ones).faces) == 0


def test_the_edge_of_a_square_is_where_its_points_end():
    points = np.c_[RNG.uniform(-1, 1, (4_000, 2)), np.zeros(4_000)]
    up = np.tile([0.0, 0.0, 1.0], (4_000, 1))
    spacing = np.full(4_000, np.sqrt(4 / 4_000))
    footprint = Footprint(points, up, spacing, 0.0 * spacing)
    line = np.linspace(-1.2, 1.2, 241)
    places = np.c_[line, np.full(241, 0.1), np.zeros(241)]
    inside = footprint.beyond(places, up[:241]) < 0
    edge = np.abs(line[np.flatnonzero(np.diff(inside))])
    assert len(edge) == 2
    np.testing.assert_allclose(edge, 1.0, atol=spacing[0])
    # the other side of the same square has no points of its own
    assert (footprint.beyond(places, -up[:241]) > 0).all()


def test_lids_between_near_sheets_go():
    spacing, count = 0.04, 2 * 2_500
    half = spacing
    rows = np.random.default_rng(3).uniform(-1, 1, (count, 2))
    up = np.where(np.arange(count) % 2, 1.0, -1.0)
    normals = np.c_[0 * rows, up]
    footprint = Footprint(np.c_[rows, half * up], normals, np.full(count, spacing), np.zeros(count))

    def pill(p):
        # its lid is flatter than a half tube, as fitted ones are
        off = torch.cat([(p[:, :2].abs() - 1.0).clamp(min=0.0) / 0.6, p[:, 2:]], dim=1)
        return off.norm(dim=1) - half

    room = 1.1 + half
    closed = extract_mesh(pill, bounds=((-room,) * 3, (room,) * 3), resolution=110)
    sheets = cut_along(closed, footprint.of(closed))
    assert sheets.components == 2
    assert sheets.area == pytest.approx(8.0, rel=0.01)
    assert rim(sheets) == pytest.approx(16.0, rel=0.03)


@pytest.mark.parametrize("side", [60, 150])
def test_the_rim_does_not_wind_about_the_edge(side):
    points = np.c_[np.random.default_rng(1).uniform(-1, 1, (3_000, 2)), np.zeros(3_000)]
    up = np.tile([0.0, 0.0, 1.0], (3_000, 1))
    footprint = Footprint(points, up, np.full(3_000, np.sqrt(4 / 3_000)), np.zeros(3_000))
    line = torch.linspace(-1.3, 1.3, side + 1, dtype=torch.float64)
    x, y = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, y, 0 * x], 2).reshape(-1, 3)
    corner = torch.arange((side + 1) ** 2).view(side + 1, -1)
    a, b, c, d = (part.flatten() for part in (
        corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    ))  # fmt: skip
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    # as where a surface begins to bend away to its lid
    normals = up[:1] + 0.25 * np.random.default_rng(2).standard_normal((len(vertices), 3))
    normals = torch.nn.functional.normalize(torch.from_numpy(normals), dim=1)
    mesh = Mesh(vertices, faces, normals)
    square = cut_along(mesh, footprint.of(mesh))
    assert square.area == pytest.approx(4.0, rel=0.03)
    assert rim(square) == pytest.approx(8.0, rel=0.03)  # its four corners are round
    winding = cut_along(mesh, footprint.beyond(vertices.numpy(), normals.numpy()))
    assert rim(winding) > 1.04 * rim(square)


def test_lids_are_named_by_place_and_size(ball):
    x = RNG.standard_normal((6_000, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = x[(x[:, 2] < 0.8) & (x[:, 0] > -0.9)]
    spacing = np.full(len(x), np.sqrt(4 * np.pi / 6_000))
    one, other = lids(ball, Footprint(x, x, spacing, 0.0 * spacing).of(ball))
    assert one.area == pytest.approx(2 * np.pi * 0.2, rel=0.1)
    assert other.area == pytest.approx(2 * np.pi * 0.1, rel=0.15)
    assert one.width == pytest.approx(1.2, rel=0.1)
    np.testing.assert_allclose(one.middle, (0, 0, 0.9), atol=0.05)


def terrain(count, rng):
    flat = rng.uniform(-1, 1, (count, 2))
    return np.c_[flat, 0.1 * np.sin(3 * flat[:, 0]) * np.cos(2 * flat[:, 1])]


def sheets(count, rng):
    return np.c_[rng.uniform(-1, 1, (count, 2)), np.where(np.arange(count) % 2, 0.4, 0.0)]


def tray(count, rng):
    """An open bin: a floor of 2 by 2 and four walls 1.2 high."""
    wall = rng.choice(5, count, p=np.array([4.0, 2.4, 2.4, 2.4, 2.4]) / 13.6)
    a, b = rng.uniform(-1, 1, (2, count))
    one, side, height = np.ones(count), a, 0.6 * (b + 1)
    choices = [
        np.c_[a, b, 0 * a], np.c_[one, side, height], np.c_[-one, side, height],
        np.c_[side, one, height], np.c_[side, -one, height],
    ]  # fmt: skip
    return np.stack(choices)[wall, np.arange(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("points", "area", "edge", "pieces"),
    [(terrain, 4.06, 8.05, 1), (sheets, 8.0, 16.0, 2), (tray, 13.6, 8.0, 1)],
)
def test_open_surfaces_have_their_area_edge_and_pieces(points, area, edge, pieces):
    rng = np.random.default_rng(1)
    cloud = points(3_000, rng) + 0.003 * rng.standard_normal((3_000, 3))
    result = surface(torch.from_numpy(cloud), settings=Fast(grid=64), resolution=96, closed=False)
    assert result.mesh.components == pieces
    assert result.mesh.area == pytest.approx(area, rel=0.02)
    assert rim(result.mesh) == pytest.approx(edge, rel=0.04)
    if points is sheets:  # both look away from the other, or both towards it
        up, high = result.mesh.face_normals[:, 2], result.mesh.vertices[result.mesh.faces[:, 0], 2]
        assert abs(float((up * (high - 0.2)).sign().mean())) > 0.95


@pytest.mark.slow
def test_points_that_bound_no_volume_are_said():
    result = surface(torch.from_numpy(terrain(1_500, RNG)), settings=Fast(grid=32), resolution=32)
    assert any("bound no volume" in note for note in result.notes)
    assert isinstance(result.mesh, Mesh)
