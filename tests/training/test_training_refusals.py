"""What a training refuses, in words that say what to do, and without leaving a run behind."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levelset.cli import main
from levelset.errors import FieldError, LevelSetError, LevelSetWarning, ParameterError, RunError
from levelset.networks import fc
from levelset.training import build_loss, build_schedule, recipe, train


class Detached(nn.Module):
    """Answers that do not follow the points."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = fc(2, 3)

    def forward(self, points: Tensor) -> Tensor:
        return self.inner(points.detach())


class Transformed(nn.Module):
    """A layer whose bounds nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = fc(2, 3)

    def forward(self, points: Tensor) -> Tensor:
        return torch.fft.fft(self.inner(points)).real


def boxed(toy: Any) -> Any:
    return type(toy)(toy.points.sigmoid(), toy.labels)


@pytest.mark.parametrize(
    ("model", "spec", "error", "message"),
    [
        (fc(2, 3), "robust_distance(radius=0)", ParameterError, "`radius` must be positive, got 0"),
        (fc(2, 3), "trades(radius=0.0)", ParameterError, "`radius` must be positive, got 0"),
        (
            fc(2, 3),
            "robust_distance(radius=ramp({0: 0, 2: 0}))",
            ParameterError,
            "`radius` must be positive, got 0",
        ),
        (fc(2, 3), "steps({0: 0}) * hinge", ParameterError, "the weight of every term is 0"),
        (
            Detached(),
            "robust_distance(radius=0.1)",
            FieldError,
            "robust_distance: .*`model` .*gradient",
        ),
        (Detached(), "geometric_svm", FieldError, "geometric_svm: .*`model` .*gradient"),
        (Detached(), "large_margin(radius=0.1)", FieldError, "large_margin: .*`model` .*gradient"),
        (Detached(), "adversarial(radius=0.1)", FieldError, "adversarial: .*`model` .*gradient"),
        (Detached(), "curvature", FieldError, "curvature: .*`model` .*gradient"),
        (
            Detached(),
            "direct_margin(radius=0.1)",
            FieldError,
            "direct_margin: .*`model` .*gradient",
        ),
        (Detached(), "trades(radius=0.1)", FieldError, "trades: .*`model` .*gradient"),
        (Transformed(), "interval_bound(radius=0.1)", FieldError, "interval_bound: .*fft"),
    ],
)
def test_what_the_first_step_refuses_leaves_no_run(
    toy: Any, tmp_path: Path, model: nn.Module, spec: str, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        train(model, boxed(toy), loss=build_loss(spec), epochs=2, out=tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()
    train(fc(2, 3), boxed(toy), epochs=1, out=tmp_path)


def test_a_class_without_examples_is_named(toy: Any) -> None:
    rows = toy.labels != 1
    some = type(toy)(toy.points[rows], toy.labels[rows])
    with pytest.warns(LevelSetWarning, match=r"1 of the model's 3 classes have no example .*\(1\)"):
        train(fc(2, 3), some, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(fc(2, 3), toy, epochs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": build_loss("hinge(margin=2)")}, "`loss` was 'hinge' and is now 'hinge.margin=2"),
        (
            {"loss": build_loss("ramp({0: 1, 2: 2}) * hinge")},
            r"`loss` was .* now 'ramp\({0: 1, 2: 2}",
        ),
        (
            {"schedule": build_schedule("steps({1: 0.5})")},
            "`schedule` was 'cosine' and is now 'steps",
        ),
        ({"optimizer": "nesterov"}, "`optimizer` was 'adamw' and is now 'nesterov'"),
        ({"clip_norm": 1.0}, "`clip_norm` was None and is now 1.0"),
        ({"precision": "bfloat16"}, "`precision` was 'full' and is now 'bfloat16'"),
        ({"statistics": "batch"}, "`statistics` was 'running' and is now 'batch'"),
        (
            recipe("mnist-madry").options(),
            "`optimizer` was 'adamw' .*`loss` was 'hinge' and is now 'a",
        ),
    ],
)
def test_another_training_is_not_resumed_and_what_differs_is_named(
    toy: Any, tmp_path: Path, change: Any, message: str
) -> None:
    options: Any = {"loss": build_loss("hinge"), "epochs": 2, "batch_size": 25}
    train(fc(2, 3), boxed(toy), out=tmp_path, **options)
    with pytest.raises(RunError, match=message):
        train(fc(2, 3), boxed(toy), out=tmp_path, resume=True, **(options | change))


def test_weights_that_blow_up_are_found_in_the_step_after(toy: Any, tmp_path: Path) -> None:
    options: Any = {"learning_rate": 1e38, "weight_decay": 0.0, "optimizer": "sgd"}
    with pytest.raises(
        LevelSetError, match=r"became .* in epoch 1 .*The last good checkpoint, before"
    ):
        train(
            fc(2, 3), toy, epochs=3, batch_size=5, schedule="constant", out=tmp_path,
            loss=build_loss("1000.0 * robust_distance(radius=0.3, bounds=(-9, 9)) + hinge"),
            **options,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--recipe mnist-madry --loss hinge",
            "--recipe and --loss contradict each other: mnist-madry",
        ),
        ("--recipe mnist-madri", "Did you mean mnist-madry?"),
        ("--loss hinge", "--network is needed, or a --recipe, which has one."),
        ("--network digits --loss hingee", "Did you mean hinge?"),
    ],
)
def test_words_that_contradict_each_other(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--data", "digits", "--out", str(tmp_path / "run"), *words.split()])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_list_of_recipes_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "list"]) == 0
    printed = capsys.readouterr().out
    assert "mnist-madry\n" in printed
    assert "--loss 'adversarial(radius=0.3, steps=40, step_size=0.01)'" in printed
