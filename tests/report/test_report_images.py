import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from levelset.auditing._result import Audit
from levelset.report._images import LARGEST_SIDE, encode, pack

Make = Callable[..., Audit]


def decode(packed: dict[str, str]) -> Any:
    return np.frombuffer(base64.b64decode(packed["data"]), dtype=f"<{packed['type']}")


def cut(content: dict[str, Any], uri: str, slot: int) -> Any:
    head, data = uri.split(",", 1)
    assert head == "data:image/png;base64"
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    h, w = content["height"], content["width"]
    y, x = divmod(slot, content["columns"])
    picture = sheet[y * h : (y + 1) * h, x * w : (x + 1) * w].astype(float)
    return picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (torch.tensor([True, False]), "u1"),
        (torch.tensor([-1, 2**31 - 1]), "i4"),
        (torch.tensor([0.1, math.inf]), "f4"),
        (torch.tensor([0.1, math.nan], dtype=torch.float64), "f8"),
    ],
)
def test_columns_survive_packing_to_the_bit(values: torch.Tensor, kind: str) -> None:
    packed = encode(values)
    assert packed["type"] == kind
    np.testing.assert_array_equal(decode(packed), values.numpy().astype(f"<{kind}"))


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5)])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 3.0)])
def test_input_plus_difference_is_the_witness(
    make_audit: Make, shape: tuple[int, ...], bounds: tuple[float, float]
) -> None:
    audit = make_audit(shape=shape, bounds=bounds)
    pictures = pack([audit])
    assert pictures is not None
    assert sorted(pictures.rows.tolist()) == list(range(len(audit)))
    low, high = bounds
    content = pictures.content
    for place, norm in enumerate(audit.norms):
        steps = content["steps"][0][place]
        for slot, row in enumerate(pictures.rows):
            scale = decode(steps["scales"])[slot]
            seen = low + (high - low) * cut(content, content["inputs"], slot) / 255.0
            true = audit.points[row].numpy().reshape(seen.shape)
            assert np.abs(seen - true).max() <= 0.501 * (high - low) / 255.0
            change = cut(content, steps["sheet"], slot) / 127.0 - 1.0
            wanted = audit.witnesses[norm][row].numpy().reshape(seen.shape) - true
            if np.isnan(wanted).any():
                assert np.isnan(scale)
                continue
            assert scale == pytest.approx(np.abs(wanted).max())
            assert np.abs(change * scale - wanted).max() <= 0.501 * scale / 127.0 + 1e-6


def test_budget_keeps_the_closest_and_counts_every_sheet(make_audit: Make) -> None:
    a, b = make_audit(n=40, wrong=3), make_audit(n=40, wrong=3, seed=1)
    each = 16 * 5
    pictures = pack([a, b], budget=20 * each + each - 1)
    assert pictures is not None
    assert len(pictures.rows) == 20
    kept = set(pictures.rows.tolist())
    for audit in (a, b):
        for norm in audit.norms:
            distance = audit.distance(norm)[audit.columns["correct"]]
            rows = audit.columns["correct"].nonzero().flatten()[distance.argsort()[:3]]
            assert set(rows.tolist()) <= kept


def test_large_pictures_are_shrunk_to_their_means(make_audit: Make) -> None:
    audit = make_audit(n=4, shape=(1, 2 * LARGEST_SIDE, LARGEST_SIDE), wrong=0, missed=0)
    pictures = pack([audit])
    assert pictures is not None
    assert pictures.shrunk
    assert (pictures.content["height"], pictures.content["width"]) == (LARGEST_SIDE, 48)
    seen = cut(pictures.content, pictures.content["inputs"], 0)[0] / 255.0
    true = audit.points[pictures.rows[0], 0].view(LARGEST_SIDE, 2, 48, 2).mean((1, 3)).numpy()
    assert np.abs(seen - true).max() <= 0.501 / 255.0


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4), (1, 2, 3, 4)])
def test_what_is_no_picture_has_none(make_audit: Make, shape: tuple[int, ...]) -> None:
    assert pack([make_audit(shape=shape)]) is None


def test_infinite_bounds_take_the_range_of_the_data(make_audit: Make) -> None:
    audit = make_audit()
    endless = Audit(
        audit.points * 9.0 - 4.0,
        audit.columns,
        audit.witnesses,
        audit.norms,
        audit.classes,
        bounds=(-math.inf, math.inf),
    )
    pictures = pack([endless])
    assert pictures is not None
    seen = np.stack([cut(pictures.content, pictures.content["inputs"], s) for s in range(30)])
    assert (seen.min(), seen.max()) == (0.0, 255.0)


def test_arguments_are_untouched(make_audit: Make) -> None:
    audit = make_audit(shape=(3, 4, 4))
    before = audit.points.clone(), audit.witnesses[2.0].clone()
    pack([audit])
    assert torch.equal(audit.points, before[0])
    assert torch.equal(audit.witnesses[2.0].nan_to_num(), before[1].nan_to_num())
