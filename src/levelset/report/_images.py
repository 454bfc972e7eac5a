"""Pictures of inputs and of the steps to their witnesses, packed into a few sheets.

The page holds a sheet of inputs, and for each model and norm a sheet of differences, eight bits a
value each with a scale of its own, so that a difference of a thousandth is as visible as one of a
half. A witness is drawn as its input plus its difference.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from levelset.auditing._result import Audit

__all__ = ["Pictures", "data_uri", "encode", "pack"]

BUDGET = 6_000_000
"""Most values (pixels times channels) in all sheets of a page: about as many bytes before PNG."""

LARGEST_SIDE = 96
"""Pixels; pictures with a longer side are shrunk to it."""


@dataclass(frozen=True)
class Pictures:
    """Which inputs have a picture, and the sheets.

    Attributes:
        rows: Rows of the audits in the order of their places on the sheets, closest first.
        shrunk: Whether the pictures are smaller than the inputs.
        content: What the page needs to cut and draw them, ready for JSON.
    """

    rows: NDArray[np.int32]
    shrunk: bool
    content: dict[str, Any]


def encode(values: Tensor | NDArray[Any]) -> dict[str, str]:
    """Return numbers as little-endian base64 with their type: `u1`, `i4`, `f4` or `f8`."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if array.dtype == np.bool_ or array.dtype == np.uint8:
        kind = "u1"
    elif array.dtype.kind in "iu":
        kind = "i4"
    else:
        kind = "f8" if array.dtype == np.float64 else "f4"
    raw = np.ascontiguousarray(array, dtype=f"<{kind}").tobytes()
    return {"type": kind, "data": base64.b64encode(raw).decode("ascii")}


def pack(audits: Sequence[Audit], *, budget: int = BUDGET) -> Pictures | None:
    """Return the pictures of the inputs closest to a border, as many as the budget allows.

    Args:
        audits: Audits of the same inputs.
        budget: Most values in all sheets.

    Returns:
        `None` where the inputs are no pictures: `(n, h, w)`, `(n, 1, h, w)` or `(n, 3, h, w)`.
    """
    points = _as_images(audits[0].points[:0])
    if points is None:
        return None
    size = _size(points.shape[-2:])
    sheets = 1 + sum(len(audit.norms) for audit in audits)
    most = budget // (sheets * points.shape[1] * math.prod(size))
    rows = _closest(audits)[:most]
    inputs = _thumbnails(audits[0].points, rows, size)
    columns = max(1, math.ceil(math.sqrt(len(rows))))
    low, high = _range(inputs, audits[0].bounds)
    content = {
        "rows": encode(rows),
        "height": size[0],
        "width": size[1],
        "channels": points.shape[1],
        "columns": columns,
        "range": [low, high],
        "inputs": _sheet(_bytes_within(inputs, low, high), columns),
        "steps": [
            [_steps(audit, norm, inputs, rows, columns) for norm in audit.norms] for audit in audits
        ],
    }
    return Pictures(rows, size != tuple(points.shape[-2:]), content)


def data_uri(picture: Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> str | None:
    """Return one picture `(h, w)`, `(1, h, w)` or `(3, h, w)` as a PNG; none for other shapes."""
    images = _as_images(picture.detach().cpu().float()[None])
    if images is None:
        return None
    shown = functional.interpolate(images, _size(images.shape[-2:]), mode="area")
    return _sheet(_bytes_within(shown, *_range(shown, bounds)), 1)


def _as_images(points: Tensor) -> Tensor | None:
    if points.dim() == 3:
        points = points[:, None]
    seen = points.dim() == 4 and points.shape[1] in (1, 3) and min(points.shape[2:]) > 0
    return points if seen else None


def _size(shape: Sequence[int]) -> tuple[int, int]:
    factor = min(1.0, LARGEST_SIDE / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def _closest(audits: Sequence[Audit]) -> NDArray[np.int32]:
    """Return all rows, those first that lie closest to a border in any audit and norm, if any.

    Inputs classified wrong have distance 0, and would crowd out the rest: they come in turn with
    the closest right ones.
    """
    ranks = []
    for audit in audits:
        correct = audit.columns["correct"].bool().cpu().numpy()
        for norm in audit.norms:
            distance = audit.distance(norm).double().cpu().numpy()
            order = np.lexsort((distance, ~correct))
            rank = np.empty(len(order), dtype=np.int64)
            rank[order] = np.arange(len(order))
            rank[~correct] = 2 * (np.cumsum(~correct)[~correct] - 1)
            ranks.append(rank)
    if not ranks:
        return np.arange(len(audits[0]), dtype=np.int32)
    best = np.min(np.stack(ranks), axis=0)
    return np.argsort(best, kind="stable").astype(np.int32)


def _thumbnails(points: Tensor, rows: NDArray[np.int32], size: tuple[int, int]) -> Tensor:
    chosen = points.detach()[torch.as_tensor(rows, device=points.device).long()]
    images = _as_images(chosen.cpu().float())
    assert images is not None, "the shape was looked at before"
    if tuple(images.shape[-2:]) == size or not len(images):
        return images
    return functional.interpolate(images, size, mode="area")


def _range(images: Tensor, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the values shown as black and white: the bounds, or the data's where they are open."""
    low, high = (float(bound) for bound in bounds)
    if not math.isfinite(low):
        low = float(images.min()) if images.numel() else 0.0
    if not math.isfinite(high):
        high = float(images.max()) if images.numel() else 1.0
    return low, high if high > low else low + 1.0


def _bytes_within(images: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    shares = ((images - low) / (high - low)).nan_to_num().clamp(0.0, 1.0)
    values: NDArray[np.uint8] = (shares * 255.0).round().to(torch.uint8).numpy()
    return values


def _steps(
    audit: Audit, norm: float, inputs: Tensor, rows: NDArray[np.int32], columns: int
) -> dict[str, Any]:
    """Return the sheet of differences of one norm, 127 for none, and the scale of each.

    A scale is the largest absolute difference of the picture; NaN where there is no witness.
    """
    change = _thumbnails(audit.witnesses[norm], rows, tuple(inputs.shape[-2:])) - inputs  # type: ignore[arg-type]
    scale = change.abs().flatten(1).amax(1) if len(change) else change.new_zeros(0)
    divisor = torch.where(scale > 0, scale, 1.0).view(-1, 1, 1, 1)
    values = (127.0 + 127.0 * change / divisor).nan_to_num(127.0).round().to(torch.uint8)
    return {"sheet": _sheet(values.numpy(), columns), "scales": encode(scale)}


def _sheet(images: NDArray[np.uint8], columns: int) -> str:
    """Return pictures `(m, channels, h, w)` in rows of `columns`, as a PNG in a data URI."""
    count, channels, height, width = images.shape
    lines = max(1, math.ceil(count / columns))
    sheet = np.zeros((lines * columns, channels, height, width), dtype=np.uint8)
    sheet[:count] = images
    sheet = sheet.reshape(lines, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = np.ascontiguousarray(sheet).reshape(lines * height, columns * width, channels)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
