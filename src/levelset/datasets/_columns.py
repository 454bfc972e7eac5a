"""Columns of a cloud of points: which are coordinates, normals and colours."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from levelset._typing import Floats

__all__ = [
    "Columns",
    "Placing",
    "by_name",
    "by_place",
    "colour_unit",
    "colours_of",
    "joined",
    "others",
    "placing",
    "plain_name",
]

UNIT = (0.9, 1.1)  # lengths that a normal may have
MOSTLY = 0.9  # share of the rows that must look like it
_FORMS = ("{}", "{}coordinate", "{}coord", "point{}", "pos{}", "position{}", "cartesian{}")
_OTHERS = (("easting", "east"), ("northing", "north"), ("elevation", "altitude", "height"))
AXES = tuple(
    (*(form.format(axis) for form in _FORMS), *others)
    for axis, others in zip("xyz", _OTHERS, strict=True)
)
NORMALS = tuple((f"n{a}", f"normal{a}", f"{a}normal") for a in "xyz")
COLOURS = (
    ("r", "red", "diffusered", "colorred", "rf"),
    ("g", "green", "diffusegreen", "colorgreen", "gf"),
    ("b", "blue", "diffuseblue", "colorblue", "bf"),
)


@dataclass(frozen=True)
class Columns:
    """Points as they lie in a file, not yet checked.

    Attributes:
        points: `(n, 2)` or `(n, 3)`, of any number type.
        normals: `(n, 3)`, or `None`.
        notes: What the user should know, in sentences.
        colours: Red, green and blue as the file has them, `(n, 3)`, or `None`: see `colours_of`.
        sensors: From where each was seen, `(n, 3)`, or `None`.
        scalars: Further numbers by the names of their columns, each `(n,)`.
    """

    points: NDArray[Any]
    normals: NDArray[Any] | None
    notes: tuple[str, ...] = ()
    colours: NDArray[Any] | None = None
    sensors: Floats | None = None
    scalars: dict[str, Floats] = field(default_factory=dict)


def plain_name(name: str) -> str:
    """Return the name of a column without case, units in brackets, blanks and underscores."""
    bare = re.sub(r"[\[(].*?[\])]", "", name.lower())
    return re.sub(r"[^a-z0-9]", "", bare)


def by_name(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of the columns that names say to be `points`, `normals`, `colours`.

    Points have two columns where only x and y are named. What is not named in full is left out.
    """
    plain = [plain_name(name) for name in names]

    def places(groups: tuple[tuple[str, ...], ...]) -> list[int]:
        first = [next((plain.index(n) for n in group if n in plain), -1) for group in groups]
        return first if min(first) >= 0 else []

    points = places(AXES) or places(AXES[:2])
    result = {"points": points, "normals": places(NORMALS), "colours": places(COLOURS)}
    return {key: value for key, value in result.items() if value}


def others(names: Sequence[str]) -> dict[str, int]:
    """Return the columns that are neither coordinates nor normals nor colours, by name."""
    known = {place for places in by_name(names).values() for place in places}
    packed = {"rgb", "rgba", "alpha", "a"}
    return {
        name: place
        for place, name in enumerate(names)
        if name and place not in known and plain_name(name) not in packed
    }


def colours_of(values: NDArray[Any]) -> Floats:
    """Return colours from 0 to 1, of integers of 8 or 16 bits, or numbers up to 1, `(n, 3)`."""
    colours = np.nan_to_num(np.asarray(values, dtype=np.float64))
    most = float(colours.max(initial=0.0))
    return np.clip(colours / colour_unit(most, values.dtype.kind in "iu"), 0.0, 1.0)


def joined(parts: Sequence[Columns]) -> Columns:
    """Return the points of all parts, with what each of them has."""
    if not parts:
        return Columns(np.zeros((0, 3)), None)

    def together(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
        present = [array for array in arrays if array is not None]
        return np.concatenate(present) if len(present) == len(parts) else None

    names = [name for name in parts[0].scalars if all(name in part.scalars for part in parts)]
    return Columns(
        np.concatenate([part.points for part in parts]),
        together([part.normals for part in parts]),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        together([part.colours for part in parts]),
        together([part.sensors for part in parts]),
        {name: np.concatenate([part.scalars[name] for part in parts]) for name in names},
    )


def colour_unit(most: float, whole: bool) -> float:
    """Return what stands for the full colour: 65535, 255 or 1.

    Args:
        most: The largest number.
        whole: Whether the file has integers.
    """
    if most > 255.0:
        return 65535.0
    return 255.0 if most > 1.0 or whole else 1.0


def by_place(table: NDArray[Any]) -> Columns:
    """Return the first three columns of a table of four or more as points, the rest by its values.

    The next three, or the last three of seven, are normals where their length is 1, and colours
    where all are whole numbers from 0 to 255, or none is below 0 or above 1.
    """
    return placing(table).of(table)


class Placing(NamedTuple):
    """Where the columns of a table without names are.

    Attributes:
        normals: The first column of normals, or `None`.
        colours: The first column of colours, or `None`.
        notes: What the user should know, in sentences.
    """

    normals: int | None
    colours: int | None
    notes: tuple[str, ...]

    def of(self, table: NDArray[Any]) -> Columns:
        """Return the columns of a table."""
        normals, colours = (
            None if first is None else table[:, first : first + 3]
            for first in (self.normals, self.colours)
        )
        return Columns(table[:, :3], normals, self.notes, colours)


def placing(table: NDArray[Any]) -> Placing:
    """Return where normals and colours are, by the values of a table of four or more columns."""
    width = table.shape[1]
    normals = colours = None
    notes: list[str] = []
    starts = (3, 6) if width >= 9 else (3, 4) if width == 7 else (3,)
    for start in starts:
        block = table[:, start : start + 3]
        where = f"Columns {start + 1} to {start + 3}"
        if normals is None and width == 6 and not block.any():
            return Placing(start, None, ())  # normals that nobody has filled in
        if normals is None and _are_normals(block):
            normals = start
            notes.append(f"{where} have length 1 and were taken as normals.")
        elif normals != start and colours is None and _are_colours(block):
            colours = start
            notes.append(f"{where} were taken as red, green and blue, by their values.")
    if not notes:
        notes.append(
            f"The file has {width} columns not named x, y, z; the first three were taken as these, "
            "and the others, which are no normals of length 1 and no colours, left out."
        )
    return Placing(normals, colours, tuple(notes))


def _are_normals(block: NDArray[Any]) -> bool:
    if block.shape[1] < 3 or not len(block):
        return False
    lengths = np.sqrt((block.astype(np.float64) ** 2).sum(1))
    return bool(np.mean((lengths > UNIT[0]) & (lengths < UNIT[1])) > MOSTLY)


def _are_colours(block: NDArray[Any]) -> bool:
    if block.shape[1] < 3 or not len(block):
        return False
    low, high = block.min(), block.max()
    if not (np.isfinite(low) and low >= 0 and high > low):
        return False
    return bool(high <= 1.0 or (high <= 255.0 and (block == np.round(block)).all()))
