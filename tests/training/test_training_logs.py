"""Logs: a CSV file and TensorBoard's event files, whole and without repetition after a resume."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from levelset.errors import MissingExtraError, NotConvergedError, ParameterError
from levelset.losses import hinge
from levelset.networks import fc
from levelset.training import Health, History, Objective, build_loss, train

SPEC = "hinge + ramp({0: 0.5, 2: 1.0}) * robust_distance(radius=0.2, bounds=(-9, 9))"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(toy: Any, out: Path, **options: Any) -> History:
    settings: Any = {"epochs": 3, "batch_size": 25, "generator": seeded()} | options
    return train(fc(2, 8, 3), toy, loss=build_loss(SPEC), out=out, **settings)


def stop_at(step: int) -> Callable[[int, int], None]:
    def hook(done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return hook


def test_the_csv_has_a_row_an_epoch_equal_to_the_history(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(toy, tmp_path, progress=stop_at(4))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 1
    history = trained(toy, tmp_path, resume=True)
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    columns = history.columns()
    assert set(rows[0]) == {"epoch", *columns}
    for name, column in columns.items():
        assert [None if row[name] == "" else float(row[name]) for row in rows] == column
    assert columns["held_out"] == [None] * 3
    terms = ("hinge", "robust_distance.samples", "robust_distance: weight of the term")
    assert list(history.names) == [*terms]
    total = history.details[:, 0] + history.details[:, 1]
    torch.testing.assert_close(total, history.loss, rtol=1e-6, atol=0)
    assert columns["robust_distance: weight of the term"] == pytest.approx([0.6875, 0.9375, 1.0])
    assert all(0 <= share <= 1 for share in columns["converged"])
    assert all(length > 0 for length in columns["distance"])


def test_the_health_is_told_after_each_step(toy: Any, tmp_path: Path) -> None:
    seen: list[Health] = []
    history = trained(toy, tmp_path, watch=seen.append)
    assert [(h.step, h.steps, h.epoch) for h in seen] == [(k + 1, 6, k // 2 + 1) for k in range(6)]
    assert [h.loss for h in seen[1::2]] == history.loss.tolist()
    assert [h.converged for h in seen[1::2]] == history.converged.tolist()
    plain: list[Health] = []
    train(fc(2, 3), toy, epochs=1, watch=plain.append)
    assert plain[0].converged != plain[0].converged
    assert plain[0].distance != plain[0].distance


def test_without_tensorboard_the_remedy_is_named(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'levelset\[tensorboard\]'"):
        trained(toy, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_tensorboard_needs_a_folder(toy: Any) -> None:
    with pytest.raises(ParameterError, match="`tensorboard` needs the folder of the run"):
        train(fc(2, 3), toy, epochs=1, tensorboard=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_event_files_hold_every_epoch_once(toy: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(KeyboardInterrupt):
        trained(toy, tmp_path, progress=stop_at(5), tensorboard=True)
    history = trained(toy, tmp_path, resume=True, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    wanted = {"loss", "hinge", "robust_distance/samples", "robust_distance/weight of the term"}
    assert wanted <= tags
    assert "held_out" not in tags
    for tag, column in (("loss", history.loss), ("converged", history.converged)):
        scalars = events.Scalars(tag)
        assert [one.step for one in scalars] == [1, 2, 3]
        assert [one.value for one in scalars] == pytest.approx(column.tolist())


def test_terms_that_break_are_named(toy: Any, tmp_path: Path) -> None:
    def root(model: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (model(points) * 0).sum().sqrt()  # 0, with an infinite slope

    root.__qualname__ = "root"
    with pytest.raises(
        NotConvergedError, match=r"gradient of the term `root` became NaN .*epoch 1"
    ):
        train(fc(2, 3), toy, loss=Objective(hinge, root), epochs=1, out=tmp_path)
