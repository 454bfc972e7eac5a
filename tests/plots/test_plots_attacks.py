"""Pictures of attacks show what is in the results, to the number."""

import pytest
import torch
from torch import nn

from levelset import plots
from levelset.attacks import Attack, Transfer, direct_boundary
from levelset.errors import ParameterError, ShapeError


def found(*shape: int, bias: float = 0.0) -> Attack:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(torch.tensor(shape).prod()), 2))
    model[1].weight.data = torch.randn(model[1].weight.shape, generator=generator)
    model[1].bias.data = torch.tensor([bias, 0.0])
    return direct_boundary(model, torch.rand(6, *shape, generator=generator), steps=6)


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 4, 5), (4, 5)])
def test_three_rows_of_the_closest(shape: tuple[int, ...]) -> None:
    result = found(*shape)
    axes = plots.attack(result, count=4)
    drawn = axes.images[0].get_array()
    assert drawn is not None
    moved = int(min(4, (result.success & (result.distance > 0)).sum()))
    assert drawn.shape[:2] == (3 * 4, moved * 5)
    nearest = sorted(result.distance[result.success & (result.distance > 0)].tolist())[:moved]
    words = [tick.get_text() for tick in axes.get_xticklabels()]
    assert words == [f"{d:.3g}" for d in nearest]
    closest = int(result.distance.where(result.success, torch.inf).argmin())
    image = result.inputs[closest].double()
    image = image if image.dim() == 2 else image.permute(1, 2, 0).squeeze(2)
    assert (drawn[:4, :5] == image.numpy()).all()


def test_transfer_shows_every_share() -> None:
    shares = torch.tensor([[0.125, 0.5], [1.0, 0.25]])
    axes = plots.transfer(Transfer(("a", "b"), shares, torch.ones(2)))
    assert [text.get_text() for text in axes.texts] == ["12.5 %", "50.0 %", "100.0 %", "25.0 %"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]


def test_messages() -> None:
    with pytest.raises(ParameterError, match=r"`count` must be at least 1, got 0"):
        plots.attack(found(1, 4, 5), count=0)
    with pytest.raises(ParameterError, match=r"an input that was moved with success, got none"):
        plots.attack(found(1, 4, 5, bias=1e6))
    with pytest.raises(ShapeError, match=r"must hold images"):
        plots.attack(found(7))
