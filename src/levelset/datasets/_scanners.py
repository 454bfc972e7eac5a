"""Points from the binary files of surveys and scanners: LAS, LAZ and E57."""

from pathlib import Path
from typing import Any

import numpy as np

from levelset._tools.extras import optional
from levelset.datasets._columns import Columns, colours_of
from levelset.errors import DataError

__all__ = ["read_e57", "read_las"]

LATEST_FORMAT = 10  # of points, in LAS 1.4
FORMAT_BYTE = 104  # of a LAS header; LAZ sets its two highest bits
INTENSITY = "intensity"
RGB = ("red", "green", "blue")
CARTESIAN = ("cartesianX", "cartesianY", "cartesianZ")
E57_RGB = ("colorRed", "colorGreen", "colorBlue")


def read_las(path: Path) -> Columns:
    """Return the points of a LAS or LAZ file, with their colours if it has any. Needs laspy.

    Raises:
        DataError: If it is no LAS file, damaged, or of a point format that is not known.
        MissingExtraError: If laspy, or for LAZ its decompressor, is not installed.
    """
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
    cloud = laspy.read(path)
    points = np.stack([np.asarray(cloud.x), np.asarray(cloud.y), np.asarray(cloud.z)], axis=1)
    colours = None
    if set(RGB) <= set(cloud.point_format.dimension_names):
        colours = colours_of(np.stack([np.asarray(cloud[name]) for name in RGB], axis=1))
        colours = colours if colours.any() else None
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
    with path.open("rb") as stream:
        if stream.read(8) != b"ASTM-E57":
            message = f"read_points: {path} is no E57 file: it does not begin with ASTM-E57."
            raise DataError(message)
    file = optional("pye57", "e57", "read_points").E57(str(path))
    parts = [_station(file, index) for index in range(file.scan_count)]
    if not parts:
        return Columns(np.zeros((0, 3)), None)
    points = np.concatenate([part[0] for part in parts])
    colours = None
    if all(part[1] is not None for part in parts):
        colours = colours_of(np.concatenate([part[1] for part in parts]))
    notes: tuple[str, ...] = ()
    if len(parts) > 1:
        words = "; ".join(", ".join(f"{x:.6g}" for x in part[2]) for part in parts)
        notes = (f"{len(parts)} stations were joined, each at its place. Sensors: {words}.",)
    sensors = None
    if all(part[3] for part in parts):
        sensors = np.concatenate([np.broadcast_to(part[2], part[0].shape) for part in parts])
    scalars = {}
    if all(part[4] is not None for part in parts):
        scalars[INTENSITY] = np.concatenate([part[4] for part in parts]).astype(np.float64)
    return Columns(points, None, notes, colours, sensors, scalars)


def _station(file: Any, index: int) -> tuple[Any, Any, Any, bool, Any]:
    """Return the points of a station, what is known of them, and of its sensor.

    Returns:
        The points, their colours or `None`, the sensor's place, whether that is known, and the
        intensities of their echoes or `None`.
    """
    header = file.get_header(index)
    colours = set(E57_RGB) <= set(header.point_fields)
    echo = INTENSITY in header.point_fields
    data = file.read_scan(index, intensity=echo, colors=colours, ignore_missing_fields=True)
    points = np.stack([data[name] for name in CARTESIAN], axis=1)
    known = bool(header.has_pose())
    place = header.translation if known else np.zeros(3)
    shades = np.stack([data[n] for n in E57_RGB], axis=1) if colours else None
    return points, shades, place, known, data[INTENSITY] if echo else None
