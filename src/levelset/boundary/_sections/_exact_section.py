"""The linear regions, the classes and the boundary of a piecewise linear network in a plane."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._relaxation._piecewise import in_single, read_piecewise
from levelset._relaxation._program import Program
from levelset._tools.arguments import checked
from levelset._tools.checks import check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Result
from levelset._typing import Model, Summary
from levelset.boundary._sections._cells import Cells
from levelset.boundary._sections._certificate import certify
from levelset.boundary._sections._classes import Classified, by_class
from levelset.boundary._sections._plane import Extent, Frame, Rectangle, read_frame
from levelset.boundary._sections._polygons import Polygons, rasterised
from levelset.boundary._sections._probe import estimate_regions
from levelset.boundary._sections._subdivision import subdivide
from levelset.boundary._sections._tracing import Traced, trace_boundary
from levelset.errors import ParameterError

__all__ = ["ExactSection", "exact_section"]

REMEDY = "`levelset.boundary.section` draws any model, by sampling."
Route: TypeAlias = Literal["auto", "subdivision", "tracing", "certified"]
# Numbers of the widest layer at all corners that a subdivision may hold: 2 GiB in float64.
_ELEMENTS = 2**28


@dataclass(frozen=True, eq=False, repr=False)
class ExactSection(Result):
    """What a plane shows of a piecewise linear classifier, without sampling.

    Coordinates are (x, y) of the points origin + x u + y v.

    Attributes:
        regions: Polygons on each of which the network is affine and has one class: the linear
            regions, cut where the class changes.
        classes: The class of each, `(r,)`.
        areas: The area of each, `(r,)`, in coordinates of the plane.
        linear: The linear region that each is part of, `(r,)`, numbered from 0.
        linear_regions: How many there are; an estimate where the boundary alone was traced.
        boundary: The decision boundary as segments, `(s, 2, 2)`, with the class `sides[:, 0]` on
            their left.
        sides: The classes on the left and right of each, `(s, 2)`.
        lengths: The length of each in the units of the points, `(s,)`.
        triple_points: Where three classes meet, `(t, 2)`.
        complete: Whether it is proven that nothing is missing; else a closed curve, or one from
            side to side, that fits between the points of the lattice may be. (The proof bounds the
            network in exact arithmetic; places are computed in float64.)
        tied: Whether logits that are equal on an area were met while tracing: boundaries round such
            areas, where the class is the first of them, may be missing. Never after a subdivision,
            which is right there.
        route: How it was computed: `"subdivision"`, or `"tracing"` or `"certified"`, which give the
            boundary alone: regions, classes and areas are empty then.
        extent: The rectangle, `((left, right), (bottom, top))`.
        area_unit: The area of the parallelogram of u and v, in the units of the points: 1 where
            they are orthonormal.
        class_count: Classes of the model, k.
    """

    _headline: ClassVar = ("linear_regions", "classes_seen", "boundary_length", "route", "complete")

    regions: Polygons
    classes: Tensor
    areas: Tensor
    linear: Tensor
    linear_regions: int
    boundary: Tensor
    sides: Tensor
    lengths: Tensor
    triple_points: Tensor
    complete: bool
    tied: bool
    route: str
    extent: Rectangle
    area_unit: float
    class_count: int

    @property
    def class_areas(self) -> Tensor:
        """The area of each class, `(k,)`."""
        total = torch.zeros(self.class_count).to(self.areas)
        return total.index_add(0, self.classes, self.areas)

    @checked
    def raster(self, resolution: int) -> Tensor:
        """Return the class at the centres of pixels, `(resolution, resolution)`.

        Rows go along v, columns along u, both upwards.
        """
        check_whole("ExactSection.raster", "resolution", resolution)
        if not len(self.regions):
            message = (
                "ExactSection.raster: the boundary was traced, without regions. Take "
                "`levelset.boundary.section` for classes at pixels."
            )
            raise ParameterError(message)
        return rasterised(self.regions, self.classes, self.extent, resolution)

    def summary(self) -> Summary:
        """Return counts, lengths and whether all is there; with an area where regions are."""
        areas = {"area": float(self.areas.sum())} if len(self.regions) else {}
        # A boundary that is traced tells the classes on its sides; without one there is one class.
        seen = torch.unique(torch.cat([self.classes, self.sides.flatten()]))
        return {
            "linear_regions": self.linear_regions,
            "classes_seen": max(1, len(seen)),
            "boundary_segments": len(self.boundary),
            "boundary_length": float(self.lengths.sum()),
            "triple_points": len(self.triple_points),
            **areas,
            "complete": self.complete,
            "tied": self.tied,
        }


@checked
def exact_section(
    model: Model,
    origin: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    extent: Extent,
    merge: float = 0.0,
    route: Route = "auto",
    max_regions: int = 1_000_000,
    seeds: int = 48,
) -> ExactSection:
    r"""Compute the regions, classes and boundary of a piecewise linear classifier in a plane.

    On the plane of points origin + x u + y v a network of ReLUs is affine on convex polygons. They
    are cut out layer by layer: a unit cuts each polygon where its pre-activation is 0, and at last
    each polygon is cut where two logits tie for the largest. In float64; corners are numbers that
    polygons share, and on which side of a line a new corner lies follows from the edge that it is
    on, not from its rounded value. So polygons leave no gap and never overlap, also where units
    coincide, meet in a point, or run along an edge.

    A plane of a convolutional network has some ten million regions. There the boundary alone is
    *traced*: from a point of it between neighbours on a lattice, region by region along the line
    where the two logits tie, to the edge, back to the start, or to a third class, from where the
    other two curves are followed; until the curves explain every class on the lattice, and follow
    one another along its lines without a gap. That is exact as far as the lattice reaches. Which
    of the two it is is decided by an estimate of the number of regions, from three lines across the
    rectangle.

    *Certified*, what was traced is also proven to be all there is. Linear bounds of the network in
    cells, from a few large ones to ever smaller ones, show that a cell has one class, or two whose
    difference changes in one direction only along an axis, so that their boundary crosses the cell
    from edge to edge. Where an edge has two classes at its ends that the curves do not explain,
    another one begins. Few cells are left that need all of their linear regions.

    Layers: Linear, Conv2d, BatchNorm (evaluation mode), ReLU, LeakyReLU, Hardtanh, ReLU6, max and
    average pooling, Flatten, paddings, Dropout, Identity, a softmax or sigmoid at the end, branches
    that are added or joined, in any module whose code torch.fx can trace. The model is evaluated in
    float64 whatever its own dtype, held in evaluation mode meanwhile, and left as it was found.

    Cost: about 10 microseconds a region for 784-100-100-10, one core, and memory for the widest
    layer at every corner; three forward passes in float64 a traced segment.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`; a module.
        origin: The point (0, 0) of the plane, `(*d)`; `(1, *d)` is taken too.
        u: First axis, of the same shape; of any length.
        v: Second axis; not parallel to the first.
        extent: Half the side of a square round the origin, in coordinates of the plane, or
            `((left, right), (bottom, top))`.
        merge: Two corners on an edge that are nearer than this, in coordinates of the plane, become
            one: slivers between units that nearly coincide vanish. 0 for all that float64 tells
            apart.
        route: `"subdivision"` for all regions, `"tracing"` for the boundary alone, `"certified"`
            for that with a proof that it is all, `"auto"` to choose between the first two.
        max_regions: More regions than this are not subdivided: where the route is `"auto"`, the
            boundary is traced instead; where it is `"certified"`, and the cells that bounds leave
            open have more, `complete` is false.
        seeds: Points of the lattice along each axis, for tracing.

    Returns:
        Regions, classes, areas and the boundary.

    Raises:
        FieldError: If the model has a layer that is smooth or not known, or code that cannot be
            traced.
        ParameterError: If u and v are parallel, the rectangle is empty, or there are too many
            regions where `"subdivision"` was asked for.
        ShapeError: If origin, u and v differ in shape.
        DataError: If one is not finite.

    Example:
        >>> import torch
        >>> from levelset.boundary import exact_section
        >>> model = torch.nn.Linear(2, 2)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> _ = model.bias.data.zero_()
        >>> x, y = torch.eye(2)
        >>> section = exact_section(model, torch.zeros(2), x, y, extent=1.0)
        >>> section.class_areas.tolist()  # above and below the diagonal
        [2.0, 2.0]

    References:
        - A. I. Humayun et al., "SplineCam: exact visualization and characterization of deep network
          geometry and decision boundaries", CVPR 2023: sections, there without a proof that they
          close.
        - B. Hanin, D. Rolnick, "Complexity of linear regions in deep networks", ICML 2019.
    """
    frame = read_frame("exact_section", model, origin, u, v, extent)
    if not merge >= 0.0:
        message = f"exact_section: `merge` must be at least 0, got {merge}."
        raise ParameterError(message)
    check_whole("exact_section", "max_regions", max_regions)
    check_whole("exact_section", "seeds", seeds, at_least=2)
    with frozen(model), torch.no_grad():
        model = as_logits("exact_section", model, frame.origin.to(frame.like))
        point = frame.origin.to(frame.like)
        values = Evaluator("exact_section", model).values(point)
        program = read_piecewise("exact_section", model, frame.origin, values, REMEDY)
        expected = estimate_regions(program, frame)
        widest = max(node.numel() for node in program.values(frame.origin).values())
        chosen = route == "auto"
        if chosen:
            small = expected <= max_regions and expected * widest <= _ELEMENTS
            route = "subdivision" if small else "tracing"
        if route == "subdivision":
            try:
                return _subdivided(program, frame, merge, _budget(max_regions, expected))
            except _TooManyRegionsError:
                if not chosen:
                    raise
        tracer = trace_boundary(program, frame, seeds)
        if route != "certified":
            return _of_trace(frame, tracer.traced(), round(expected), values.shape[1])
        single = in_single("exact_section", model, frame.origin)
        proven = certify(tracer, program, single, frame, expected, max_regions)
        result = _of_trace(frame, tracer.traced(), round(expected), values.shape[1])
        return replace(result, complete=proven, route="certified")


class _TooManyRegionsError(ParameterError):
    """A plane has more linear regions than it may have."""


def _subdivided(
    program: Program, frame: Frame, merge: float, check: Callable[[int], None]
) -> ExactSection:
    box = Cells(frame.corners, np.arange(4), np.zeros(1, dtype=np.int64), np.zeros(1, int))
    regions, logits, size = subdivide(program, frame.basis, box, merge=merge, check=check)
    return _result(frame, regions, by_class(regions, logits, size), logits.shape[1])


def _budget(most: int, expected: float) -> Callable[[int], None]:
    def check(count: int) -> None:
        if count > most:
            message = (
                f"exact_section: the plane has more than `max_regions`={most} linear regions, "
                f"about {float(f'{expected:.2g}'):,.0f} by an estimate. `route='tracing'` follows "
                "the boundary alone, which is far cheaper; or take a smaller `extent`, or raise "
                f"the number. {REMEDY}"
            )
            raise _TooManyRegionsError(message)

    return check


def _result(frame: Frame, regions: Cells, parts: Classified, classes: int) -> ExactSection:
    cells, device = parts.cells, frame.like.device

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    polygons = Polygons(
        tensor(cells.places), tensor(cells.loop), tensor(np.append(cells.start, len(cells.loop)))
    )
    ends = np.repeat(parts.edges.reshape(-1), 2)
    beside = np.tile(parts.sides, (1, 2)).reshape(-1)
    corner, count = np.unique(
        np.unique(np.stack([ends, beside], axis=1), axis=0)[:, 0], return_counts=True
    )
    segments = tensor(cells.places[parts.edges])
    return ExactSection(
        regions=polygons,
        classes=tensor(parts.classes),
        areas=tensor(cells.areas()),
        linear=tensor(cells.tag),
        linear_regions=len(regions),
        boundary=segments,
        sides=tensor(parts.sides),
        lengths=_lengths(frame, segments),
        triple_points=tensor(cells.places[corner[count > 2]]),
        complete=True,
        tied=False,
        route="subdivision",
        **_plane(frame, classes),
    )


def _of_trace(frame: Frame, traced: Traced, expected: int, classes: int) -> ExactSection:
    device = frame.like.device
    none = torch.zeros(0, dtype=torch.int64, device=device)
    nowhere = torch.zeros(0, 2, dtype=torch.float64, device=device)
    return ExactSection(
        regions=Polygons(nowhere, none, none.new_zeros(1)),
        classes=none,
        areas=nowhere[:, 0],
        linear=none,
        linear_regions=expected,
        boundary=traced.segments.to(device),
        sides=traced.sides.to(device),
        lengths=_lengths(frame, traced.segments).to(device),
        triple_points=traced.triple_points.to(device),
        complete=False,
        tied=traced.tied,
        route="tracing",
        **_plane(frame, classes),
    )


def _lengths(frame: Frame, segments: Tensor) -> Tensor:
    """Return the lengths of segments in the units of the points, `(s,)`."""
    across = segments[:, 1] - segments[:, 0]
    metric = torch.from_numpy(frame.metric).to(across)
    return ((across @ metric) * across).sum(1).clamp(min=0.0).sqrt()


def _plane(frame: Frame, classes: int) -> dict[str, Any]:
    """Return what a section says of its plane."""
    area = float(np.sqrt(max(np.linalg.det(frame.metric), 0.0)))
    extent = ((frame.low[0], frame.high[0]), (frame.low[1], frame.high[1]))
    return {"extent": extent, "area_unit": area, "class_count": classes}
