"""`read_points`: clouds of points from the files that scanners and programs write."""

import gzip
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.reading import check_size, check_zip, reading
from levelset._tools.results import Result
from levelset.datasets._blocks import blocks
from levelset.datasets._cells import Cells
from levelset.datasets._columns import Columns, by_place, colours_of
from levelset.datasets._pcd import read_pcd
from levelset.datasets._ply import read_ply
from levelset.datasets._scanners import read_e57, read_las
from levelset.datasets._tables import read_array
from levelset.datasets._text_points import read_obj, read_off, read_pts, read_ptx, read_table
from levelset.errors import DataError, ParameterError

__all__ = ["POINT_SUFFIXES", "PointCloud", "read_points"]

# Made by `scan_of_a_knot` of the command line with seed 0.
_SAMPLE = Path(__file__).with_name("sample.ply")
ROWS = 1 << 17
"""Points read at a time, where not all are."""


@checked
@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(Result):
    """Points as they lie in a file, in its own units and order.

    Attributes:
        points: `(n, 3)`, float64, or `(n, 2)` for tables of two columns; may hold NaN.
        normals: One a point, as they lie in the file, `(n, 3)`, float64; `None` if it has none.
        name: The name of the file, without its suffix.
        notes: What the user should know of how the file was understood, in sentences.
        colours: Red, green and blue of each, 0 to 1, `(n, 3)`, float64; `None` if it has none.
        sensors: From where each was seen, `(n, 3)`, float64; `None` if the file does not say.
        scalars: Further numbers of each by their names in the file, such as the intensity of a
            scanner's echo, each `(n,)`, float64.
        counts: How many points of the file each is the mean of, `(n,)`, if they were averaged as
            they were read.
        sample: If so, some of the file's own points, evenly drawn, `(k, 3)`: they show its noise.
    """

    _headline: ClassVar = ("name", "points", "normals")

    points: Tensor
    normals: Tensor | None
    name: str
    notes: tuple[str, ...] = ()
    colours: Tensor | None = None
    sensors: Tensor | None = None
    scalars: dict[str, Tensor] = field(default_factory=dict)
    counts: Tensor | None = None
    sample: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def summary(self) -> dict[str, int | float]:
        """Return the number of points and of coordinates, and whether there are normals."""
        return {
            "points": len(self),
            "axes": self.points.shape[1],
            "normals": self.normals is not None,
        }


@checked
def read_points(path: str | Path, *, most: int | None = None) -> PointCloud:
    r"""Read a cloud of points.

    The suffix decides the format:

    - `.ply`: text or binary of either byte order, with any properties and lists; normals are
      `nx, ny, nz`, `normal_x` or `normalx`, colours `red, green, blue`;
    - `.obj`: `v`, with colours behind, and `vn` where there is one for each; `.off`, with normals
      (NOFF) and colours (COFF);
    - `.xyz`, `.txt`, `.csv`, `.asc`: a row a point, separated by blanks, commas, semicolons or
      tabs, with or without a line of names, in UTF-8 or UTF-16; decimal commas where commas do not
      separate. Names, in a comment too, say which columns: x, X, x_coordinate, easting; others
      are refused. Without names the first three are x, y and z, and columns four to six a
      normal where its length is 1, a colour where all are whole numbers up to 255 or none
      exceeds 1, which `notes` says. Two columns are points in the plane;
    - `.pts`, `.ptx`: the text files of scanners, `.ptx` with the place of each scan and sensor;
    - `.npy`: an array `(n, 2)`, `(n, 3)`, or `(n, 6)` with normals or colours; `.npz`: arrays
      `points` (or `xyz`, `pos`, `vertices`), `normals`, `colors`;
    - `.pcd`: text or binary, normals being `normal_x, normal_y, normal_z`;
    - `.las`, `.laz` with the extra `las`, `.e57` with the extra `e57`: all stations, in place,
      and their sensors;
    - any of these packed by gzip, with `.gz` behind its suffix.

    `sample` is a scan that comes with the package, if no file has that name: 5,000 points, as a
    scanner would see a tube around a knot.

    Columns with other names, and intensities, become `scalars`.

    Of a mesh the vertices are taken, which `notes` says. Nothing is scaled, thinned or
    dropped: rows with NaN stay, and what is to be done with them is for who uses the points.

    Files larger than the memory: with `most` they are read block by block, and where they hold
    more points, these are averaged in cubic cells, as small as `most` of them allow, with their
    normals, colours and scalars; each takes the sensor of its first point. Rows with NaN are left
    out then, and equal points become one. OBJ, OFF, PTX, NPZ, arrays stored by columns, text of
    PCD and PLY with lists before its points are read whole all the same.

    Cost: 1,000,000 points take 0.1 seconds from a binary file and a few from text. Memory: the
    file and the points, twice at worst; with `most` about 600 bytes for each of these, and 200 MB.

    Args:
        path: The file, or `sample`.
        most: Most points to return, means of those in the file; `None` for all of them.

    Returns:
        The points, and the normals if there are any.

    Raises:
        ParameterError: If `most` is not positive.
        DataError: If the file is missing, of another suffix, damaged, cut short, empty, or not
            what its suffix says; if it holds no numbers, or names that are not understood; or if
            it would have to be unpickled.
        MissingExtraError: If the format needs a package that is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from levelset.datasets import read_points
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "corner.xyz"
        ...     written = file.write_text("0 0 0\n1 0 0\n0 1 0\n")
        ...     read_points(file)
        PointCloud(name='corner', points=(3, 3), normals=False)
    """
    path = Path(path).expanduser()
    if str(path) == _SAMPLE.stem and not path.exists():
        path = _SAMPLE
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        message = (
            f"read_points: {path.name!r} must end in one of {', '.join(POINT_SUFFIXES)}. "
            "Export the points as PLY, which nearly every program writes."
        )
        raise DataError(message)
    if not path.is_file():
        what = "is a folder: give one of its files" if path.is_dir() else "does not exist"
        raise DataError(f"read_points: {path} {what}.")
    if most is not None and most < 1:
        message = f"read_points: `most` must be positive, got {most}. Give 1,000,000, say, or None."
        raise ParameterError(message)
    with reading("read_points", path):
        return _cloud(reader(path), path) if most is None else _means(path, reader, most)


def _means(path: Path, reader: Callable[[Path], Columns], most: int) -> PointCloud:
    """Return the points of a file, read block by block, as means in so many cells."""
    cells = Cells(most)
    with blocks(path, ROWS) as parts:
        for block in (reader(path),) if parts is None else parts:
            cells.add(block)
    columns, counts = cells.columns()
    notes = columns.notes
    if cells.dropped:
        notes += (f"{cells.dropped:,} of {cells.rows:,} rows hold NaN or infinity: left out.",)
    if cells.level:
        notes += (
            f"{cells.rows - cells.dropped:,} points were averaged in {len(counts):,} cells of side "
            f"{cells.side:.3g} as they were read.",
        )
    cloud = _cloud(replace(columns, notes=notes), path)
    if not cells.level:
        return cloud
    return replace(cloud, counts=torch.from_numpy(counts), sample=torch.from_numpy(cells.drawn))


def _read_npy(path: Path) -> Columns:
    with path.open("rb") as stream:
        try:
            array = read_array(stream, path.stat().st_size)
        except (ValueError, EOFError) as error:
            stream.seek(0)
            if stream.read(2) == b"PK":
                message = f"read_points: {path} must hold one array of numbers, got an archive."
            elif "pickle" in str(error) or "magic" in str(error):
                message = (
                    f"read_points: {path} holds pickled objects, which can run code, or is no "
                    "NumPy file. Save a plain array of numbers: np.save(file, points)."
                )
            else:
                message = f"read_points: {path} is damaged, cut short, or no NumPy file ({error})."
            raise DataError(message) from error
    return _of_array(array, path)


def _of_array(array: NDArray[np.generic], path: Path) -> Columns:
    """Return the columns of an array `(n, 2)`, `(n, 3)` or `(n, 6)`."""
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        message = (
            f"read_points: {path} must hold one array of numbers, (n, 2), (n, 3) or (n, 6), "
            f"got {array.dtype} {array.shape}."
        )
        raise DataError(message)
    if array.shape[1] not in (2, 3, 6):
        message = (
            f"read_points: {path} must hold 2, 3 or 6 columns (the last three a normal or a "
            f"colour), got {array.shape[1]}. Keep the columns x, y, z."
        )
        raise DataError(message)
    return by_place(array) if array.shape[1] == 6 else Columns(array, None)


def _cloud(columns: Columns, path: Path) -> PointCloud:
    if not len(columns.points):
        message = f"read_points: {path} is empty: it holds no point."
        raise DataError(message)
    notes = list(columns.notes)
    normals = columns.normals
    if normals is not None and not np.any(normals):
        notes.append("The normals in the file are all zero and were left out.")
        normals = None
    colours = columns.colours
    if colours is not None and path.suffix.lower() in UNCOLOURED and not np.any(colours):
        colours = None
    return PointCloud(
        points=_tensor(columns.points),
        normals=None if normals is None else _tensor(normals),
        name=_name(path),
        notes=tuple(notes),
        colours=None if colours is None else _tensor(colours_of(colours)),
        sensors=None if columns.sensors is None else _tensor(columns.sensors),
        scalars={name: _tensor(values) for name, values in columns.scalars.items()},
    )


def _name(path: Path) -> str:
    """Return the name of a file without its suffix, or both of `scan.ply.gz`."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))


UNCOLOURED = (".las", ".laz")
"""Files with room for colours, which are zero where nobody has filled them in."""
NPZ_NAMES = {
    "points": ("points", "xyz", "pos", "vertices", "coords"),
    "normals": ("normals", "normal"),
    "colours": ("colors", "colours", "rgb", "color"),
}


def _read_npz(path: Path) -> Columns:
    """Return the arrays of an archive: `points`, with `normals` and `colors` if it has them."""
    with zipfile.ZipFile(path) as archive:
        check_zip(archive, f"read_points: {path}")
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        arrays = {}
        for key, names in NPZ_NAMES.items():
            member = next((members[name] for name in names if name in members), None)
            if member is None and key == "points" and len(members) == 1:
                member = next(iter(members.values()))
            if member is not None:
                with archive.open(member) as stream:
                    arrays[key] = read_array(stream, archive.getinfo(member).file_size)
    if "points" not in arrays:
        message = (
            f"read_points: {path} must hold one of the arrays {', '.join(NPZ_NAMES['points'])}, "
            f"got {', '.join(sorted(members)) or 'none'}."
        )
        raise DataError(message)
    columns = _of_array(arrays.pop("points"), path)
    for key, array in arrays.items():
        if array.shape != (len(columns.points), 3) or array.dtype.kind not in "fiu":
            message = (
                f"read_points: {path} must hold {key} of the shape {(len(columns.points), 3)}, a "
                f"row a point, got {array.dtype} {array.shape}."
            )
            raise DataError(message)
    normals = arrays.get("normals", columns.normals)
    colours = arrays.get("colours", columns.colours)
    return Columns(columns.points, normals, columns.notes, colours)


def _read_gz(path: Path) -> Columns:
    """Return the points of a file that gzip has packed, by the suffix before `.gz`."""
    inner = Path(path.stem)
    reader = _READERS.get(inner.suffix.lower())
    if reader is None or inner.suffix.lower() == ".gz":
        message = (
            f"read_points: {path.name!r} must name what it holds before .gz, such as "
            f"scan.ply.gz; known are {', '.join(POINT_SUFFIXES)}."
        )
        raise DataError(message)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / inner.name
        size = 0
        with gzip.open(path) as packed, target.open("wb") as stream:
            while block := packed.read(1 << 20):
                size += len(block)
                check_size(size, f"read_points: {path}")
                stream.write(block)
        return reader(target)


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".ply": read_ply,
    ".obj": read_obj,
    ".xyz": read_table,
    ".txt": read_table,
    ".csv": read_table,
    ".npy": _read_npy,
    ".pcd": read_pcd,
    ".npz": _read_npz,
    ".asc": read_table,
    ".pts": read_pts,
    ".ptx": read_ptx,
    ".off": read_off,
    ".las": read_las,
    ".laz": read_las,
    ".e57": read_e57,
    ".gz": _read_gz,
}
POINT_SUFFIXES = tuple(_READERS)
"""What `read_points` reads, by suffix."""
