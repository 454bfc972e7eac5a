"""What a plane shows of any classifier, by sampling."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from levelset._logits import as_logits
from levelset._tools.arguments import checked
from levelset._tools.batches import row_batches
from levelset._tools.checks import check_whole
from levelset._tools.evaluation import Evaluator
from levelset._tools.modes import frozen
from levelset._tools.results import Result
from levelset._typing import Model, Progress, Summary
from levelset.boundary._sections._plane import Extent, Rectangle, read_frame

__all__ = ["Section", "section"]

_ROWS = 4096


@dataclass(frozen=True, eq=False, repr=False)
class Section(Result):
    """What a plane shows of a classifier, at the centres of pixels.

    Coordinates are (x, y) of the points origin + x u + y v.

    Attributes:
        classes: The class at each pixel, `(r, r)`; rows go along v, columns along u, both upwards.
        margins: The largest logit less the second, `(r, r)`: 0 on the decision boundary.
        x: Coordinates of the columns, `(r,)`.
        y: Coordinates of the rows, `(r,)`.
        extent: The rectangle, `((left, right), (bottom, top))`.
        class_count: Classes of the model, k.
    """

    _headline: ClassVar = ("classes", "classes_seen")

    classes: Tensor
    margins: Tensor
    x: Tensor
    y: Tensor
    extent: Rectangle
    class_count: int

    @property
    def class_areas(self) -> Tensor:
        """The area of each class by its pixels, `(k,)`, float64."""
        (left, right), (bottom, top) = self.extent
        counts = torch.bincount(self.classes.flatten(), minlength=self.class_count)
        return counts * ((right - left) * (top - bottom) / self.classes.numel())

    def summary(self) -> Summary:
        """Return the pixels a side and the classes seen."""
        return {
            "resolution": len(self.x),
            "classes_seen": len(torch.unique(self.classes)),
            "smallest_margin": float(self.margins.min()),
        }


@checked
def section(
    model: Model,
    origin: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    extent: Extent,
    resolution: int = 256,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Section:
    """Evaluate any classifier at pixels of a plane.

    The plane is that of points origin + x u + y v. What is thinner than a pixel is not seen;
    [`exact_section`][levelset.boundary.exact_section] sees all of a piecewise linear network.

    Cost: `resolution` squared forward passes.

    Args:
        model: Maps `(n, *d)` to logits `(n, k)`.
        origin: The point (0, 0) of the plane, `(*d)`; `(1, *d)` is taken too.
        u: First axis, of the same shape; of any length.
        v: Second axis; not parallel to the first.
        extent: Half the side of a square round the origin, in coordinates of the plane, or
            `((left, right), (bottom, top))`.
        resolution: Pixels a side.
        batch_size: Most points an evaluation; `None` for the number that runs fastest.
        progress: Called as `progress(done, total)` in pixels.

    Returns:
        Classes and margins at the centres of the pixels.

    Raises:
        ParameterError: If u and v are parallel, or the rectangle is empty.
        ShapeError: If origin, u and v differ in shape.
        DataError: If one is not finite.
        FieldError: If the model returns no logits.

    Example:
        >>> import torch
        >>> from levelset.boundary import section
        >>> x, y = torch.eye(2)
        >>> section(torch.nn.Identity(), torch.zeros(2), x, y, extent=1.0, resolution=4).classes
        tensor([[0, 0, 0, 0],
                [1, 0, 0, 0],
                [1, 1, 0, 0],
                [1, 1, 1, 0]])
    """
    frame = read_frame("section", model, origin, u, v, extent)
    check_whole("section", "resolution", resolution)
    (left, bottom), (right, top) = frame.low, frame.high
    middles = (torch.arange(resolution, dtype=torch.float64) + 0.5) / resolution
    middles = middles.to(frame.like.device)
    x, y = left + middles * (right - left), bottom + middles * (top - bottom)
    classes, margins, count = [], [], 0
    with frozen(model), torch.no_grad():
        model = as_logits("section", model, frame.origin.to(frame.like))
        evaluator = Evaluator("section", model, batch_size)
        for part in row_batches(resolution**2, _ROWS):
            pixel = torch.arange(part.start, part.stop, device=x.device)
            places = torch.stack([x[pixel % resolution], y[pixel // resolution]], dim=1)
            logits = evaluator.values(frame.points(places).to(frame.like))
            best, order = logits.sort(dim=1, descending=True, stable=True)
            classes.append(order[:, 0])
            margins.append(best[:, 0] - best[:, 1])
            count = logits.shape[1]
            if progress is not None:
                progress(part.stop, resolution**2)
    return Section(
        classes=torch.cat(classes).view(resolution, resolution),
        margins=torch.cat(margins).view(resolution, resolution),
        x=x.to(frame.like),
        y=y.to(frame.like),
        extent=((left, right), (bottom, top)),
        class_count=count,
    )
