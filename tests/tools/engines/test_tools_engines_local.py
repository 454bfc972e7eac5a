"""Every piece is done exactly once, in any order, even if workers die."""

import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from levelset._tools.engines import Local
from levelset._tools.stops import postpone
from levelset.errors import LevelSetWarning, ParameterError, RunError


def square(piece: torch.Tensor, tell: Callable[[Any], None]) -> torch.Tensor:
    tell(("squared", 1.0))
    return piece.square()


def nothing(number: int, said: Any) -> None:
    """Hear nothing."""


def done(work: Any, count: int = 5, *, workers: int = 2, **options: Any) -> dict[int, Any]:
    """Return the results of pieces 0, 1, ... by number, each of which must come once."""
    results: dict[int, Any] = {}
    run = Local("job", workers).run(
        work, lambda k: torch.tensor([float(k), -1.0]), range(count), nothing, **options
    )
    with closing(run):
        for number, result in run:
            assert number not in results
            results[number] = result
    return results


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_piece_is_done_once(workers: int) -> None:
    results = done(square, workers=workers)
    assert sorted(results) == list(range(5))
    for k, result in results.items():
        assert result.tolist() == [k * k, 1.0]


def test_several_workers_are_other_processes_of_one_thread_each() -> None:
    places = done(lambda piece, tell: (os.getpid(), torch.get_num_threads()), 6)
    assert os.getpid() not in {process for process, _ in places.values()}
    assert {threads for _, threads in places.values()} == {1}
    assert done(lambda piece, tell: os.getpid(), 2, workers=1) == dict.fromkeys((0, 1), os.getpid())


def test_without_forks_the_pieces_are_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("levelset._tools.engines._local._may_fork", lambda: False)
    assert set(done(lambda piece, tell: os.getpid()).values()) == {os.getpid()}
    monkeypatch.undo()
    monkeypatch.setattr("levelset._tools.engines._local._can_differentiate", lambda: False)
    assert set(done(lambda piece, tell: os.getpid()).values()) == {os.getpid()}


def test_what_the_work_says_is_heard_with_its_piece() -> None:
    heard: list[tuple[int, Any]] = []
    run = Local("job", 2).run(
        square, lambda k: torch.ones(1), range(4), lambda number, said: heard.append((number, said))
    )
    assert len(list(run)) == 4
    assert sorted(heard) == [(k, ("squared", 1.0)) for k in range(4)]


def test_a_piece_whose_worker_is_killed_is_done_by_another(tmp_path: Path) -> None:
    def work(piece: torch.Tensor, tell: Callable[[Any], None]) -> float:
        mark = tmp_path / str(int(piece[0]))
        if piece[0] in (1, 3) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(piece[0])

    assert done(work) == {k: float(k) for k in range(5)}


def test_a_piece_that_ends_its_workers_is_named() -> None:
    def work(piece: torch.Tensor, tell: Callable[[Any], None]) -> None:
        if piece[0] == 2:
            os._exit(7)

    with pytest.raises(RunError, match=r"job: part 2 has ended 3 workers: .* exit code 7. If"):
        done(work)


def test_an_error_of_the_work_is_raised_with_its_words() -> None:
    def refuse(piece: torch.Tensor, tell: Callable[[Any], None]) -> None:
        raise ParameterError("job: `radius` must be positive.")

    def fail(piece: torch.Tensor, tell: Callable[[Any], None]) -> None:
        raise OSError(5, "no such luck")

    class OddError(Exception):
        """One that cannot be sent."""

    def oddly(piece: torch.Tensor, tell: Callable[[Any], None]) -> None:
        raise OddError("so odd")

    with pytest.raises(ParameterError, match=r"^job: `radius` must be positive.$"):
        done(refuse)
    with pytest.raises(OSError, match="no such luck") as caught:
        done(fail)
    assert "In a worker" in caught.value.__notes__[0]
    with pytest.raises(RunError, match="a worker failed: OddError: so odd"):
        done(oddly)


def test_warnings_of_the_work_are_given_here() -> None:
    def warn(piece: torch.Tensor, tell: Callable[[Any], None]) -> int:
        for _ in range(3):
            warnings.warn("mind the step", LevelSetWarning, stacklevel=1)
        return 1

    with pytest.warns(LevelSetWarning, match="mind the step") as caught:
        assert len(done(warn, 2)) == 2
    assert len(caught) == 2  # a piece says it once


def test_a_stop_ends_with_the_pieces_in_hand() -> None:
    finished: list[int] = []

    def ask(piece: torch.Tensor, tell: Callable[[Any], None]) -> int:
        time.sleep(0.05)
        return int(piece[0])

    def stopped_after_two() -> None:
        run = Local("job", 2).run(ask, lambda k: torch.tensor([k]), range(20), nothing, finish=True)
        with closing(run):
            for number, _ in run:
                finished.append(number)
                if len(finished) == 2:
                    assert postpone()

    with pytest.raises(KeyboardInterrupt):
        stopped_after_two()
    assert 2 <= len(finished) <= 4


def test_workers_end_with_their_driver(tmp_path: Path) -> None:
    """A killed driver leaves no process behind, though its workers are at work."""

    def work(piece: torch.Tensor, tell: Callable[[Any], None]) -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60.0)

    driver = os.fork()
    if driver == 0:
        list(Local("job", 2).run(work, lambda k: k, range(2), nothing))
        os._exit(0)
    try:
        limit = time.monotonic() + 60.0
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        os.kill(driver, signal.SIGKILL)
        os.waitpid(driver, 0)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    while any(runs(worker) for worker in workers):
        assert time.monotonic() < limit
        time.sleep(0.01)


def runs(process: int) -> bool:
    """Return whether a process is there and not about to be collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def files() -> int:
    """Return how many files this process has open."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_process_thread_or_file_is_left() -> None:
    done(square)  # what the first use opens for good
    before = files(), threading.active_count()
    for _ in range(3):
        done(square)
    assert (files(), threading.active_count()) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
