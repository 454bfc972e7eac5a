"""An audit that is killed, stopped or not alone ends in the tables of an unbroken one."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from levelset import audit
from levelset._tools.locks import sole_user
from levelset._tools.stops import postpone
from levelset.errors import RunError
from levelset.networks import fc

pytestmark = pytest.mark.same_shapes

# Forked processes have torch at hand, so that a kill falls into the audit, not into imports.
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("levelset._tools.engines._pieces._PART_ELEMENTS", 6 * 4)


def measure(out: Path, **options: Any) -> None:
    """Audit 16 points of a fixed network, in four parts."""
    generator = torch.Generator().manual_seed(2)
    model: nn.Module = fc(6, 12, 3).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    points = torch.rand(16, 6, generator=generator)
    labels = model(points).argmax(1)
    audit(model, points, labels, norms=[2.0], effort="quick", out=out, resume=True, **options)


def files(out: Path) -> dict[str, bytes]:
    """Return all that a run holds but the lock, which a killed process leaves without effect."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.exhaustive])]
)
def test_kills_at_random_moments_lose_double_and_change_no_row(tmp_path: Path, kills: int) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    start = time.monotonic()
    measure(whole)
    seconds = time.monotonic() - start
    draws = random.Random(kills)
    for kill in range(kills):
        workers = 1 + kill % 2
        process = FORK.Process(target=measure, args=(run,), kwargs={"workers": workers})
        process.start()
        process.join(draws.uniform(0.0, seconds))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it had ended: the next one begins anew
            assert files(run) == files(whole)
            run.rename(run.with_name(f"ended-{process.pid}"))
        else:
            assert process.exitcode == -signal.SIGKILL
    measure(run)
    assert files(run) == files(whole)
    table = pq.read_table(run / "measurements")
    assert table["index"].to_pylist() == list(range(16))


@pytest.mark.parametrize(
    "kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.exhaustive])]
)
def test_parts_side_by_side_are_those_of_one_process_though_a_worker_is_killed(
    tmp_path: Path, kills: int
) -> None:
    alone = tmp_path / "alone"
    measure(alone, workers=1)
    driver, draws, killed = os.getpid(), random.Random(kills), []
    for number in range(kills):
        pair = tmp_path / str(number)

        def kill(
            done: int, total: int, moment: int = draws.randrange(16), run: Path = pair
        ) -> None:
            children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
            if children and run not in killed and done >= min(moment, 11):
                os.kill(int(draws.choice(children)), signal.SIGKILL)
                killed.append(run)

        measure(pair, workers=2, progress=kill)
        assert files(pair) == files(alone)
    assert len(killed) == kills


def test_a_second_audit_of_the_folder_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with (
        sole_user("audit", run),
        pytest.raises(RunError, match=rf"audit: .*run is in use by process {os.getpid()} on"),
    ):
        measure(run)
    assert files(run) == {}
    measure(run)
    assert not (run / ".lock").exists()


def test_a_stop_waits_for_the_part_in_hand(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    asked = []

    def stop(done: int, total: int) -> None:
        if (run / "measurements" / "part-00000.parquet").exists() and not asked:
            asked.append(postpone())

    with pytest.raises(KeyboardInterrupt):
        measure(run, progress=stop)
    assert asked == [True]
    parts = sorted(path.name for path in (run / "measurements").iterdir())
    assert parts == ["part-00000.parquet", "part-00001.parquet"]
    measure(run)
    measure(whole)
    assert files(run) == files(whole)


def test_a_change_that_no_row_shows_is_mended(tmp_path: Path) -> None:
    """Readers may believe a file's own words on what its rows are between."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    measure(run)
    measure(whole)
    file = run / "measurements" / "part-00002.parquet"
    content = file.read_bytes()
    assert content.count(b"parquet-cpp-arrow") == 1
    file.write_bytes(content.replace(b"parquet-cpp-arrow", b"parquet-cpp-arrox"))
    measure(run)
    assert files(run) == files(whole)
