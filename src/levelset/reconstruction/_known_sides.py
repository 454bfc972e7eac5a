"""Sides that the caller knows, by normals or sensors, beside those that the points show."""

import numpy as np

from levelset._typing import Booleans, Floats
from levelset.reconstruction._cloud import Cloud, rows_words
from levelset.reconstruction._objects import is_closed

__all__ = ["agreed", "seen"]

ASKEW = 0.2  # cosine between a normal and that of the points around, below which it is wrong
GRAZING = 0.15  # cosine between a normal and the line of sight, below which it decides no side
# Shares of the points, against their surroundings and askew to them, below which nothing is said:
# single ones at edges.
FEW, FEW_ASKEW = 2e-3, 1e-2
AGAINST = 0.1  # share of the points seen from behind, above which the sensor is doubted


def agreed(
    cloud: Cloud, own: Floats, sure: Booleans, spacing: Floats
) -> tuple[Floats, tuple[str, ...]]:
    """Return the normals of the caller with wrong ones put right, and what was wrong, in words.

    A normal against those that the points show is turned; one askew to them, by 78 degrees or
    more, is replaced. Where most are against them the caller says which side is outside, as of a
    room seen from within; of a closed surface that is worth a note.

    Args:
        cloud: The points, with normals.
        own: Outward normals by the points alone, `(n, 3)`.
        sure: Which of those are to be trusted, `(n,)`.
        spacing: The side of the square that each point stands for, `(n,)`.
    """
    assert cloud.normals is not None
    normals, count, notes = cloud.normals, len(own), []
    cosine = (own * normals).sum(1)
    if sure.any() and (cosine[sure] < 0.0).mean() > 0.5:
        sides = spacing[sure]
        if is_closed(own[sure] * sides[:, None] ** 2, sides):
            notes.append(
                "the normals point inwards, so the surface bounds the space around it; turn them "
                "all if it is an object's"
            )
        own, cosine = -own, -cosine
    flipped, askew = sure & (cosine < -ASKEW), sure & (np.abs(cosine) <= ASKEW)
    for wrong, few, fault, remedy in (
        (flipped, FEW, "point against those around them", "turned"),
        (askew, FEW_ASKEW, "stand askew to the points around them", "replaced"),
    ):
        if wrong.sum() > few * count:
            rows = _first(cloud, wrong)
            notes.append(f"{wrong.sum():,} of {count:,} normals {fault}{rows}: {remedy}")
    normals = np.where(flipped[:, None], -normals, normals)
    return np.where(askew[:, None], own, normals), tuple(notes)


def _first(cloud: Cloud, chosen: Booleans) -> str:
    """Return the first rows of the input that are chosen; nothing if these are means."""
    single = len(cloud.rows) == len(cloud.points)
    return f" (first {rows_words(chosen, cloud.rows)})" if single else ""


def seen(
    cloud: Cloud, own: Floats, inlier: Booleans, sure: Booleans
) -> tuple[Floats, tuple[str, ...]]:
    """Return the sign that turns each normal to its sensor, 0 where it is unclear, and words.

    Where a tenth of the points or more would be seen from behind, the sensor cannot have seen them
    all, and those that are to be trusted keep the side that the points show.

    Args:
        cloud: The points, with sensors.
        own: Outward normals by the points alone, `(n, 3)`.
        inlier: Which points lie on a surface, `(n,)`.
        sure: Which of the normals are to be trusted, `(n,)`.
    """
    assert cloud.sensors is not None
    sight = cloud.sensors - cloud.points
    length = np.maximum(np.linalg.norm(sight, axis=1), 1e-300)
    cosine = (own * sight).sum(1) / length
    signs = np.where(inlier & (np.abs(cosine) > GRAZING), np.sign(cosine), 0.0)
    clear = signs[sure & (signs != 0.0)]
    behind = float((clear < 0.0).mean()) if len(clear) else 0.0
    if min(behind, 1.0 - behind) < AGAINST:
        return signs, ()
    return np.where(sure & inlier, 1.0, signs), (
        f"{100 * behind:.0f} % of the points would be seen from behind by the sensor, so it "
        "decided only what was unsure. If they were seen from several places, give each point its "
        "own",
    )
