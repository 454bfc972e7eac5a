"""Pieces on a Ray cluster: the same results even if workers die; what is refused up front."""

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from levelset import audit
from levelset._tools.engines import _ray
from levelset._tools.engines._parcels import packed, unpacked
from levelset._tools.engines._ray import Worker, build
from levelset.boundary import persistence
from levelset.cli import main
from levelset.datasets import load_model
from levelset.errors import LevelSetWarning, MissingExtraError, ParameterError, RunError
from levelset.kernels import PathKernel, explain
from levelset.networks import fc
from levelset.training import record

POINTS = torch.rand(16, 6, generator=torch.Generator().manual_seed(2))
LABELS = torch.arange(16) % 3


class Net(nn.Module):
    """A classifier, with something in it that may not be sendable."""

    def __init__(self, extra: Any = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.net, self.extra = fc(6, 12, 3), extra
        for parameter in self.net.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.net(points)


def measured(**options: Any) -> dict[str, torch.Tensor]:
    """Audit 16 points in four parts."""
    settings = {"measures": ("distance", "persistence"), "norms": [2.0], "effort": "quick"}
    result = audit(Net(), POINTS, LABELS, **(settings | options))
    return {**result.columns, "witnesses": result.witnesses[2.0]}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * 4)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: `pip install '.[ray]'`")
    # Workers of Ray are nice to others, who leave them nothing on a busy machine.
    os.environ |= {"RAY_worker_niceness": "0"}
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")
def test_rows_are_those_of_one_process_to_the_bit(ray: Any) -> None:
    """Also where a worker is killed in the middle, and with more workers than processors."""
    alone = measured(workers=1)
    with pytest.warns(LevelSetWarning, match="audit: `workers` is 9, but the work has only 4"):
        crowd = measured(engine="ray", workers=9)
    killed = threading.Thread(target=kill_a_worker)
    killed.start()
    pair = measured(engine="ray", workers=2)
    killed.join()
    for other in (crowd, pair):
        assert other.keys() == alone.keys()
        for name, values in alone.items():
            torch.testing.assert_close(other[name], values, rtol=0, atol=0, equal_nan=True)
    # The same cluster, another build of the package here than there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ray, "build", lambda: build() | {"levelset": "9.9"})
        with pytest.raises(RunError, match=r"has levelset .* this machine 9.9 .* Install the same"):
            measured(engine="ray", workers=1)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"
)
@pytest.mark.parametrize("kind", ["TorchScript", "exported"])
def test_programs_are_measured_on_a_cluster(ray: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("model.pt" if kind == "TorchScript" else "model.pt2")
    if kind == "TorchScript":
        torch.jit.trace(Net(), POINTS).save(path)
    else:
        rows = {"points": {0: torch.export.Dim.AUTO}}
        torch.export.save(torch.export.export(Net(), (POINTS,), dynamic_shapes=rows), path)
    model = load_model(path)

    def sigma(**place: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return persistence(model, POINTS, tolerance=0.1, generator=generator, **place).sigma

    assert torch.equal(sigma(engine="ray", workers=2), sigma(workers=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")
def test_explanations_and_scans_are_the_same_on_a_cluster(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, points, labels = Net().double(), POINTS.double(), LABELS
    recording = record(net, points, labels, steps=5, learning_rate=0.1, folder=tmp_path / "path")
    kernel = PathKernel(recording, points, labels)
    monkeypatch.setattr("levelset.kernels._explain._PIECE", 6)
    alone = explain(kernel, points, workers=1)
    there = explain(kernel, points, engine="ray", workers=2)
    for name, values in vars(alone).items():
        assert torch.equal(values, getattr(there, name)), name
    for seed in range(2):
        ball = torch.randn(150, 3, generator=torch.Generator().manual_seed(seed)).double()
        path = tmp_path / "scans" / f"{seed}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, torch.nn.functional.normalize(ball, dim=1).numpy())
    for engine in ("local", "ray"):
        words = ["--resolution", "16", "--workers", "1", "--engine", engine]
        out = str(tmp_path / engine)
        assert main(["reconstruct", str(tmp_path / "scans"), "-o", out, *words]) == 0
    for name in ("0.ply", "1.ply"):
        here, away = (tmp_path / engine / name for engine in ("local", "ray"))
        assert here.read_bytes() == away.read_bytes()


def kill_a_worker() -> None:
    """Kill the first process of Ray that measures."""
    limit = time.monotonic() + 60.0
    while time.monotonic() < limit:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if words.startswith(b"ray::Worker.do") and parent != os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
                return
        time.sleep(0.002)


def negated(piece: Any, tell: Any) -> Any:
    return -piece


def test_an_address_beside_the_cluster_in_use_is_refused() -> None:
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    ray = SimpleNamespace(get_runtime_context=lambda: context)
    for same in (None, "auto", "10.0.0.1:6379"):
        _ray._check_joined("audit", ray, same)
    with pytest.raises(ParameterError, match=r"in use, 10.0.0.1:6379, got 10.0.0.2:6379. Leave it"):
        _ray._check_joined("audit", ray, "10.0.0.2:6379")


def test_a_model_that_cannot_be_sent_is_named_with_the_remedy() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: `pip install '.[ray]'`")
    with pytest.raises(
        ParameterError,
        match=r"`model` \(Net\) cannot be sent to a worker: TypeError: .*lock.* Open",
    ):
        audit(Net(threading.Lock()), POINTS, LABELS, norms=[2.0], effort="quick", engine="ray")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"audit: ray is not installed. .*levelset\[ray\]"):
        measured(engine="ray")


def test_a_worker_answers_with_what_happened() -> None:
    worker = Worker()
    surroundings = _ray._Surroundings.here(torch.get_num_threads())
    assert unpacked(worker.prepare(b"no pickle", surroundings)) is not None
    assert unpacked(worker.prepare(pickle.dumps(negated), surroundings)) is None
    done = unpacked(worker.do(3, packed(torch.tensor([2.0]))))
    assert (done.number, done.kind, done.content.item()) == (3, "done", -2.0)
    failed = unpacked(worker.do(4, packed("no number")))
    assert (failed.kind, type(failed.content)) == ("failed", TypeError)


def test_other_builds_are_refused_and_another_torch_is_said() -> None:
    theirs = Worker().build()
    _ray._check_build("audit", theirs)
    with pytest.raises(RunError, match=r"the worker on there has levelset 0.0.1 \(.*Install the"):
        _ray._check_build("audit", theirs | {"levelset": "0.0.1", "host": "there"})
    with pytest.warns(LevelSetWarning, match="has torch 1.0, this machine .* differ by rounding"):
        _ray._check_build("audit", theirs | {"torch": "1.0"})
