"""Several scans side by side: each fitted wherever the engine has a worker for it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from levelset._tools.engines import Place, engine_of
from levelset.datasets import PointCloud, read_points
from levelset.errors import LevelSetError
from levelset.reconstruction._curves._curve import Curve, curve
from levelset.reconstruction._history import Step, Watch
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._settings import Fast, Paper
from levelset.reconstruction._surface import Surface, surface

__all__ = ["Fitting", "Scan", "Shape", "fit_scans", "part_of", "read_scan"]

Shape: TypeAlias = Surface | Curve


LARGE = 64 << 20
"""Bytes of points beyond which a file is read block by block."""
MOST_MEANS = 1_000_000
"""Means that the points of such a file become as they are read."""
PACKED = {".gz": 4, ".laz": 8}  # how many times as large a file is when it is unpacked


def read_scan(path: Path) -> PointCloud:
    """Return the points of a file, or of a large one means in small cells, in bounded memory."""
    size = path.stat().st_size if path.is_file() else 0
    is_large = size * PACKED.get(path.suffix.lower(), 1) > LARGE
    return read_points(path, most=MOST_MEANS if is_large else None)


class Scan(NamedTuple):
    """Points to fit, and where what comes of them is to be written.

    Attributes:
        cloud: The points, as they were read.
        target: The file for the mesh or the lines.
        uses_normals: Whether the normals of the cloud are taken.
        sensor: From where it was seen; `None` if that is not known, or the cloud says it.
    """

    cloud: PointCloud
    target: Path
    uses_normals: bool = False
    sensor: tuple[float, float, float] | None = None

    @property
    def sensors(self) -> Tensor | None:
        """From where the points were seen, `(3,)` or `(n, 3)`, if that is known."""
        if self.sensor is not None:
            return torch.tensor(self.sensor, dtype=torch.float64)
        return self.cloud.sensors


def part_of(target: Path) -> Path:
    """Return the folder for checkpoints of a scan, beside the file that it is to become."""
    return target.with_name(f"{target.name}.part")


@dataclass(frozen=True)
class Fitting:
    """Fits one scan, wherever it is: what is the same for all.

    Attributes:
        settings: The method with its options.
        resolution: Cells of the mesh along the longest side.
        seed: Of what is random.
        is_curve: Whether the points lie on curves.
        closed: Whether to close what the points leave open.
        lids: How.
        preview: Whether to write a coarse mesh first.
        resume: Whether to go on from checkpoints.
        is_near: Whether the work is done where the targets are: else there are no checkpoints.
    """

    settings: Fast | Paper
    resolution: int
    seed: int
    is_curve: bool = False
    closed: bool = True
    lids: Literal["smooth", "flat"] = "smooth"
    preview: bool = False
    resume: bool = False
    is_near: bool = True

    def fitted(self, scan: Scan, watch: Watch) -> Shape:
        """Return the surface or the curves through the points of a scan."""
        generator = torch.Generator().manual_seed(self.seed)
        if self.is_curve:
            return curve(
                scan.cloud.points, settings=self.settings, generator=generator, progress=watch
            )
        return surface(
            scan.cloud.points,
            settings=self.settings,
            normals=scan.cloud.normals if scan.uses_normals else None,
            resolution=self.resolution,
            closed=self.closed,
            lids=self.lids,
            sensor=scan.sensors,
            colours=scan.cloud.colours,
            counts=scan.cloud.counts,
            sample=scan.cloud.sample,
            out=part_of(scan.target) if self.is_near else None,
            resume=self.resume and self.is_near,
            generator=generator,
            progress=watch,
            preview=(lambda mesh: _save(mesh, scan.target)) if self.preview else None,
        )

    def __call__(
        self, scan: Scan | LevelSetError, tell: Callable[[Any], None]
    ) -> Shape | LevelSetError:
        """Return the same, or why it failed, so that other scans go on."""
        if isinstance(scan, LevelSetError):
            return scan
        try:
            return self.fitted(scan, tell)
        except LevelSetError as error:
            return error


def _save(mesh: Mesh, target: Path) -> None:
    if len(mesh.faces):
        mesh.save(target)


def fit_scans(
    fitting: Fitting,
    read: Callable[[int], Scan],
    numbers: Sequence[int],
    place: Place,
    watch: Callable[[int, Step | None], None],
) -> Iterator[tuple[int, Any, Shape | LevelSetError]]:
    """Yield the number of each scan, the scan and what comes of it, as they are done.

    Each is fitted on one processor thread, so that others run beside it and the number of them
    changes nothing. A request to stop waits for those in hand.

    Args:
        fitting: What is done with a scan.
        read: Returns a scan by its number; where it raises one of our errors, that comes of it.
        numbers: Of all scans.
        place: Where.
        watch: Takes the number of a scan and the state of its fit; `None` where it begins anew.
    """
    scans: dict[int, Scan] = {}

    def piece_of(number: int) -> Scan | LevelSetError:
        try:
            scans[number] = read(number)
        except LevelSetError as error:
            return error
        return scans[number]

    engine = engine_of("reconstruct", place, pieces=len(numbers), threads=1, device="cpu")
    with closing(engine.run(fitting, piece_of, numbers, watch, finish=True)) as results:
        for number, shape in results:
            yield number, scans.pop(number, None), shape
