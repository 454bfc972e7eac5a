"""What a user should know of a surface, in sentences."""

import torch
from torch import Tensor

from levelset.reconstruction._cloud import Cloud
from levelset.reconstruction._meshes._mesh import Mesh
from levelset.reconstruction._open import Footprint, lids
from levelset.reconstruction._topology import Handle

__all__ = ["DOUBTFUL", "cloud_words", "handle_words", "lid_words"]

DOUBTFUL = 0.1
"""Share of points of unsure side from which on a note warns of them."""
# Shares of a closed surface without points: below the first nothing is said, above the second
# there is no volume.
_CLOSED, _UNBOUNDED = 0.03, 0.25


def cloud_words(cloud: Cloud, unsure: float) -> tuple[str, ...]:
    notes = [f"{note}." for note in cloud.notes]
    if unsure > DOUBTFUL:
        notes.append(
            f"Which side is outside was unsure for {unsure:.0%} of the points: they are too noisy "
            "or too few for walls this thin, or lie on no surface. Look before you use it."
        )
    return tuple(notes)


def handle_words(unclear: tuple[Handle, ...], removed: int, cloud: Cloud) -> tuple[str, ...]:
    notes = []
    if removed:
        notes.append(
            f"{removed} {'handle' if removed == 1 else 'handles'} that the points do not bear out "
            "were filled or cut."
        )
    for handle in unclear:
        place = _place_words(cloud, torch.from_numpy(handle.loop.middle))
        notes.append(
            f"The handle of radius {cloud.scale * handle.loop.radius:.3g} near {place} may be "
            "none: look at it."
        )
    return tuple(notes)


def lid_words(sketch: Mesh, footprint: Footprint, cloud: Cloud) -> tuple[str, ...]:
    """Return what to say of the parts of a closed surface that have no points."""
    parts = lids(sketch, footprint)
    share = sum(lid.area for lid in parts) / sketch.area
    if share > _UNBOUNDED:
        return (
            f"The points bound no volume: {share:.0%} of the closed surface lies where there are "
            "none, as on terrain, a wall or a view from one side, or on a plate too thin for its "
            "noise. `closed=False` (--open) leaves it open.",
        )
    if share < _CLOSED:
        return ()
    place = _place_words(cloud, torch.tensor(parts[0].middle, dtype=torch.float64))
    return (
        f"Holes were closed: {share:.0%} of the surface has no points near. The largest is about "
        f"{cloud.scale * parts[0].width:.3g} across, near {place}. `closed=False` (--open) leaves "
        "them open.",
    )


def _place_words(cloud: Cloud, place: Tensor) -> str:
    """Return a place of the unit frame `(3,)` in words, in units of the cloud."""
    return f"({', '.join(f'{x:.6g}' for x in cloud.to_world(place).tolist())})"
