"""What a user should know of a surface, in sentences."""

from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from levelset._typing import Floats
from levelset.reconstruction._cloud import Cloud
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._open import lids
from levelset.reconstruction._orientation import UNSURE, OrientedPoints
from levelset.reconstruction._topology import Handle

__all__ = ["DOUBTFUL", "cloud_words", "handle_words", "lid_words"]

DOUBTFUL = 0.1
"""Share of points of unsure side from which on a note warns of them."""
AROUND = 0.1  # in the unit frame: how far points of unsure side are counted together
# Shares of the points with less noise than those that are said, which differ by more than a factor.
_ENDS, _UNLIKE = (0.05, 0.95), 2.0
# Shares of a closed surface without points: below the first nothing is said, above the second
# there is no volume.
_CLOSED, _UNBOUNDED = 0.03, 0.25


def cloud_words(cloud: Cloud, oriented: OrientedPoints, unsure: float) -> tuple[str, ...]:
    """Return what to say of the points, and of how sure their sides are."""
    notes = [f"{note[0].upper()}{note[1:]}." for note in cloud.notes + oriented.notes]
    notes.extend(_noise_words(cloud, oriented))
    if unsure > DOUBTFUL:
        doubtful = oriented.points[~oriented.outlier & (oriented.confidence < UNSURE)]
        place = _place_words(cloud, torch.from_numpy(_densest(doubtful)))
        notes.append(
            f"Which side is outside was unsure for {100 * unsure:.0f} % of the points, most of "
            f"them near {place}: they are too noisy or too few for walls this thin, or lie on no "
            "surface. Look before you use it."
        )
    return tuple(notes)


def _noise_words(cloud: Cloud, oriented: OrientedPoints) -> tuple[str, ...]:
    """Return what to say of noise that differs from place to place."""
    low, high = np.quantile(oriented.without_outliers().spread, _ENDS)
    if high <= _UNLIKE * low:
        return ()
    whose = "" if cloud.raw_noise is None else " of the means"
    return (
        f"The noise{whose} differs from place to place, from {cloud.scale * low:.2g} to "
        f"{cloud.scale * high:.2g}: each is smoothed by its own.",
    )


def _densest(places: Floats) -> Floats:
    """Return the one of some places in the unit frame that has most others around it, `(3,)`."""
    tree = cKDTree(places)
    return np.asarray(places[tree.query_ball_point(places, AROUND, return_length=True).argmax()])


def handle_words(unclear: tuple[Handle, ...], removed: int, cloud: Cloud) -> tuple[str, ...]:
    notes = []
    if removed:
        counted = "1 handle" if removed == 1 else f"{removed} handles"
        were = "was" if removed == 1 else "were"
        notes.append(f"{counted} that the points do not bear out {were} filled or cut.")
    for handle in unclear:
        place = _place_words(cloud, torch.from_numpy(handle.loop.middle))
        notes.append(
            f"The handle of radius {cloud.scale * handle.loop.radius:.3g} near {place} may be "
            "none: look at it."
        )
    return tuple(notes)


def lid_words(
    sketch: Mesh, beyond: Floats, cloud: Cloud, shape: Literal["smooth", "flat"]
) -> tuple[str, ...]:
    """Return what to say of the parts of a closed surface that have no points."""
    parts = lids(sketch, beyond)
    share = sum(lid.area for lid in parts) / sketch.area
    if share > _UNBOUNDED and shape == "smooth":
        return (
            f"The points bound no volume: {100 * share:.0f} % of the closed surface lies where "
            "there are none, as on terrain, a wall or a view from one side, or on a plate too thin "
            'for its noise. `closed=False` (--open) leaves it open, `lids="flat"` (--lids flat) '
            "closes it straight across.",
        )
    if share < _CLOSED:
        return ()
    place = _place_words(cloud, torch.tensor(parts[0].middle, dtype=torch.float64))
    return (
        f"Holes were closed{' flat' * (shape == 'flat')}: {100 * share:.0f} % of the surface has "
        f"no points near. The largest is about {cloud.scale * parts[0].width:.3g} across, near "
        f"{place}. `closed=False` (--open) leaves them open.",
    )


def _place_words(cloud: Cloud, place: Tensor) -> str:
    """Return a place of the unit frame `(3,)` in words, in units of the cloud."""
    return f"({', '.join(f'{x:.6g}' for x in cloud.to_world(place).tolist())})"
