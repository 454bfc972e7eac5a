"""The shortest step inside a box that takes a linear function to zero, in three norms."""

import math

import torch
from torch import Tensor

__all__ = ["step_to_hyperplane"]


def step_to_hyperplane(
    points: Tensor, gradient: Tensor, value: Tensor, low: Tensor, high: Tensor, norm: float
) -> Tensor:
    r"""Return the step of least norm after which $v + g \cdot s = 0$, with `points + s` in the box.

    Entries move towards the sides that lower $|v|$: for L-infinity all by the same length, for L2
    in proportion to $|g_i|$, for L1 the steepest first; each stops at its side. The length is
    found by sorting (Croce & Hein 2020, section 3.1). Where no point of the box is on the
    hyperplane, the step goes to the corner nearest to it; where the gradient is zero or not
    finite, there is none.

    Args:
        points: Points of the box, `(n, *d)`.
        gradient: g at each, `(n, *d)`.
        value: v at each, `(n,)`.
        low: Lower sides of the box; broadcasts.
        high: Upper sides of the box; broadcasts.
        norm: Infinity, 2 or 1.

    Returns:
        `(n, *d)`.
    """
    flat = gradient.flatten(1)
    sound = (flat.isfinite().all(1) & value.isfinite()).unsqueeze(1)
    flat = torch.where(sound, flat, 0.0)
    value = torch.where(sound, value.unsqueeze(1), 0.0)
    signs = -value.sign() * flat.sign()
    ends = torch.where(signs.view_as(points) > 0, high, low)
    room = torch.where(signs == 0, 0.0, (ends - points).abs().flatten(1))
    slope, wanted = flat.abs(), value.abs()
    if norm == 1.0:
        length = _steepest_first(slope, room, wanted)
    else:
        speed = torch.ones_like(slope) if math.isinf(norm) else slope
        length = _together(slope, room, wanted, speed)
    return (signs * length).view_as(points)


def _together(slope: Tensor, room: Tensor, wanted: Tensor, speed: Tensor) -> Tensor:
    """Return min(t speed, room) for the t at which the sum of slope times it is `wanted`."""
    stop = torch.where(room > 0, room / torch.where(speed > 0, speed, 1.0), 0.0)
    kinks, order = stop.sort(1)
    rate = (slope * speed).gather(1, order)
    # What is gained between two kinks: by the entries that have not stopped yet.
    running = rate.flip(1).cumsum(1).flip(1)
    gaps = kinks.diff(dim=1, prepend=torch.zeros_like(kinks[:, :1]))
    gained = torch.where(running > 0, running * gaps, 0.0).cumsum(1)
    # Linear from the kink before the one at which enough is gained.
    place = (gained < wanted).sum(1, keepdim=True).clamp(max=kinks.shape[1] - 1)
    earlier = (place - 1).clamp(min=0)
    start = torch.where(place > 0, kinks.gather(1, earlier), 0.0)
    so_far = torch.where(place > 0, gained.gather(1, earlier), 0.0)
    rate_there = running.gather(1, place)
    time = start + (wanted - so_far) / torch.where(rate_there > 0, rate_there, 1.0)
    return torch.minimum(torch.minimum(time, kinks.gather(1, place)) * speed, room)


def _steepest_first(slope: Tensor, room: Tensor, wanted: Tensor) -> Tensor:
    """Return lengths at most `room`, used up in the order of slope, whose gain is `wanted`."""
    ordered, order = slope.sort(1, descending=True)
    space = room.gather(1, order)
    gain = torch.where(space > 0, ordered * space, 0.0)
    # Shifted rather than subtracted, for the gain of an unbounded entry is infinite.
    before = torch.cat([torch.zeros_like(gain[:, :1]), gain.cumsum(1)[:, :-1]], 1)
    used = (wanted - before).clamp(min=0.0) / torch.where(ordered > 0, ordered, 1.0)
    used = torch.where(ordered > 0, torch.minimum(used, space), 0.0)
    return torch.zeros_like(slope).scatter(1, order, used)
