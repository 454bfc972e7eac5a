"""Handles and pieces that points do not bear out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from levelset.networks import SplineGrid
from levelset.reconstruction import Fast, _topology, extract_mesh, sample_surface, surface
from levelset.reconstruction._meshes._loops import Loop, handles, short_loops
from levelset.reconstruction._orientation import OrientedPoints
from levelset.reconstruction._topology import Witnesses, borne_out, settle_topology
from levelset.shapes import Sphere, Torus

BOX = torch.tensor([[-0.9] * 3, [0.9] * 3], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def slab(points):
    """Return the distance from a slab 0.1 thick, 1.2 wide."""
    return (points.abs() - points.new_tensor([0.6, 0.6, 0.05])).amax(1)


def grid(field, cells=64):
    network = SplineGrid(cells)
    with torch.no_grad():
        network.coefficients.copy_(field(network.centres().view(-1, 3)).view(*[cells + 2] * 3))
    return network.requires_grad_(False)


def points_on(field, count=4000, resolution=48):
    """Return oriented points on the zero level, with the normals that a plane fit would give."""
    mesh = extract_mesh(field, bounds=BOX, resolution=resolution)
    places, rows = sample_surface(mesh, count, generator=seeded())
    places, normals = places.numpy(), mesh.face_normals[rows].numpy()
    spacing = np.full(count, np.sqrt(mesh.area / count))
    ones = np.ones(count)
    return OrientedPoints(places, normals, ones, ones, spacing, 0.002 * ones)


def meshed(network, resolution=64):
    return extract_mesh(network, bounds=BOX, resolution=resolution)


def settled(network, witnesses):
    return settle_topology(network, witnesses, lambda: meshed(network), lambda: meshed(network, 48))


def pierced(points):
    """Return the slab with a thin tunnel through it that no point has seen."""
    hole = 0.04 - (points[:, :2] - points.new_tensor([0.1, 0.2])).norm(dim=1)
    return torch.maximum(slab(points), hole)


def bridged(points):
    """Return two slabs on a wall, with a bridge between them that no point has seen."""
    bridge = torch.maximum(points[:, :2].norm(dim=1) - 0.04, points[:, 2].abs() - 0.2)
    return torch.minimum(clamp(points), bridge)


def clamp(points):
    """Return two slabs on a wall."""
    up = (points[:, 2].abs() - 0.15).abs() - 0.05
    sides = (points[:, :2].abs() - 0.6).amax(1)
    wall = (points - points.new_tensor([-0.55, 0, 0])).abs() - points.new_tensor([0.05, 0.6, 0.2])
    return torch.minimum(torch.maximum(up, sides), wall.amax(1))


@pytest.mark.parametrize(("false", "true"), [(pierced, slab), (bridged, clamp)])
def test_a_tunnel_and_a_bridge_that_no_point_has_seen_are_taken_away(false, true):
    network = grid(false)
    assert handles(meshed(network)) == 1
    witnesses = Witnesses(points_on(true))
    mesh, unclear, removed = settled(network, witnesses)
    assert (handles(mesh), mesh.components, mesh.watertight) == (0, 1, True)
    assert (removed, unclear) == (1, ())
    # the rest of the surface stays where it was
    far = mesh.vertices[(mesh.vertices[:, :2] - torch.tensor([0.05, 0.1])).norm(dim=1) > 0.35]
    assert true(far).abs().max() < 0.03


def perforated(places, radius):
    """Return the slab with holes through it that no point has seen."""

    def field(points):
        away = torch.stack([(points[:, :2] - points.new_tensor(p)).norm(dim=1) for p in places])
        return torch.maximum(slab(points), radius - away.amin(0))

    return field


def test_strips_that_noise_hides_are_not_cut_while_the_tunnels_beside_them_can_be_filled():
    network = grid(perforated([(x, y) for x in (-0.1, 0.1) for y in (-0.1, 0.1)], 0.075))
    assert handles(meshed(network)) == 4
    cloud = points_on(slab)
    mesh, unclear, removed = settled(
        network, Witnesses(replace(cloud, spread=0.06 + 0 * cloud.spread))
    )
    assert (handles(mesh), mesh.components, mesh.watertight) == (0, 1, True)
    assert (removed, unclear) == (4, ())


class Blind(Witnesses):
    """Witnesses that see no handle."""

    def judge(self, loop):
        return replace(super().judge(loop), along=0.0, hidden=True)


def test_handles_that_cannot_all_go_at_once_go_by_halves():
    # to cut the strip between a hole and the rim, and fill the hole, leaves a slit
    network = grid(perforated([(-0.16, -0.13), (-0.13, 0.49), (0.13, 0.17), (-0.17, 0.18)], 0.05))
    assert handles(meshed(network)) == 4
    mesh, unclear, removed = settled(network, Blind(points_on(slab)))
    assert (handles(mesh), mesh.components, removed, unclear) == (0, 1, 4, ())


def test_points_are_missed_where_a_mesh_does_not_come_near_them():
    cloud = points_on(slab)
    witnesses = Witnesses(cloud)
    assert witnesses.missed(meshed(grid(slab))) == 0
    half = grid(lambda p: torch.maximum(slab(p), p[:, 0]))
    beyond = (cloud.points[:, 0] > 0.0).sum()
    assert 0.7 * beyond < witnesses.missed(meshed(half)) < beyond


def test_a_patch_that_takes_too_many_points_is_none(monkeypatch):
    network = grid(pierced)
    before = network.coefficients.clone()
    monkeypatch.setattr(_topology, "FEWEST", -1)
    monkeypatch.setattr(_topology, "LOST", -1.0)
    mesh, _, removed = settled(network, Witnesses(points_on(slab)))
    assert (handles(mesh), removed) == (1, 0)
    assert torch.equal(network.coefficients, before)


@pytest.mark.parametrize("tube", [0.08, 0.2])
def test_a_handle_that_points_lie_on_stays(tube):
    ring = Torus(0.6, tube)
    network = grid(ring)
    before = network.coefficients.clone()
    mesh, unclear, removed = settled(network, Witnesses(points_on(ring)))
    assert (handles(mesh), unclear, removed) == (1, (), 0)
    assert torch.equal(network.coefficients, before)


def sheet_with_a_hole(points):
    """Return the distance from a sheet 0.04 thick, 1.2 wide, with a hole of radius 0.2."""
    sheet = (points.abs() - points.new_tensor([0.6, 0.6, 0.02])).amax(1)
    return torch.maximum(sheet, 0.2 - points[:, :2].norm(dim=1))


@pytest.mark.parametrize("wall", [True, False])
def test_a_hole_in_a_thin_sheet_stays_though_most_points_near_face_along_its_axis(wall):
    cloud = points_on(sheet_with_a_hole, 1500, resolution=96)
    if not wall:  # a hole in the scan, it may be
        inside = np.linalg.norm(cloud.points[:, :2], axis=1) < 0.25
        cloud = replace(cloud, weights=1.0 * ~(inside & (np.abs(cloud.points[:, 2]) < 0.017)))
        cloud = cloud.without_outliers()
    network, witnesses = grid(sheet_with_a_hole), Witnesses(cloud)
    mesh = meshed(network)
    hole = next(h for h in short_loops(mesh, longest=2.0, odd=witnesses.gap) if h.hollow)
    judged = witnesses.judge(hole)
    assert judged.along > 0.5
    assert (judged.open, judged.false, judged.unsure) == (True, False, not wall)
    again, _, removed = settled(network, witnesses)
    assert (handles(again), removed) == (1, 0)


def test_a_hole_in_which_points_lie_is_not_open_even_if_they_are_taken_for_outliers():
    cloud = points_on(lambda p: (p.abs() - p.new_tensor([0.6, 0.6, 0.02])).amax(1), 1500)
    within = np.linalg.norm(cloud.points[:, :2], axis=1) < 0.2
    mesh = meshed(grid(sheet_with_a_hole))
    witnesses = Witnesses(replace(cloud, weights=1.0 * ~within))
    hole = next(h for h in short_loops(mesh, longest=2.0, odd=witnesses.gap) if h.hollow)
    assert not witnesses.judge(hole).open
    assert witnesses.judge(hole).false


def around_a_rod(spread=0.002, *, ends):
    """Return the judgement on a rod of radius 0.1 between `ends` walls, by a loop at its foot."""
    rng, around = np.random.default_rng(0), np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
    circle = np.stack([np.cos(around), np.sin(around), 0.0 * around], 1)
    flat = np.c_[rng.uniform(-0.5, 0.5, (2000, 2)), np.zeros(2000)]
    flat = flat[np.linalg.norm(flat, axis=1) > 0.1]
    wall = np.c_[0 * flat[:, :2], np.ones(len(flat))]
    angle, height = rng.uniform(0, 2 * np.pi, 600), rng.uniform(0.0, 0.5, 600)
    out = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    rod = 0.1 * out + np.c_[0 * height, 0 * height, height]
    if ends == 1:
        places, normals = np.r_[flat, rod], np.r_[wall, out]
    else:  # two walls with nothing between them
        above = np.array([0.0, 0.0, 0.1])
        places, normals = np.r_[flat, flat + above], np.r_[wall, -wall]
    ones = np.ones(len(places))
    points = OrientedPoints(places, normals, ones, ones, 0.03 * ones, spread * ones)
    middle = [0, 0, 0.02 if ends == 1 else 0.05]
    return Witnesses(points).judge(Loop(0.1 * circle + middle, 0.63, circle))


def test_a_rod_is_borne_out_where_it_stands_on_a_wall():
    assert not around_a_rod(ends=1).false
    assert around_a_rod(ends=2).false


def test_noise_hides_handles_no_larger_than_itself():
    assert not around_a_rod(spread=0.07, ends=1).hidden
    judged = around_a_rod(spread=0.09, ends=1)
    assert judged.hidden
    assert judged.false
    assert not judged.unsure


def test_what_the_points_say_is_the_angle_between_normals_and_axis():
    ring = Torus(0.6, 0.15)
    witnesses = Witnesses(points_on(ring))
    mesh = extract_mesh(ring, bounds=BOX, resolution=48)
    handle = witnesses.judge(short_loops(mesh, longest=2.0, odd=witnesses.gap)[0])
    # on a torus normals are at right angles to the axis of a loop around the tube
    assert handle.along < 0.1
    assert handle.supported == 1.0
    assert not handle.false
    away = OrientedPoints(*(np.asarray(a) for a in (
        np.eye(3) + 5, np.eye(3), np.ones(3), np.ones(3), np.full(3, 0.1),
        np.full(3, 0.01))))  # fmt: skip
    lonely = Witnesses(away).judge(handle.loop)
    assert lonely.supported == 0.0
    assert lonely.false


def torn(tube, gap, count):
    """Return random points on a torus but for a band as many spacings wide."""
    points = points_on(Torus(0.6, tube), count)
    x, y, _ = points.points.T
    stay = 0.6 * np.abs(np.arctan2(y, x)) > 0.5 * gap * points.spacing
    names = ("points", "normals", "weights", "confidence", "spacing", "spread")
    return replace(points, **{name: getattr(points, name)[stay] for name in names})


@pytest.mark.parametrize(("gap", "bare"), [(0.0, 0), (4.0, 1), (8.0, 1)])
def test_a_handle_is_false_where_a_ring_around_it_has_no_points(gap, bare):
    network, witnesses = grid(Torus(0.6, 0.12)), Witnesses(torn(0.12, gap, 1500))
    judged = [handle.false for handle in witnesses.bare(meshed(network))]
    assert judged == [True] * 2 * bare  # a ring has two rims
    mesh, _, removed = settled(network, witnesses)
    assert (handles(mesh), mesh.components, removed) == (1 - bare, 1, bare)
    # it was cut where the points are missing
    assert (network(torch.tensor([[0.6, 0.0, 0.0]])).item() > 0.0) == bool(bare)


def test_a_ring_on_which_few_points_would_be_may_be_bare_by_chance():
    mesh = meshed(grid(Torus(0.6, 0.08)))
    # about 4 points are missing of 30, and 27 of 200
    few, many = (Witnesses(torn(0.08, 3.0, count)).bare(mesh) for count in (30, 200))
    assert [handle.false for handle in few] == [False] * 2
    assert [handle.unsure for handle in few] == [True] * 2
    assert [handle.false for handle in many] == [True] * 2


def test_pieces_without_points_go_and_small_ones_with_points_stay():
    large, small = Sphere(0.5), Sphere(0.06)
    points = points_on(large)
    few = points_on(lambda p: small(p - p.new_tensor([0.8, 0, 0])), 20, 128)
    both = OrientedPoints(
        *(np.concatenate([a, b]) for a, b in zip(
            list(vars(points).values())[:6], list(vars(few).values())[:6], strict=True))
    )  # fmt: skip

    def field(p):
        seen = torch.minimum(large(p), small(p - p.new_tensor([0.8, 0, 0])))
        return torch.minimum(seen, Sphere(0.1)(p - p.new_tensor([-0.75, 0, 0])))

    mesh = extract_mesh(field, bounds=BOX, resolution=64)
    assert mesh.components == 3
    rest = borne_out(mesh, Witnesses(both))
    assert rest.components == 2
    assert rest.vertices[:, 0].min() > -0.52
    assert rest.vertices[:, 0].max() > 0.8
    one = extract_mesh(large, bounds=BOX, resolution=24)
    assert borne_out(one, Witnesses(points)) is one


def test_a_field_that_leaves_the_box_is_closed_at_its_wall():
    # a half of a ball, dense in points, open below: nothing pulls the surface together there
    draws = torch.randn(600, 3, generator=seeded(), dtype=torch.float64)
    dome = torch.nn.functional.normalize(draws, dim=1)
    dome[:, 2] = dome[:, 2].abs()
    result = surface(dome, settings=Fast(grid=32), resolution=48)
    assert result.mesh.watertight
    assert result.mesh.volume > 0
