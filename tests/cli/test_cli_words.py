"""Wrong words are refused with 2, before anything slow is imported, and what was meant is named."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from levelset.boundary import Effort
from levelset.cli import main
from levelset.cli._audit import AuditCommand
from levelset.cli._commands import COMMANDS, command_class
from levelset.cli._reconstruct import ReconstructCommand
from levelset.cli._train import TrainCommand
from levelset.cli._words import UsageError, check_name, check_words, closest
from levelset.training import build_schedule
from levelset.training._loop import Optimizer

AUDIT = ["--model", "digits", "--data", "digits", "--out", "run"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("audti", "there is no command audti. Did you mean audit?"),
        ("--versio", "there is no option --versio. Did you mean --version?"),
        ("audit --mdel digits", "audit has no option --mdel. Did you mean --model?"),
        ("audit --model digits extra", "'extra' belongs to no option"),
        ("audit --measure distnce", "'distnce'. Did you mean distance?"),
        ("audit --measure persistance", "'persistance'. Did you mean persistence?"),
        ("audit --effort quik", "'quik'. Did you mean quick?"),
        ("audit --effort fast", "--effort must be one of quick, standard, thorough, got 'fast'."),
        ("audit --norms", "--norms needs a value, one or several of 2, inf."),
        ("audit --norms=", "--norms must be among 2, inf, got ''."),
        ("audit --norms 3", "--norms must be among 2, inf, got '3'."),
        ("audit --measure --out x", "--measure needs a value"),
        ("audit --limit x", "--limit must be a whole number, got 'x'."),
        ("audit --limit 2.5", "--limit must be a whole number, got '2.5'."),
        ("audit --limit 0", "--limit must be at least 1, got 0."),
        ("audit --limit -3", "--limit must be at least 1, got -3."),
        ("audit --batch-size 0", "--batch-size must be at least 1, got 0."),
        ("audit --threads -1", "--threads must be at least 1, got -1."),
        ("audit --resume yes", "audit: 'yes' belongs to no option."),
        ("audit --resume=yes", "--resume takes no value, got 'yes'."),
        ("audit --mean x", "--mean must be a number, got 'x'."),
        ("train --schedule cosin", "Did you mean cosine?"),
        ("train --learning-rate nan", "--learning-rate must be a number, got 'nan'."),
        ("attack --method deepfol", "'deepfol'. Did you mean deepfool?"),
        ("attack --norm 7", "--norm must be one of 0, 1, 2, inf, got '7'."),
        ("reconstruct scan.ply --metod fast", "no option --metod. Did you mean --method?"),
        ("reconstruct scan.ply --resolution 0", "--resolution must be at least 1"),
    ],
)
def test_wrong_words_exit_with_two_and_name_what_was_meant(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("levelset: ")
    assert said in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "audit --model digitz --data digits",
            "--model: there is no 'digitz'. Did you mean digits",
        ),
        ("audit --model digits --data digit", "--data: there is no 'digit'. Did you mean digits?"),
        ("train --data digits --network lenett", "'lenett'. Did you mean lenet?"),
        ("train --data digits --network lenet --loss foo", "Known are adversarial, cross_entropy"),
        ("train --data digits --network lenet --loss trade(radius=1)", "Did you mean trades?"),
        ("train --data digits --network fcc(3,2)", "'fcc(3,2)'. Did you mean fc?"),
    ],
)
def test_names_nearly_right_are_pointed_out(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*words.split(), "--out", str(tmp_path / "run")])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_other_ways_to_write_a_choice_are_understood() -> None:
    words = [*AUDIT, "--norms", "Linf", "l2", "--measure", "Distance", "--effort=QUICK"]
    assert check_words("audit", AuditCommand, words)[6:] == [
        "--norms", "inf", "2", "--measure", "distance", "--effort", "quick",
    ]  # fmt: skip
    kind = command_class("attack")
    assert check_words("attack", kind, ["--method", "direct-boundary", "--norm", "L_inf"]) == [
        "--method", "direct_boundary", "--norm", "inf",
    ]  # fmt: skip


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert check_words("audit", AuditCommand, ["--out=~/x"]) == ["--out", "/somewhere/x"]
    assert check_words("audit", AuditCommand, ["--data", "~/d"]) == ["--data", "/somewhere/d"]
    address = ["--out", "s3://bucket/~/x"]
    assert check_words("audit", AuditCommand, address) == address
    words = ["~/a.ply", "b.ply", "-o", "~/m.ply"]
    assert check_words("reconstruct", ReconstructCommand, words) == [
        "/somewhere/a.ply", "b.ply", "--out", "/somewhere/m.ply",
    ]  # fmt: skip


def test_words_without_a_flag_may_stand_anywhere() -> None:
    words = ["a.ply", "--open", "-o", "out", "b.ply", "--seconds", "3", "c.ply"]
    assert check_words("reconstruct", ReconstructCommand, words) == [
        "a.ply", "--open", "--out", "out", "b.ply", "--seconds", "3", "c.ply",
    ]  # fmt: skip


def test_negative_numbers_are_values() -> None:
    words = ["--mean", "-0.5", "-1", "--std", "1"]
    assert check_words("audit", AuditCommand, words) == words


def test_paths_and_callables_are_no_names() -> None:
    for spec in ("folder/digitz", "digitz.pt2", "module:callable", "fc(3, 2)", "convnet-4a"):
        check_name("--model", spec, ["digits", "fc", "convnet_4a"])
    with pytest.raises(UsageError, match=r"--model: there is no 'digitz'"):
        check_name("--model", "digitz", ["digits"])


def test_nothing_is_suggested_for_what_is_far_from_all() -> None:
    assert closest("zebra", ["audit", "train"]) == ""


def test_choices_are_those_of_the_library() -> None:
    assert get_type_hints(AuditCommand)["effort"] == Effort
    (optimizer, _) = get_args(get_type_hints(TrainCommand)["optimizer"])
    assert get_args(optimizer) == get_args(Optimizer)
    schedule = next(one for one in fields(TrainCommand) if one.name == "schedule")
    for name in schedule.metadata["names"]:
        build_schedule(name if name.startswith("co") else f"{name}({{0: 1}})")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_count_is_checked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    hints = get_type_hints(command_class(name))
    for field in ("limit", "epochs", "steps", "restarts", "resolution", "threads", "batch_size"):
        if field not in hints:
            continue
        with pytest.raises(SystemExit):
            main([name, f"--{field.replace('_', '-')}", "0"])
        assert "must be at least 1, got 0" in capsys.readouterr().err


def test_without_words_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "audit" in capsys.readouterr().err
    assert sys.modules["levelset.cli"]
