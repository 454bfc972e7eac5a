"""Audits: rows that agree with the parts they are made of, on disk as in memory."""

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from levelset import Classifier, audit
from levelset.auditing._measures import MEASURES
from levelset.auditing._measures._persistence import ADVERSARIAL, PERSISTENCE
from levelset.boundary import ATTACKS, distance
from levelset.errors import DataError, FieldError, ParameterError, RunError, ShapeError
from levelset.networks import fc


@pytest.fixture
def model() -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    network = fc(6, 12, 3).eval()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture
def points() -> Tensor:
    return torch.rand(23, 6, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def labels(model: nn.Module, points: Tensor) -> Tensor:
    right = model(points).argmax(1)
    return torch.where(torch.arange(len(points)) % 7 == 0, (right + 1) % 3, right)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * 5)


def rows(folder: Path) -> dict[str, list[object]]:
    return pq.read_table(folder / "measurements").to_pydict()


def test_rows_agree_with_the_measurements(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    found = audit(model, points, labels, effort="quick", out=tmp_path / "run")
    table = rows(tmp_path / "run")
    assert list(table)[:4] == ["index", "label", "prediction", "correct"]
    assert table["index"] == list(range(23))
    assert table["label"] == labels.tolist()
    assert table["prediction"] == model(points).argmax(1).tolist()
    for norm, name in ((2.0, "2"), (math.inf, "inf")):
        alone = distance(model, points, labels, norm=norm, effort="quick")
        torch.testing.assert_close(found.distance(norm), alone.distance)
        assert table[f"distance_{name}"] == found.distance(norm).tolist()
        assert table[f"nearest_class_{name}"] == found.nearest_class(norm).tolist()
        assert set(table[f"attack_{name}"]) <= {None, *ATTACKS}
        assert table[f"attack_{name}"].count(None) == int(
            (found.columns[f"attack_{name}"] < 0).sum()
        )
        held = found.distance(norm).isfinite()
        assert (model(found.witnesses[norm][held]).argmax(1) != labels[held]).all()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == json.loads(json.dumps(found.summary()))
    assert summary["points"] == 23
    assert summary["correct"] == 19


def test_in_memory_is_the_same(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    kept = audit(model, points, labels, effort="quick", out=tmp_path / "run")
    free = audit(model, points, labels, effort="quick")
    for name, column in kept.columns.items():
        assert torch.equal(column, free.columns[name]), name


@pytest.mark.parametrize("stopped_at", [1, 3, 4])
def test_a_stopped_run_resumes_to_the_same_rows(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path, stopped_at: int
) -> None:
    whole = audit(model, points, labels, effort="quick", out=tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if len(list((tmp_path / "run" / "measurements").iterdir())) == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(model, points, labels, effort="quick", out=tmp_path / "run", progress=stop)
    assert not (tmp_path / "run" / "summary.json").exists()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "measurements").iterdir()}
    assert len(before) == stopped_at
    again = audit(model, points, labels, effort="quick", out=tmp_path / "run", resume=True)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    for norm in whole.norms:
        assert torch.equal(again.witnesses[norm], whole.witnesses[norm])
    assert all(p.stat().st_mtime_ns == t for p, t in before.items()), "finished parts are kept"
    for name in ("summary.json", "manifest.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def respelt(table: pa.Table) -> dict[str, Callable[[], pa.Table]]:
    """Return ways to change a table of measurements."""
    names, distances = table.column_names, table["distance_2"]
    attack = names.index("attack_2")
    return {
        "renamed": lambda: table.rename_columns(["number", *names[1:]]),
        "missing": lambda: table.drop_columns(["margin"]),
        "reordered": lambda: table.select([*names[1:], names[0]]),
        "retyped": lambda: table.set_column(5, "distance_2", distances.cast("float64")),
        "to text": lambda: table.set_column(5, "distance_2", distances.cast("string")),
        "rows changed": lambda: table.set_column(5, "distance_2", distances.take([1, 0, 2, 3, 4])),
        "rows lost": lambda: table.slice(1),
        "rows swapped": lambda: table.take([1, 0, 2, 3, 4]),
        "added": lambda: table.append_column("more", distances),
        "no seal": lambda: table.replace_schema_metadata({}),
        "unknown attack": lambda: table.set_column(attack, "attack_2", [["magic"] * len(table)]),
    }


def damaged(run: Path, damage: str) -> None:
    """Do to a finished run what a disk, a script or a colleague may do."""
    part = run / "measurements" / "part-00001.parquet"
    pictures = run / "witnesses" / "part-00001.safetensors"
    table = pq.ParquetFile(part).read()
    changes = respelt(table)
    if damage in changes:
        kept = {} if damage == "no seal" else table.schema.metadata
        pq.write_table(changes[damage]().replace_schema_metadata(kept), part)
    elif damage == "witness moved":
        tensors = load_file(pictures)
        tensors["witness_2"][0] += 1e-3
        save_file(tensors, pictures)
    else:
        other = part.with_name("part-00000.parquet").read_bytes()
        others = pictures.with_name("part-00000.safetensors").read_bytes()
        {
            "truncated": lambda: part.write_bytes(part.read_bytes()[:100]),
            "empty": lambda: part.write_bytes(b""),
            "another part": lambda: part.write_bytes(other),
            "no witnesses": pictures.unlink,
            "other witnesses": lambda: pictures.write_bytes(others),
            "no tables": lambda: shutil.rmtree(run / "measurements"),
            "no witnesses at all": lambda: shutil.rmtree(run / "witnesses"),
            "leftover": lambda: (run / "measurements" / ".x.parquet.1.part").write_bytes(b"half"),
        }[damage]()


@pytest.mark.parametrize(
    "damage",
    [
        "truncated", "empty", "another part", "no witnesses", "other witnesses", "witness moved",
        "no tables", "no witnesses at all", "leftover", "renamed", "missing", "reordered",
        "retyped", "to text", "rows changed", "rows lost", "rows swapped", "added", "no seal",
        "unknown attack",
    ],
)  # fmt: skip
def test_what_is_not_whole_is_measured_again(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path, damage: str
) -> None:
    run = tmp_path / "run"
    audit(model, points[:10], labels[:10], effort="quick", norms=[2.0], out=run)
    before = {p: p.read_bytes() for p in sorted(run.rglob("*.*")) if p.is_file()}
    damaged(run, damage)
    audit(model, points[:10], labels[:10], effort="quick", norms=[2.0], out=run, resume=True)
    assert {p: p.read_bytes() for p in sorted(run.rglob("*.*")) if p.is_file()} == before
    assert not list(run.rglob(".*.part"))


def test_parts_of_another_run_are_measured_again(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    points, labels = points[:10], labels[:10]
    audit(model, points, labels, effort="quick", norms=[2.0], out=run)
    audit(model, points, labels, effort="quick", norms=[math.inf], out=other)
    before = rows(run)
    for folder in ("measurements", "witnesses"):
        for path in (other / folder).iterdir():
            (run / folder / path.name).write_bytes(path.read_bytes())
    assert rows(run) != before
    audit(model, points, labels, effort="quick", norms=[2.0], out=run, resume=True)
    assert rows(run) == before


def test_a_file_that_is_no_part_is_named(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    audit(model, points, labels, effort="quick", out=run)
    stray = run / "measurements" / "part-00005.parquet"
    stray.write_bytes((run / "measurements" / "part-00000.parquet").read_bytes())
    with pytest.raises(RunError, match=r"part-00005.parquet is no part of this run, which has 5"):
        audit(model, points, labels, effort="quick", out=run, resume=True)
    stray.unlink()
    audit(model, points, labels, effort="quick", out=run, resume=True)


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"options": null}', '{"options": []}', '"x"', "7", "[" * 100_000]
)
def test_a_manifest_that_is_none_is_named(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path, text: str
) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunError, match=r"audit: (cannot read )?.*manifest.json"):
        audit(model, points, labels, effort="quick", out=tmp_path, resume=True)


class Exact(nn.Module):
    """Rows of numbers that are sums of few terms: no bit depends on how they are batched."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = nn.Parameter(torch.randn(3, 6, generator=generator, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        total = points[..., :1] * self.weight[:, 0]
        for k in range(1, 6):
            total = total + points[..., k : k + 1] * self.weight[:, k]
        return total


def test_rows_do_not_depend_on_the_size_of_parts(
    points: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = points[:12].double()
    found = []
    for size in (4, 5, 12):
        monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * size)
        model, out = Exact(), tmp_path / str(size)
        found.append(
            audit(
                model, points, model(points).argmax(1), measures=("distance", "persistence"),
                effort="quick", out=out,
            )
        )  # fmt: skip
        assert len(list((out / "measurements").iterdir())) == {4: 3, 5: 3, 12: 1}[size]
    for other in found[1:]:
        for name, column in found[0].columns.items():
            assert torch.equal(other.columns[name].nan_to_num(-1), column.nan_to_num(-1)), name
        for norm in other.norms:
            assert torch.equal(other.witnesses[norm], found[0].witnesses[norm])


def test_progress_moves_within_a_part_and_ends_at_the_whole(
    model: nn.Module, points: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * 100)
    seen: list[tuple[int, int]] = []
    audit(
        model, points, labels, measures=("distance", "persistence", "curvature"),
        effort="quick", progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[0] == (0, 23)
    assert seen[-1] == (23, 23)
    assert {total for _, total in seen} == {23}
    done = [done for done, _ in seen]
    assert done == sorted(set(done))
    assert len(done) >= 5  # at least once within each of three measures


def test_a_run_is_not_overwritten_and_not_mixed(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    audit(model, points, labels, effort="quick", out=run)
    with pytest.raises(RunError, match=r"already holds an audit. Give `resume=True`"):
        audit(model, points, labels, effort="quick", out=run)
    with pytest.raises(RunError, match=r"another run: effort was quick, is standard"):
        audit(model, points, labels, out=run, resume=True)
    with pytest.raises(RunError, match=r"another run: seed was 0, is 1"):
        audit(model, points, labels, effort="quick", seed=1, out=run, resume=True)
    with pytest.raises(RunError, match=r"another run: data was"):
        audit(model, points.flip(0), labels, effort="quick", out=run, resume=True)
    next(model.parameters()).data[0, 0] += 1e-3
    with pytest.raises(RunError, match=r"another run: model was"):
        audit(model, points, labels, effort="quick", out=run, resume=True)
    (run / "manifest.json").write_text("{")
    with pytest.raises(RunError, match=r"cannot read .*manifest.json"):
        audit(model, points, labels, effort="quick", out=run, resume=True)


def test_a_folder_that_cannot_be_written(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot create the folder .*Choose another `out`"):
        audit(model, points, labels, out=tmp_path / "file" / "run")


def test_a_full_disk_leaves_only_whole_parts(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    audit(model, points, labels, effort="quick", out=whole)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(".part-00002.parquet"):
            write(path, b"half a table")
            raise OSError(28, os.strerror(28))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"No space left on device.*free space or choose another"):
        audit(model, points, labels, effort="quick", out=run)
    monkeypatch.undo()
    assert sorted(p.name for p in (run / "measurements").iterdir()) == [
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * 5)
    audit(model, points, labels, effort="quick", out=run, resume=True)
    assert rows(run) == rows(whole)


@pytest.mark.messages
def test_bad_inputs(model: nn.Module, points: Tensor, labels: Tensor) -> None:
    spoilt = points.clone()
    spoilt[4, 2] = math.nan
    spoilt[9, 0] = math.inf
    with pytest.raises(
        DataError, match=r"must be finite, got NaN or infinity in 2 of 23 rows \(first: 4, 9\)"
    ):
        audit(model, spoilt, labels)
    with pytest.raises(
        ParameterError, match=r"within the bounds 0 to 1, got values from .* to 1.5"
    ):
        audit(model, points.where(points < 0.9, torch.tensor(1.5)), labels)
    with pytest.raises(ParameterError, match=r"`labels` must lie in 0 to 2, got 3"):
        audit(model, points, labels.where(torch.arange(23) != 2, torch.tensor(3)))
    with pytest.raises(ShapeError, match=r"`labels` must be integers, got torch.float32"):
        audit(model, points, labels.float())
    with pytest.raises(DataError, match=r"empty data set"):
        audit(model, points[:0], labels[:0])
    with pytest.raises(ParameterError, match=r"`measures` must be among distance"):
        audit(model, points, labels, measures=("beauty",))
    with pytest.raises(ParameterError, match="`norms` must name one at least"):
        audit(model, points, labels, norms=())
    with pytest.raises(ParameterError, match=r"`engine` must be one of local"):
        audit(model, points, labels, engine="abacus")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"`classes` must name all 3 logits, got 2 names"):
        audit(model, points, labels, classes=("a", "b"))


class Coupled(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model(points - points.mean(0))


class Wrong(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, points: Tensor) -> Tensor:
        return self.logits + 0 * points.sum()


def test_bad_models(model: nn.Module, points: Tensor, labels: Tensor) -> None:
    with pytest.raises(FieldError, match=r"`model` must map each row on its own"):
        audit(Coupled(model), points, labels)
    with pytest.raises(FieldError, match=r"must map points \(3, 6\) to \(3, k\), got \(2, 3\)"):
        audit(Wrong(torch.zeros(2, 3)), points, labels)
    with pytest.raises(FieldError, match=r"finite logits, got NaN or infinity for 23 of 23"):
        audit(lambda x: model(x) * math.nan, points, labels)


def test_classes_and_bounds_of_a_classifier(
    model: nn.Module, points: Tensor, labels: Tensor
) -> None:
    classifier = Classifier(model, bounds=(-1.0, 2.0), classes=("cat", "dog", "owl"))
    found = audit(classifier, points, labels, norms=(2.0,), effort="quick", name="pets")
    assert found.classes == ("cat", "dog", "owl")
    assert found.bounds == (-1.0, 2.0)
    assert repr(found).startswith("Audit(name='pets', points=(23, ")


def test_persistence_joins_the_rows_and_survives_a_resume(
    model: nn.Module, points: Tensor, labels: Tensor, tmp_path: Path
) -> None:
    measures = ("distance", "persistence")
    found = audit(model, points, labels, measures=measures, effort="quick", out=tmp_path / "run")
    table = rows(tmp_path / "run")
    names = ["sigma_star", "sigma_low", "sigma_high", "certified_radius", "certified_sigma"]
    assert set(names) <= set(table)
    for name in names:
        torch.testing.assert_close(torch.tensor(table[name]), found.columns[name], equal_nan=True)
    low, sigma, high = (found.columns[f"sigma_{end}"] for end in ("low", "star", "high"))
    assert ((low <= sigma) & (sigma <= high)).all()
    assert found.summary()["sigma_star_found"] == int((sigma.isfinite() & (sigma > 0)).sum())
    # Every row is the estimate for its own input: the noise at which 70 % keep the prediction.
    solved = sigma.isfinite().nonzero().flatten()[:6]
    generator = torch.Generator().manual_seed(0)
    for row in solved.tolist():
        noise = torch.randn(4000, 6, generator=generator)
        kept = model(points[row] + sigma[row] * noise).argmax(1) == model(points[[row]]).argmax(1)
        assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.06)
    sorted((tmp_path / "run" / "measurements").iterdir())[-1].unlink()
    again = audit(
        model, points, labels, measures=measures, effort="quick", out=tmp_path / "run", resume=True
    )
    assert torch.equal(again.columns["sigma_star"], sigma)


def test_persistence_alone_has_no_norms(model: nn.Module, points: Tensor, labels: Tensor) -> None:
    found = audit(model, points, labels, measures=("persistence",))
    assert found.norms == ()
    assert found.witnesses == {}
    assert "distance_2_median" not in found.summary()
    assert "sigma_star" in found.columns


def test_persistence_of_adversarial_inputs_stands_beside_that_of_the_first(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = replace(PERSISTENCE, further=(replace(ADVERSARIAL, limit=8),))
    monkeypatch.setitem(MEASURES, "persistence", few)
    both = {"measures": ("persistence", "distance"), "effort": "quick"}
    found = audit(model, points, labels, **both, out=tmp_path)  # type: ignore[arg-type]
    sigma, right = found.columns["sigma_star_adversarial"], found.columns["correct"]
    assert not (~sigma.isnan() & (~right | (torch.arange(23) >= 8))).any()
    far = points.lerp(found.witnesses[2.0], 1.5).clamp(0.0, 1.0)
    crossed = right & (model(far).argmax(1) != labels) & (torch.arange(23) < 8)
    assert int(crossed.sum()) >= 3
    assert torch.equal(~sigma.isnan(), crossed)
    generator = torch.Generator().manual_seed(0)
    for row in (crossed & sigma.isfinite()).nonzero().flatten()[:3].tolist():
        noise = torch.randn(4000, 6, generator=generator)
        kept = model(far[row] + sigma[row] * noise).argmax(1) == model(far[[row]]).argmax(1)
        assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.06)
    options = json.loads((tmp_path / "manifest.json").read_text())["options"]
    assert options["adversarial"] == 8
    one = audit(model, points, labels, measures=("persistence",))
    assert "sigma_star_adversarial" not in one.columns


def test_classes_known_by_number_alone_are_as_many_as_the_logits(
    model: nn.Module, points: Tensor, labels: Tensor
) -> None:
    assert audit(Classifier(model, classes=("0", "1")), points, labels, norms=[2.0]).classes == (
        "0",
        "1",
        "2",
    )
