"""Tables of transfer: the diagonal is the white box, names and counts are right."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import fgsm, pgd, transfer
from levelset.errors import ParameterError


@pytest.fixture
def models(settled: Callable[..., nn.Module]) -> dict[str, nn.Module]:
    def one(seed: int) -> nn.Module:
        layers = nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 4)
        return settled(nn.Sequential(*layers), seed=seed, dtype=torch.float64)

    return {"a": one(1), "b": one(2), "c": one(3)}


def test_every_entry_is_what_its_models_say(
    models: dict[str, nn.Module],
    noise: Callable[..., Tensor],
    left_as_found: Callable[..., object],
) -> None:
    points = noise(80, 10, seed=1).sigmoid()
    labels = models["a"](points).argmax(1)
    attack = partial(fgsm, radius=0.2)
    with left_as_found(points, labels, *models.values()):  # type: ignore[attr-defined]
        found = transfer(models, points, labels, attack=attack)
    assert found.names == ("a", "b", "c")
    assert found.clean[0] == 1.0
    for i, source in enumerate(models.values()):
        attacked = attack(source, points, labels)
        for j, target in enumerate(models.values()):
            right = target(attacked.points).argmax(1) == labels
            assert float(found.accuracy[i, j]) == pytest.approx(float(right.double().mean()))
        assert float(found.accuracy[i, i]) == pytest.approx(
            float((~attacked.success).double().mean())
        )
    summary = found.summary()
    assert len(summary) == 14
    assert summary["b -> c"] == float(found.accuracy[1, 2])
    assert repr(found).startswith("Transfer(accuracy=(3, 3), clean_mean=")


def test_the_white_box_is_the_hardest(
    models: dict[str, nn.Module], noise: Callable[..., Tensor]
) -> None:
    points = noise(200, 10, seed=1).sigmoid()
    labels = models["a"](points).argmax(1)
    attack = partial(
        pgd, radius=0.15, loss="margin", keep="best", generator=torch.Generator().manual_seed(0)
    )
    told: list[tuple[int, int]] = []
    found = transfer(
        models, points, labels, attack=attack, progress=lambda *n: told.append(n), batch_size=30
    )
    assert (found.accuracy.diagonal() <= found.accuracy.amin(0) + 1e-12).all()
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_bad_input(models: dict[str, nn.Module]) -> None:
    points, labels = torch.zeros(2, 10).double(), torch.tensor([0, 4])
    with pytest.raises(ParameterError, match="must hold one at least, got 0 models and 2 inputs"):
        transfer({}, points, labels, attack=fgsm)
    with pytest.raises(ParameterError, match="got 3 models and 0 inputs"):
        transfer(models, points[:0], labels[:0], attack=fgsm)
    with pytest.raises(ParameterError, match="`labels` must lie in 0 to 3, got 4"):
        transfer(models, points, labels, attack=partial(fgsm, radius=0.1))
