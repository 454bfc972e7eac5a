"""Handles and pieces of a surface that the points do not bear out, found and taken away."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import pdtr

from levelset._typing import Booleans, Floats, Integers
from levelset.networks import SplineGrid
from levelset.reconstruction._meshes._loops import Loop, handles, short_loops, tightened
from levelset.reconstruction._meshes._mesh import Mesh, keep_faces
from levelset.reconstruction._meshes._rings import rings
from levelset.reconstruction._orientation import OrientedPoints

__all__ = ["Handle", "Witnesses", "borne_out", "settle_topology", "without_handles"]

NEAR = 8  # points looked at for each corner of a loop
CORNERS = 64  # of a loop that are looked at
FALSE = 0.5  # mean squared cosine above which points face along the axis of a loop
HEARD = 0.2  # share of the points near a loop on one side of it, below which they have no say
DOUBT = 0.15  # distance from that within which it is not clear
REACH = 2.5  # spacings around a loop within which points speak for or against it
BARE_WITHIN = 1.0  # spacings around a place without points, for it to be bare
CHANCE = 0.01  # that a ring has no points, above which it says nothing
WITHIN = 0.85  # of a tunnel's width that is looked at for points
STRAY = 4.0  # times the points there, that must still be fewer than two sheets would have
RARE = 1e-3  # chance of so few on two sheets, below which it is open
HIDDEN = 1.25  # standard deviations, radius of a loop below which noise hides what it goes around
LONELY = 0.25  # share of a loop's corners with points near, below which nothing bears it out
SLACK = 1.0  # cells that a patch reaches beyond its loop
THICK = 1.0  # cells, standard deviation of a patch along the axis of its loop
LIFT = 0.75  # cells by which a patch goes past the level
LOST = 0.005  # share of the points that a patch may take from the surface
ROUNDS = 8
MANY = 30  # handles, above which they are looked for on the coarse mesh alone
FEWEST = 10  # points that a piece must be the nearest to
BARE = 0.5  # share of a piece's corners with points near, below which nothing bears it out
TINY = 2.0  # spacings across, up to which a piece is none, or as many standard deviations


@dataclass(frozen=True, eq=False)
class Handle:
    """A handle of a surface, and what the points near it say.

    Attributes:
        loop: The shortest line around it.
        along: Mean squared cosine between normals of the points near and the axis of the loop, on
            the side of it where it is less: 0 where the points lie on the handle, 1 where they lie
            on sheets that it pierces or joins.
        supported: Share of the loop that has points near.
        hidden: Whether the loop is smaller than what noise lets be seen.
        open: Whether it goes around air without points, where sheets that fill it would have many.
    """

    loop: Loop
    along: float
    supported: float
    hidden: bool = False
    open: bool = False

    @property
    def refuted(self) -> bool:
        """Whether the points speak against it, or there are none."""
        return self.supported < LONELY or (self.along > FALSE and not self.open)

    @property
    def false(self) -> bool:
        """Whether the points speak against it, or can say nothing for it."""
        return self.hidden or self.refuted

    @property
    def unsure(self) -> bool:
        """Whether they do not speak clearly."""
        # an open one without a wall may be a hole in the scan
        limit = 1.0 if self.open else FALSE
        return self.supported >= LONELY and abs(self.along - limit) < DOUBT


class Witnesses:
    """The points of a cloud, asked about handles."""

    def __init__(self, oriented: OrientedPoints) -> None:
        points = oriented.without_outliers()
        self.tree, self.all = cKDTree(points.points), cKDTree(oriented.points)
        self.normals, self.spacing, self.spread = points.normals, points.spacing, points.spread
        self.usual, self.noise = float(np.median(points.spacing)), points.noise

    @property
    def longest(self) -> float:
        """The length of a loop above which it is not looked at."""
        return 2.0 * np.pi * max(10.0 * self.usual, 8.0 * float(self.spread.max()))

    def judge(self, loop: Loop) -> Handle:
        """Return what the points near a loop say."""
        corners = loop.places[:: max(1, len(loop.places) // CORNERS)]
        count = min(NEAR, len(self.normals))
        away, near = self.tree.query(corners, count)
        away, near = away.reshape(-1, count), near.reshape(-1, count)
        reach = self._reach(near[:, 0])
        close = away <= reach[:, None]
        # one row a corner of the loop, one column a point
        cosines = (self.normals[near] @ loop.axis) ** 2
        above = (self.tree.data[near] - loop.middle) @ loop.axis > 0.0
        sides = [close & side for side in (above, ~above)]
        # where a handle begins, the points on one side of the loop lie on what it stands on
        heard = [side for side in sides if side.sum() >= HEARD * close.sum() > 0]
        along = min((float(cosines[side].mean()) for side in heard), default=1.0)
        hidden = loop.radius < HIDDEN * float(np.median(self.spread[near[:, 0]]))
        open_ = loop.hollow and self._open(loop, float(np.median(reach)))
        return Handle(loop, along, float(close.any(1).mean()), hidden, open_)

    def _open(self, loop: Loop, reach: float) -> bool:
        """Return whether far fewer points lie within a loop than two sheets across it would have.

        Outliers count: on sheets thinner than the spacing, good points are taken for some.
        """
        rim, angle, radius = _round(loop.places - loop.middle, loop.axis)
        size = float(radius.max()) + reach
        rows = np.array(self.all.query_ball_point(loop.middle, size), dtype=np.int64)
        ways, way, away = _round(self.all.data[rows] - loop.middle, loop.axis)
        width = WITHIN * np.interp(way, angle, radius, period=2.0 * np.pi)
        within = (away < width) & (np.abs(ways[:, 2]) < reach)
        x, y = rim[:, :2].T
        area = 0.5 * abs(float((x * np.roll(y, 1) - y * np.roll(x, 1)).sum()))
        spacing = float(np.median(self.spacing[self.tree.query(loop.places)[1]]))
        return bool(pdtr(STRAY * within.sum(), 2.0 * area * (WITHIN / spacing) ** 2) < RARE)

    def gap(self, places: Floats) -> Floats:
        """Return how far the nearest point is from places, as a multiple of the spacing there."""
        away, rows = self.tree.query(places)
        return np.asarray(away / self._reach(rows, BARE_WITHIN))

    def bare(self, mesh: Mesh) -> list[Handle]:
        """Return the handles around which there is a ring without points.

        Points that lie at random leave a band bare by the chance exp(-a), a being how many there
        would be on it. Where that is small, nothing bears the handle out.

        Args:
            mesh: A watertight mesh.
        """
        vertices = mesh.vertices.numpy()
        area = np.zeros(len(vertices))
        np.add.at(area, mesh.faces.numpy(), mesh.face_areas.numpy()[:, None] / 3.0)
        result = []
        for ring in rings(mesh, self.gap(vertices) > 1.0):
            rows = self.tree.query(ring.places)[1]
            reach = float(np.median(self._reach(rows, BARE_WITHIN)))
            band = cKDTree(ring.places).query(vertices, distance_upper_bound=reach)[0] < reach
            missing = area[band].sum() / float(np.median(self.spacing[rows])) ** 2
            bare = np.exp(-missing) < CHANCE
            result.append(Handle(ring, FALSE, 0.0 if bare else 1.0))
        return result

    def _reach(self, rows: Integers, spacings: float = REACH) -> Floats:
        return np.maximum(spacings * self.spacing[rows], 3.0 * self.spread[rows])

    def near(self, places: Floats) -> Booleans:
        """Return which places have a point near, `(n,)`."""
        away, rows = self.tree.query(places)
        return np.asarray(away <= self._reach(rows))

    def missed(self, mesh: Mesh) -> int:
        """Return how many points a mesh does not come near."""
        ends = mesh.vertices[mesh.edges]
        edge = float((ends[:, 0] - ends[:, 1]).norm(dim=1).mean())
        away = cKDTree(mesh.vertices.numpy()).query(self.tree.data)[0]
        return int((away > edge + self._reach(np.arange(len(away)))).sum())

    def votes(self, mesh: Mesh) -> Integers:
        """Return how many points are nearest to each piece of a mesh, by its label."""
        used = torch.unique(mesh.faces)
        nearest = cKDTree(mesh.vertices[used].numpy()).query(self.tree.data)[1]
        labels = mesh.labels.numpy()
        return np.bincount(labels[used.numpy()[nearest]], minlength=int(labels.max()) + 1)


def _round(ways: Floats, axis: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ways turned so that an axis is the third, their angle around it, and their length."""
    turned = ways @ np.roll(np.linalg.svd(axis[None])[2], -1, 0).T
    return turned, np.arctan2(turned[:, 1], turned[:, 0]), np.hypot(turned[:, 0], turned[:, 1])


def borne_out(mesh: Mesh, witnesses: Witnesses) -> Mesh:
    """Return the mesh without the pieces that no points bear out; all stay if none would.

    A piece goes if it is smaller than what noise and spacing let be seen, if fewer than ten points
    are nearest to it, or if most of it has no point near.

    Args:
        mesh: The mesh, in the frame of the points.
        witnesses: The points.
    """
    if mesh.components < 2:
        return mesh
    labels, votes = mesh.labels.numpy(), witnesses.votes(mesh)
    near = witnesses.near(mesh.vertices.numpy())
    count = np.maximum(np.bincount(labels, minlength=len(votes)), 1)
    share = np.bincount(labels, near, minlength=len(votes)) / count
    low, high = np.full((len(votes), 3), np.inf), np.full((len(votes), 3), -np.inf)
    np.minimum.at(low, labels, mesh.vertices.numpy())
    np.maximum.at(high, labels, mesh.vertices.numpy())
    size = (high - low).max(1)
    least = TINY * max(witnesses.usual, witnesses.noise)
    good = (votes >= FEWEST) & (share >= BARE) & (size > least)
    chosen = torch.from_numpy(good[labels[mesh.faces[:, 0].numpy()]])
    return keep_faces(mesh, chosen) if bool(chosen.any()) else mesh


def settle_topology(
    network: SplineGrid,
    witnesses: Witnesses,
    remesh: Callable[[], Mesh],
    sketch: Callable[[], Mesh],
) -> tuple[Mesh, tuple[Handle, ...], int]:
    """Take away, in place, the handles that the points speak against.

    Args:
        network: The field.
        witnesses: The points.
        remesh: Makes the closed mesh of the field as it is, in its frame.
        sketch: Makes a coarse one, on which they are taken away first.

    Returns:
        The mesh, the handles that stay though it is not clear that they are there, and how many
        were taken away.
    """
    mesh = borne_out(remesh(), witnesses)
    first = handles(mesh)
    if not (first and mesh.watertight):
        return mesh, (), 0
    before = network.coefficients.detach().clone()
    rough, unclear = _rounds(network, witnesses, sketch)
    if not torch.equal(network.coefficients, before):
        mesh = borne_out(remesh(), witnesses)
    if handles(rough) != handles(mesh) <= MANY:
        mesh, unclear = _rounds(network, witnesses, remesh, mesh)
    if handles(mesh) > first or not mesh.watertight:
        with torch.no_grad():
            network.coefficients.copy_(before)
        mesh = borne_out(remesh(), witnesses)
    return mesh, unclear, first - handles(mesh)


def _rounds(
    network: SplineGrid, witnesses: Witnesses, make: Callable[[], Mesh], mesh: Mesh | None = None
) -> tuple[Mesh, tuple[Handle, ...]]:
    """Take false handles away, in place, as long as there are some; return those left unclear.

    Those that the points speak against go first: what is too small to be seen may be a strip
    between two tunnels, and is none when these are filled.
    """
    mesh = mesh or borne_out(make(), witnesses)
    unclear: list[Handle] = []
    for _ in range(ROUNDS):
        if not (handles(mesh) and mesh.watertight):
            return mesh, ()
        met = _judged(mesh, witnesses)
        unclear = [handle for handle in met if handle.unsure and not handle.false]
        false = [handle for handle in met if handle.refuted] or [h for h in met if h.hidden]
        again = false and _patched(network, false, witnesses, make, mesh)
        if not again:
            break
        mesh = again
    return mesh, tuple(unclear)


def _patched(
    network: SplineGrid,
    false: list[Handle],
    witnesses: Witnesses,
    make: Callable[[], Mesh],
    mesh: Mesh,
) -> Mesh | None:
    """Take handles away, in place, and return the mesh; `None`, and nothing done, if it fails.

    It fails if there are no fewer of them then, or if points are lost: a patch across a wide loop
    may take thin walls beside it away. Where not all can go at once, since to cut a bridge between
    two holes makes them one, each half of them is tried for itself.
    """
    before = network.coefficients.detach().clone()
    most = witnesses.missed(mesh) + max(FEWEST, int(LOST * len(witnesses.normals)))
    for ball in (False, True):
        without_handles(network, false, ball=ball)
        again = borne_out(make(), witnesses)
        good = handles(again) < handles(mesh) and again.watertight
        if good and witnesses.missed(again) <= most:
            return again
        with torch.no_grad():
            network.coefficients.copy_(before)
    if len(false) == 1 or not handles(mesh):
        return None
    half = len(false) // 2
    one = _patched(network, false[:half], witnesses, make, mesh)
    return _patched(network, false[half:], witnesses, make, one or mesh) or one


def _judged(mesh: Mesh, witnesses: Witnesses) -> list[Handle]:
    """Return handles and what the points say; if some have a ring without points, these alone."""
    bare = _apart(witnesses.bare(mesh))
    if any(handle.false for handle in bare):
        return bare
    loops = short_loops(mesh, longest=witnesses.longest, odd=witnesses.gap)
    judged = _apart([witnesses.judge(loop) for loop in loops] + bare)
    # a loop that is not the shortest around a handle may pass where normals stand another way
    doubtful = [handle for handle in judged if handle.false or handle.unsure]
    clear = [handle for handle in judged if handle not in doubtful]
    again = tightened(mesh, [handle.loop for handle in doubtful])
    return _apart(clear + [witnesses.judge(loop) for loop in again])


def _apart(judged: list[Handle]) -> list[Handle]:
    """Return handles whose loops are apart, the shortest of each kind: around air, or not."""
    chosen: list[Handle] = []
    # middle, radius and kind of each
    seen = np.empty((len(judged), 5))
    for handle in sorted(judged, key=lambda handle: handle.loop.length):
        loop, others = handle.loop, seen[: len(chosen)]
        away = np.linalg.norm(others[:, :3] - loop.middle, axis=1)
        if not ((others[:, 4] == loop.hollow) & (away <= loop.radius + others[:, 3])).any():
            seen[len(chosen)] = [*loop.middle, loop.radius, loop.hollow]
            chosen.append(handle)
    return chosen


def without_handles(network: SplineGrid, false: list[Handle], *, ball: bool = False) -> None:
    """Fill the tunnels, and cut the bridges, that handles are made of, in place.

    In the middle of each the field gets a patch, a disc within the loop a cell thick, just high
    enough to turn the sign there.

    Args:
        network: The field.
        false: The handles.
        ball: Whether the patch is as thick as the loop is wide.
    """
    width = 2.0 * network.reach / network.cells
    for handle in false:
        loop = handle.loop
        side = 1.0 if loop.hollow else -1.0
        spread = loop.radius + SLACK * width
        index, offsets = _nodes(network, loop.middle, 3.0 * spread)
        along = (offsets @ torch.from_numpy(loop.axis).to(offsets)).square()
        thick = spread if ball else THICK * width
        across = (offsets.square().sum(-1) - along) / spread**2
        bell = torch.exp(-0.5 * (across + along / thick**2))
        with torch.no_grad():
            corners = torch.from_numpy(loop.places).to(offsets)
            middle = corners.mean(0)
            within = side * network(torch.cat([middle[None], (middle + corners) / 2.0]))
            height = max(float(within.max()), 0.0) + LIFT * width
            network.coefficients[index] -= side * height * bell


def _nodes(
    network: SplineGrid, middle: Floats, reach: float
) -> tuple[tuple[slice, slice, slice], torch.Tensor]:
    """Return the block of coefficients around a place, and the way to each, `(..., 3)`."""
    width = 2.0 * network.reach / network.cells
    place = (middle + network.reach) / width + 0.5
    low = np.clip(np.floor(place - reach / width).astype(int), 0, network.cells + 1)
    high = np.clip(np.ceil(place + reach / width).astype(int) + 1, 1, network.cells + 2)
    lines = [torch.arange(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    ways = [(line - float(p)) * width for line, p in zip(lines, place, strict=True)]
    offsets = torch.stack(torch.meshgrid(*ways, indexing="ij"), -1)
    one, two, three = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return (one, two, three), offsets.to(network.coefficients)
