"""Points from the binary files of surveys and scanners: LAS, LAZ and E57."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from levelset._tools.extras import optional
from levelset.datasets._columns import Columns, joined
from levelset.errors import DataError

__all__ = ["e57_blocks", "las_blocks", "read_e57", "read_las"]

LATEST_FORMAT = 10  # of points, in LAS 1.4
ROWS = 1 << 20  # read at a time, of files that are read whole
FORMAT_BYTE = 104  # of a LAS header; LAZ sets its two highest bits
INTENSITY = "intensity"
RGB = ("red", "green", "blue")
CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
SPHERICAL = ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
E57_RGB = ("colorRed", "colorGreen", "colorBlue")


def read_las(path: Path) -> Columns:
    """Return the points of a LAS or LAZ file, with their colours if it has any. Needs laspy.

    Raises:
        DataError: If it is no LAS file, damaged, or of a point format that is not known.
        MissingExtraError: If laspy, or for LAZ its decompressor, is not installed.
    """
    return _of_las(_laspy(path).read(path))


def las_blocks(path: Path, rows: int) -> Iterator[Columns]:
    """Yield what `read_las` returns, so many points at a time."""
    with _laspy(path).open(path) as file:
        for block in file.chunk_iterator(rows):
            yield _of_las(block)


def _laspy(path: Path) -> Any:
    """Return the package that reads a LAS file, if it is one."""
    with path.open("rb") as stream:
        head = stream.read(FORMAT_BYTE + 1)
    if head[:4] != b"LASF" or len(head) <= FORMAT_BYTE:
        message = f"read_points: {path} is no LAS file: it does not begin with LASF."
        raise DataError(message)
    kind = head[FORMAT_BYTE] & 0x3F
    if kind > LATEST_FORMAT:
        message = (
            f"read_points: {path} has the point format {kind}; known are 0 to {LATEST_FORMAT}. "
            "Convert it: `las2las -i in.las -o out.las -set_point_type 6`."
        )
        raise DataError(message)
    laspy = optional("laspy", "las", "read_points")
    if head[FORMAT_BYTE] & 0x80:
        optional("lazrs", "las", "read_points")
    return laspy


def _of_las(cloud: Any) -> Columns:
    """Return the columns of records of laspy."""
    points = np.stack([np.asarray(cloud.x), np.asarray(cloud.y), np.asarray(cloud.z)], axis=1)
    colours = None
    if set(RGB) <= set(cloud.point_format.dimension_names):
        colours = np.stack([np.asarray(cloud[name]) for name in RGB], axis=1)
    names = (INTENSITY, *cloud.point_format.extra_dimension_names)
    scalars = {
        name: np.asarray(cloud[name], dtype=np.float64)
        for name in names
        if name in cloud.point_format.dimension_names and np.ndim(cloud[name]) == 1
    }
    return Columns(points, None, (), colours, scalars=scalars)


def read_e57(path: Path) -> Columns:
    """Return the points of all stations of an E57 file, each at its place. Needs pye57.

    Raises:
        DataError: If it is no E57 file, damaged, or without coordinates.
        MissingExtraError: If pye57 is not installed.
    """
    return joined(list(e57_blocks(path, ROWS)))


def e57_blocks(path: Path, rows: int) -> Iterator[Columns]:
    """Yield what `read_e57` returns, so many points at a time."""
    file = _e57(path)
    headers = [file.get_header(index) for index in range(file.scan_count)]
    notes = _station_words([_place(header) for header in headers])
    for header in headers:
        names = next((n for n in (CARTESIAN, SPHERICAL) if set(n) <= set(header.point_fields)), ())
        flag = "cartesianInvalidState" if names == CARTESIAN else "sphericalInvalidState"
        wanted = (*names, *E57_RGB, INTENSITY, flag)
        fields = [name for name in wanted if name in header.point_fields]
        data, buffers = file.make_buffers(fields, rows)
        reader = header.points.reader(buffers)
        while count := reader.read():
            block = {name: values[:count].copy() for name, values in data.items()}
            valid = block.pop(flag, np.zeros(count)) == 0
            block = {name: values[valid] for name, values in block.items()}
            yield replace(_of_block(block, file, header), notes=notes)
        reader.close()


def _of_block(block: dict[str, Any], file: Any, header: Any) -> Columns:
    """Return the columns of some records of a station."""
    if CARTESIAN[0] in block:
        points = np.stack([block[name] for name in CARTESIAN], axis=1)
    else:
        reach, turn, rise = (block[name] for name in SPHERICAL)
        flat = reach * np.cos(rise)
        points = np.stack([flat * np.cos(turn), flat * np.sin(turn), reach * np.sin(rise)], axis=1)
    sensors = None
    if header.has_pose():
        points = file.to_global(points, header.rotation, header.translation)
        sensors = np.broadcast_to(_place(header), points.shape)
    shades = None
    if set(E57_RGB) <= set(block):
        shades = np.stack([block[name] for name in E57_RGB], axis=1)
    scalars = {INTENSITY: block[INTENSITY].astype(np.float64)} if INTENSITY in block else {}
    return Columns(points, None, (), shades, sensors, scalars)


def _e57(path: Path) -> Any:
    """Return an open E57 file, if it is one."""
    with path.open("rb") as stream:
        if stream.read(8) != b"ASTM-E57":
            message = f"read_points: {path} is no E57 file: it does not begin with ASTM-E57."
            raise DataError(message)
    return optional("pye57", "e57", "read_points").E57(str(path))


def _place(header: Any) -> Any:
    """Return where the sensor of a station was, `(3,)`, zero if that is not known."""
    return header.translation if header.has_pose() else np.zeros(3)


def _station_words(places: list[Any]) -> tuple[str, ...]:
    if len(places) < 2:
        return ()
    words = "; ".join(", ".join(f"{x:.6g}" for x in place) for place in places)
    return (f"{len(places)} stations were joined, each at its place. Sensors: {words}.",)
