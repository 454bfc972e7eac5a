"""Searches that go on from where they ended an epoch before, in a run whole or resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levelset.losses import Diagnostics, adversarial
from levelset.training import Checkpoint, Objective, Term, build_loss, train
from levelset.training._starts import Starts

LOSS = "robust_distance(radius=0.2, adversarial=1.0, steps=1, starts='last', bounds=(-5, 5))"


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_starts_are_the_ends_of_the_same_inputs_to_a_256th_of_each_move() -> None:
    points = torch.rand(10, 3, generator=seeded(), dtype=torch.float64)
    starts = Starts(["one", "other"], points)
    assert starts.at(torch.arange(10))["one"].isnan().all()
    rows = torch.tensor([7, 2, 4])
    ends = points[rows] + 0.3 * torch.randn(3, 3, generator=seeded(), dtype=torch.float64)
    starts.keep(rows, {"one": ends, "none": ends})
    again = starts.at(torch.tensor([2, 4, 5]))
    moves = ends[1:] - points[[2, 4]]
    torch.testing.assert_close(again["one"][:2] - points[[2, 4]], moves, rtol=1 / 256, atol=1e-9)
    assert again["one"][2].isnan().all()
    assert again["other"].isnan().all()
    copy = Starts(["one", "other"], points)
    copy.restore(starts.tensors())
    for name, tensor in copy.tensors().items():
        torch.testing.assert_close(tensor, starts.tensors()[name], equal_nan=True, rtol=0, atol=0)


def test_train_hands_each_input_the_end_of_its_own_search(
    toy: Any, make: Callable[[], nn.Module]
) -> None:
    visits: dict[tuple[float, ...], list[Tensor]] = {}

    def loss(
        model: nn.Module,
        points: Tensor,
        labels: Tensor,
        *,
        starts: Any = "last",
        watch: Callable[[Diagnostics], None],
    ) -> Tensor:
        def see(report: Diagnostics) -> None:
            for point, start, end in zip(points, starts, report.ends["search"], strict=True):
                key = tuple(point.tolist())
                if key in visits:
                    torch.testing.assert_close(start, visits[key][-1], rtol=0, atol=1e-3)
                else:
                    assert start.isnan().all()
                visits.setdefault(key, []).append(end)
            watch(report)

        return adversarial(
            model, points, labels, radius=0.1, steps=1, starts=starts, bounds=(-5.0, 5.0), watch=see
        )

    objective = Objective(Term(loss, {"starts": "last"}))
    train(make(), toy, loss=objective, epochs=3, batch_size=16, generator=seeded())
    assert len(visits) == len(toy.points)
    assert {len(ends) for ends in visits.values()} == {3}


def test_a_resumed_run_goes_on_from_the_same_starts(
    toy: Any, make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    options = {"loss": build_loss(LOSS), "epochs": 4, "batch_size": 16}
    whole, broken = make(), make()
    train(whole, toy, out=tmp_path / "a", generator=seeded(), **options)
    saved = Checkpoint.read(tmp_path / "a" / "checkpoint.safetensors").tensors
    moves = saved["starts.robust_distance"]
    assert (moves.shape, moves.dtype) == (toy.points.shape, torch.bfloat16)
    assert float(moves.abs().max()) <= 0.2 * 257 / 256

    class StopError(Exception):
        pass

    def progress(done: int, total: int) -> None:
        if done == 10:
            raise StopError

    with pytest.raises(StopError):
        train(broken, toy, out=tmp_path / "b", generator=seeded(), progress=progress, **options)
    resumed = make()
    train(resumed, toy, out=tmp_path / "b", resume=True, **options)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
