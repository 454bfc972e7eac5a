"""How many linear regions a plane is likely to have."""

import math

import torch

from levelset._relaxation._curves import Largest
from levelset._relaxation._program import Program
from levelset.boundary._sections._plane import Frame

__all__ = ["estimate_regions"]

_POINTS = 48


def estimate_regions(program: Program, frame: Frame) -> float:
    r"""Estimate the number of linear regions in a rectangle, from three lines across it.

    Of lines of all directions that lie anywhere, a test line of length l meets N where their length
    is $\pi N / (2l)$ per area, and they make $\pi N^2 A / (4 l^2)$ cells in an area A.
    """
    (left, bottom), (right, top) = frame.low, frame.high
    width, height = right - left, top - bottom
    ends = [
        ((left, bottom + 0.43 * height), (right, bottom + 0.43 * height)),
        ((left + 0.57 * width, bottom), (left + 0.57 * width, top)),
        ((left, bottom), (right, top)),
    ]
    ticks = torch.linspace(0.0, 1.0, _POINTS, dtype=torch.float64).unsqueeze(1)
    total = 0.0
    for begin, end in ends:
        one, other = (torch.tensor([each], dtype=torch.float64) for each in (begin, end))
        nodes = program.values(frame.points(torch.lerp(one, other, ticks)))
        count = 0
        for index, step in enumerate(program.steps):
            if index + 1 not in nodes or step.operation.is_affine:
                continue
            value = nodes[step.inputs[0]]
            if isinstance(step.operation, Largest):
                places = step.operation.pool(value)[1]
                count += int((places[1:] != places[:-1]).sum())
            for kink in step.operation.kinks or ():
                above = value > kink
                count += int((above[1:] != above[:-1]).sum())
        shape = width * height / float((other - one).square().sum())
        total += 1 + count + math.pi / 4 * count**2 * shape
    return total / len(ends)
