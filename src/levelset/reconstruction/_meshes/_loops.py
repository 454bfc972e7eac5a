"""Loops on a mesh that cut no piece off: where its handles are."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree

from levelset._typing import Booleans, Floats, Integers
from levelset.reconstruction._meshes._mesh import Mesh, keep_faces

__all__ = ["Loop", "beside_edges", "handles", "short_loops", "sides_of", "tightened"]


@dataclass(frozen=True, eq=False)
class Loop:
    """A closed line along edges of a mesh.

    Attributes:
        places: Its corners in order, `(k, 3)`.
        length: How long it is.
        outward: Vectors out of the surface at the corners, `(k, 3)`.
    """

    places: Floats
    length: float
    outward: Floats

    @cached_property
    def middle(self) -> Floats:
        """The mean of its corners, `(3,)`."""
        return np.asarray(self.places.mean(0))

    @cached_property
    def radius(self) -> float:
        """Largest distance of a corner from the middle."""
        return float(np.linalg.norm(self.places - self.middle, axis=1).max())

    @cached_property
    def hollow(self) -> bool:
        """Whether it goes around air, as in a tunnel, and not around the inside, as of a bridge."""
        return float((self.outward * (self.middle - self.places)).sum()) > 0.0

    @cached_property
    def axis(self) -> Floats:
        """The direction across the plane that it lies nearest to, `(3,)`."""
        return np.asarray(np.linalg.svd(self.places - self.middle, full_matrices=False)[2][2])


def handles(mesh: Mesh) -> int:
    """Return the number of handles of all pieces of a watertight mesh together."""
    used = len(np.unique(mesh.faces.numpy()))
    euler = used - len(mesh.edges) + len(mesh.faces)
    return mesh.components - euler // 2


def short_loops(
    mesh: Mesh, *, longest: float, odd: Callable[[Floats], Floats], rounds: int = 3
) -> list[Loop]:
    """Return short loops of a watertight mesh that cut no piece off, the shortest first.

    A tree of shortest ways from a corner, and a tree of faces across the other edges, leave two
    edges a handle. Each of them closes a loop, and no union of these cuts a piece off. From the
    oddest corner of each loop the same is done again, and then from the corner opposite where a
    loop began, if it is shorter than `longest`: each time they are the shortest through that
    corner.

    Cost: about 1 second for 300,000 faces and corner that is started from, `rounds` times the
    number of handles at most.

    Args:
        mesh: The mesh; pieces without handles are passed over.
        longest: Loops that are longer are left out.
        odd: How odd the surface is at places `(k, 3)`, `(k,)`.
        rounds: How many times a handle's loops are looked for again from their own corners.

    References:
        - J. Erickson, K. Whittlesey, "Greedy optimal homotopy and homology generators", SODA 2005:
          the trees, and why their loops are shortest.
    """
    loops: list[Loop] = []
    if mesh.components > 1:
        labels = mesh.labels[mesh.faces[:, 0]]
        for label in torch.unique(labels):
            part = keep_faces(mesh, labels == label)
            if handles(part):
                loops += short_loops(part, longest=longest, odd=odd, rounds=rounds)
        return sorted(loops, key=lambda loop: loop.length)
    graph, outward = _Graph(mesh), mesh.corner_vectors.numpy()
    seen: set[int] = set()
    roots = [0]
    for k in range(rounds + 1):
        fresh = []
        for root in roots:
            if root in seen:
                continue
            seen.add(root)
            fresh += graph.loops(root)
        short = [rows for rows in fresh if graph.length(rows) < longest]
        loops += [Loop(graph.vertices[r], graph.length(r), outward[r]) for r in short]
        if k == 0:  # from any corner: a handle may be far
            roots = [int(r[odd(graph.vertices[r]).argmax()]) for r in _apart(fresh, graph)]
        else:
            roots = [int(r[len(r) // 2]) for r in _apart(short, graph)]
    return sorted(loops, key=lambda loop: loop.length)


def tightened(mesh: Mesh, loop: Loop, *, rounds: int = 4) -> Loop:
    """Return the shortest loop through a corner of a loop, again and again while it gets shorter.

    Cost: that of `short_loops` a round.

    Args:
        mesh: The mesh.
        loop: A loop on it.
        rounds: How often at most.
    """
    if mesh.components > 1:
        nearest = int(np.square(mesh.vertices.numpy() - loop.places[0]).sum(1).argmin())
        label = mesh.labels[nearest]
        mesh = keep_faces(mesh, mesh.labels[mesh.faces[:, 0]] == label)
    graph, outward = _Graph(mesh), mesh.corner_vectors.numpy()
    for k in range(rounds):
        # opposite where it began, and then a quarter on
        start = loop.places[(2 - k % 2) * len(loop.places) // 4]
        root = int(np.square(graph.vertices - start).sum(1).argmin())
        rows = min(graph.loops(root), key=graph.length)
        if graph.length(rows) < loop.length:
            loop = Loop(graph.vertices[rows], graph.length(rows), outward[rows])
    return loop


def _apart(loops: list[Integers], graph: "_Graph") -> list[Integers]:
    """Return loops, the shortest first, without those that share a corner with an earlier one."""
    chosen: list[Integers] = []
    taken: Booleans = np.zeros(len(graph.vertices), dtype=bool)
    for rows in sorted(loops, key=graph.length):
        if not taken[rows].any():
            chosen.append(rows)
        taken[rows] = True
    return chosen


def sides_of(faces: Integers) -> Integers:
    """Return the three edges of each face, the smaller corner first, `(3 n, 2)`."""
    return np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), axis=1)


def beside_edges(faces: Integers, count: int) -> tuple[Integers, Integers]:
    """Return the sorted edges of a watertight mesh, and the faces beside each, `(m, 2)` both."""
    sides = sides_of(faces)
    order = np.argsort(sides[:, 0] * count + sides[:, 1], kind="stable")
    return sides[order[::2]], (order // 3).reshape(-1, 2)


class _Graph:
    """Edges of a mesh in one piece, each with its length and the two faces beside it."""

    def __init__(self, mesh: Mesh) -> None:
        self.vertices = mesh.vertices.numpy()
        self.edges = mesh.edges.numpy()
        ends = self.vertices[self.edges]
        # an edge of no length would be none to the sparse matrix
        self.sizes = np.maximum(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1), 1e-12)
        count = len(self.vertices)
        self.ways = csr_matrix((self.sizes, self.edges.T), shape=(count, count))
        faces = mesh.faces.numpy()
        self.faces = len(faces)
        self.beside = beside_edges(faces, count)[1]
        self.start = int(faces[0, 0])

    def loops(self, root: int) -> list[Integers]:
        """Return two loops a handle, as corners in order, near the shortest through `root`."""
        root = root or self.start
        away, before = dijkstra(self.ways, directed=False, indices=root, return_predecessors=True)
        before = before.astype(np.int64)
        first, second = self.edges.T
        in_tree = (before[first] == second) | (before[second] == first)
        rest = np.flatnonzero(~in_tree)
        through = away[first[rest]] + away[second[rest]] + self.sizes[rest]
        # The spanning tree takes the longest loops first, so that the shortest are left.
        weight = 2.0 * through.max() - through
        a, b = self.beside[rest].T
        shape = (self.faces, self.faces)
        # of faces that share two edges, the one of the longer loop
        order = np.argsort(weight, kind="stable")
        pair = np.minimum(a, b) * self.faces + np.maximum(a, b)
        _, single = np.unique(pair[order], return_index=True)
        single = order[single]
        tree = minimum_spanning_tree(csr_matrix((weight[single], (a[single], b[single])), shape))
        across = tree.tocoo()
        crossed = np.minimum(across.row, across.col).astype(np.int64) * self.faces
        crossed += np.maximum(across.row, across.col)
        left = np.ones(len(rest), dtype=bool)
        left[single[np.isin(pair[single], crossed)]] = False
        return [self._closed(int(e), before) for e in rest[left]]

    def _closed(self, edge: int, before: Integers) -> Integers:
        """Return the loop that an edge closes with the ways to its ends, but not the way to it."""
        one, other = (self._way(int(end), before) for end in self.edges[edge])
        shared = 0
        while shared + 1 < min(len(one), len(other)) and one[shared + 1] == other[shared + 1]:
            shared += 1
        return np.array(one[shared:] + other[:shared:-1], dtype=np.int64)

    @staticmethod
    def _way(end: int, before: Integers) -> list[int]:
        way = [end]
        while before[way[-1]] >= 0:
            way.append(int(before[way[-1]]))
        return way[::-1]

    def length(self, rows: Integers) -> float:
        """Return the length of a loop."""
        places = self.vertices[rows]
        return float(np.linalg.norm(places - np.roll(places, -1, 0), axis=1).sum())
