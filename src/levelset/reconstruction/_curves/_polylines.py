"""Curves as polylines, and their files: OBJ, PLY, SVG."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.files import write_whole
from levelset._tools.results import Result
from levelset._typing import Floats
from levelset.errors import ParameterError, ShapeError

__all__ = ["Polylines"]

WIDTH = 800.0  # of the picture, in pixels, the longer way
MARGIN = 20.0


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Polylines(Result):
    """Curves in space or in the plane, each a row of points joined by straight pieces.

    Attributes:
        lines: The points of each curve in order, `(m, 3)` or `(m, 2)`, float64; that of a closed
            curve has its first point once.
        closed: Whether each runs back from its last point to its first.
    """

    lines: tuple[Tensor, ...]
    closed: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Check that lines and flags belong together."""
        if len(self.lines) != len(self.closed):
            message = (
                f"Polylines: `closed` must have one entry per line ({len(self.lines)}), "
                f"got {len(self.closed)}."
            )
            raise ShapeError(message)
        for line in self.lines:
            right = line.dim() == 2 and line.shape[1] in (2, 3) and len(line) > 1
            if not right or line.shape[1] != self.lines[0].shape[1]:
                message = (
                    "Polylines: `lines` must all have the shape (m, 3), or all (m, 2), with two "
                    f"points or more, got {tuple(line.shape)}."
                )
                raise ShapeError(message)
        lines = tuple(line.detach().to("cpu", torch.float64) for line in self.lines)
        object.__setattr__(self, "lines", lines)

    def __len__(self) -> int:
        """Return the number of curves."""
        return len(self.lines)

    @cached_property
    def points(self) -> Tensor:
        """The points of all lines, one after the other, `(m, 3)` or `(m, 2)`."""
        return torch.cat(self.lines) if self.lines else torch.zeros(0, 3, dtype=torch.float64)

    @cached_property
    def lengths(self) -> Tensor:
        """The length of each line, `(n,)`, in the units of the points."""
        lengths = [
            torch.linalg.vector_norm(line - line.roll(1, 0), dim=1)[0 if closed else 1 :].sum()
            for line, closed in zip(self.lines, self.closed, strict=True)
        ]
        return torch.stack(lengths) if lengths else torch.zeros(0, dtype=torch.float64)

    @cached_property
    def edges(self) -> Tensor:
        """The straight pieces, `(e, 2)`: two rows of `points` each."""
        parts, start = [], 0
        for line, closed in zip(self.lines, self.closed, strict=True):
            rows = torch.arange(start, start + len(line))
            pairs = torch.stack([rows, rows.roll(-1)], dim=1)
            parts.append(pairs if closed and len(line) > 2 else pairs[:-1])
            start += len(line)
        return torch.cat(parts) if parts else torch.zeros(0, 2, dtype=torch.int64)

    def summary(self) -> dict[str, int | float]:
        """Return counts and the total length, ready for JSON."""
        return {
            "lines": len(self.lines),
            "closed": sum(self.closed),
            "points": len(self.points),
            "length": float(self.lengths.sum()),
        }

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the curves, by the suffix `.obj`, `.ply` or `.svg`; return the path.

        OBJ has one `l` statement a curve; PLY is text with the elements `vertex` and `edge`.
        Curves in the plane get z = 0 there. SVG is the picture along the direction in which the
        curves extend least, curves in the plane as they are with y upwards. The file is written
        whole, then renamed into place.

        Raises:
            ParameterError: If the suffix is another.
            RunError: If the file cannot be written.
        """
        path = Path(path)
        writers: dict[str, Callable[[], str]] = {
            ".obj": self._obj,
            ".ply": self._ply,
            ".svg": self._svg,
        }
        if path.suffix.lower() not in writers:
            message = (
                f"Polylines.save: `path` must end in one of {', '.join(writers)}, got "
                f"{path.name!r}. Choose the format by the suffix."
            )
            raise ParameterError(message)
        text = writers[path.suffix.lower()]()
        write_whole(path, lambda partial: partial.write_text(text, encoding="ascii"))
        return path

    def _obj(self) -> str:
        rows = [f"v {x:.17g} {y:.17g} {z:.17g}" for x, y, z in _in_space(self.points).tolist()]
        start = 1
        for line, closed in zip(self.lines, self.closed, strict=True):
            numbers = list(range(start, start + len(line))) + ([start] if closed else [])
            rows.append("l " + " ".join(map(str, numbers)))
            start += len(line)
        return "\n".join(rows) + "\n"

    def _ply(self) -> str:
        header = [
            "ply",
            "format ascii 1.0",
            f"element vertex {len(self.points)}",
            *(f"property double {axis}" for axis in "xyz"),
            f"element edge {len(self.edges)}",
            "property int vertex1",
            "property int vertex2",
            "end_header",
        ]
        rows = [f"{x:.17g} {y:.17g} {z:.17g}" for x, y, z in _in_space(self.points).tolist()]
        pairs = [f"{a} {b}" for a, b in self.edges.tolist()]
        return "\n".join(header + rows + pairs) + "\n"

    def _svg(self) -> str:
        flat = _flattened(self.points.numpy())
        low, high = (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(2), np.ones(2))
        scale = WIDTH / max(float((high - low).max()), 1e-300)
        # y runs downwards in a picture
        flat = MARGIN + scale * np.stack([flat[:, 0] - low[0], high[1] - flat[:, 1]], axis=1)
        width, height = 2 * MARGIN + scale * (high - low)
        rows = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.2f} {height:.2f}">',
            '<g fill="none" stroke="black" stroke-width="1.5" stroke-linejoin="round">',
        ]
        start = 0
        for line, closed in zip(self.lines, self.closed, strict=True):
            part = flat[start : start + len(line)]
            tag = "polygon" if closed else "polyline"
            rows.append(f'<{tag} points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in part)}"/>')
            start += len(line)
        return "\n".join([*rows, "</g>", "</svg>"]) + "\n"


def _in_space(points: Tensor) -> Tensor:
    return torch.nn.functional.pad(points, (0, 3 - points.shape[1]))


def _flattened(points: Floats) -> Floats:
    """Return points in the plane: as they are, or along their two principal axes."""
    if points.shape[1] == 2 or len(points) == 0:
        return points[:, :2]
    centred = points - points.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    # each axis points the way in which its largest entry is positive: no mirror images by chance
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    return np.asarray(np.pad(centred @ (axes * signs[:, None]).T, ((0, 0), (0, 2 - len(axes)))))
