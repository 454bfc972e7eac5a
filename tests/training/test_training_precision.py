from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levelset.errors import ParameterError
from levelset.networks import fc
from levelset.training import build_loss, initialise, train
from levelset.training._precision import in_precision


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 3)).to(dtype)


def test_logits_are_float32_and_those_of_16_bits() -> None:
    model, points = network(), torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    exact = model(points)
    with in_precision(model, "bfloat16"):
        rounded = model(points)
    assert rounded.dtype == torch.float32
    error = (rounded - exact).abs().max() / exact.abs().max()
    assert 1e-5 < error < 2**-6  # eight bits of mantissa, a few roundings
    assert torch.equal(model(points), exact)  # nothing stays behind
    with in_precision(model, "full"):
        assert torch.equal(model(points), exact)


def test_weights_keep_their_gradient_after_passes_that_need_none() -> None:
    model, points = network(), torch.ones(4, 3)
    with in_precision(model, "bfloat16"):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model(points)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        with torch.no_grad():
            model(points)
        loss = model(points).square().sum()
    rounded = torch.autograd.grad(loss, list(model.parameters()))
    exact = torch.autograd.grad(model(points).square().sum(), list(model.parameters()))
    for one, other in zip(rounded, exact, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * float(other.abs().max()))


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        "adversarial(radius=0.05, steps=2, bounds=(-9, 9))",
        "robust_distance(radius=0.05, adversarial=1.0, steps=2, starts='last', weight_wrong=0.0, "
        "bounds=(-9, 9))",
        "interval_bound(radius=0.05, bounds=(-9, 9))",
    ],
)
def test_training_in_16_bits_learns_what_training_in_full_does(toy: Any, loss: str) -> None:
    reached: dict[str, Tensor] = {}
    for precision in ("full", "bfloat16"):
        model = initialise(fc(2, 16, 3), generator=torch.Generator().manual_seed(3))
        options: Any = {"precision": precision}
        history = train(
            model, toy, loss=build_loss(loss), epochs=12, learning_rate=0.1, batch_size=25,
            generator=torch.Generator().manual_seed(0), **options,
        )  # fmt: skip
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        reached[precision] = history.accuracy[-1]
    assert reached["bfloat16"] > 0.9
    assert abs(reached["bfloat16"] - reached["full"]) <= 0.06


def test_other_precisions_than_float32_are_refused(toy: Any, make: Callable[[], nn.Module]) -> None:
    points, labels = toy
    options: Any = {"epochs": 1, "precision": "bfloat16"}
    with pytest.raises(
        ParameterError, match=r"is for models and points in float32, got torch.floa"
    ):
        train(make().double(), type(toy)(points.double(), labels), **options)
