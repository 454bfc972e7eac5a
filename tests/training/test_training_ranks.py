"""Several processes train as one: the same weights to rounding, and any number of them resumes."""

import functools
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn

from levelset._tools.random import drawn_rows, rows_of_batch
from levelset.datasets import Images
from levelset.errors import LevelSetWarning, RunError
from levelset.losses import geometric_svm, robust_distance
from levelset.networks import fc
from levelset.training import Augmentation, cross_entropy, initialise, train
from levelset.training._ranks import Ranks, joined, warn_of_batches

FORK = multiprocessing.get_context("fork")
POINTS = torch.rand(21, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DATA = Images(POINTS, (POINTS.sum(1) > 1.0).long(), ("below", "above"), "halves")


def geometric(model: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return geometric_svm(model, points, labels, weight=0.1, alpha=-2.0)


def distant(model: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss whose samples are of the inputs classified right alone, from random starts."""
    return robust_distance(model, points, labels, radius=0.2, weight_wrong=0.0, steps=3)


LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": cross_entropy, "geometric": geometric, "distant": distant,
}  # fmt: skip


def trained(loss: str, **options: Any) -> tuple[list[float], list[float]]:
    """Return all parameters after some epochs, and the losses."""
    network = initialise(fc(2, 8, 2).double(), generator=torch.Generator().manual_seed(3))
    if Ranks.here().rank:  # only the weights of the first process count
        network = initialise(network, generator=torch.Generator().manual_seed(4))
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 10, "learning_rate": 0.05}
    history = train(
        network, DATA, loss=LOSSES[loss], held_out=DATA,
        generator=torch.Generator().manual_seed(5), **(settings | options),
    )  # fmt: skip
    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    numbers = torch.stack([history.loss, history.accuracy, history.held_out])
    return weights.tolist(), numbers.flatten().tolist()


def together(count: int, job: Callable[..., Any], *arguments: Any, **options: Any) -> list[Any]:
    """Run a job in processes that train together; return what each returned, if it did."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answers, processes = [], []
    work = functools.partial(job, *arguments, **options)
    for rank in range(count):
        ours, theirs = FORK.Pipe()
        process = FORK.Process(target=_joining, args=(theirs, rank, count, port, work))
        process.start()
        theirs.close()
        answers.append(ours)
        processes.append(process)
    received = [_received(answer) for answer in answers]
    for process in processes:
        process.join()
    return received


def _received(pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError:  # it was killed
        return None


def _joining(pipe: Any, rank: int, count: int, port: int, work: Callable[[], Any]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
        "WORLD_SIZE": str(count),
    }  # fmt: skip
    try:
        with joined("cpu") as ranks:
            assert (ranks.rank, ranks.count) == (rank, count)
            answer = work()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    pipe.send(answer)


def all_losses() -> dict[str, Any]:
    return {name: trained(name) for name in LOSSES}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_two_processes_train_as_one_to_rounding() -> None:
    """Also where a loss has samples about some inputs only, from random starts."""
    alone = all_losses()
    answers = together(2, all_losses)
    assert answers[0] == answers[1]
    for name, (weights, numbers) in alone.items():
        torch.testing.assert_close(answers[0][name][0], weights, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(answers[0][name][1], numbers, rtol=1e-9, atol=1e-12)


def trained_on_moved_images() -> list[float]:
    """Return all parameters after some epochs on images that are moved about."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(21, 1, 6, 6, generator=generator, dtype=torch.float64)
    images = Images(points, DATA.labels, DATA.classes, "noise")
    network = nn.Sequential(nn.Flatten(), fc(36, 2).double())
    train(
        initialise(network, generator=generator), images, epochs=3, batch_size=10,
        augmentation=Augmentation(shift=2, flip=True), generator=generator,
    )  # fmt: skip
    return torch.cat([p.detach().flatten() for p in network.parameters()]).tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_images_are_moved_alike_in_all_processes() -> None:
    answers = together(2, trained_on_moved_images)
    assert answers[0] == answers[1]
    alone = trained_on_moved_images()
    torch.testing.assert_close(answers[0], alone, rtol=1e-9, atol=1e-12)


LEAVING = """
from pathlib import Path
import torch
from levelset.training._ranks import joined

with joined("cpu"):
    from levelset.datasets import Images
    from levelset.networks import fc
    from levelset.training import train

    data = Images(torch.rand(8, 2), torch.arange(8) % 2, ("a", "b"), "some")
    train(fc(2, 2), data, epochs=1)
names = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()]
assert not [name for name in names if "gloo" in name], names
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_no_thread_that_talks_outlives_the_training() -> None:
    """The interpreter aborts now and then where one does; here most is imported in the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen([sys.executable, "-c", LEAVING], env=os.environ | where | {"RANK": rank})
        for rank in ("0", "1")
    ]
    assert [process.wait() for process in processes] == [0, 0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_a_run_is_resumed_by_another_number_of_processes(tmp_path: Path) -> None:
    def stop(health: Any) -> None:
        if health.epoch == 2:
            raise KeyboardInterrupt

    weights, numbers = trained("geometric")
    with pytest.raises(KeyboardInterrupt):
        trained("geometric", out=tmp_path, watch=stop)
    first, second = together(2, lambda: trained("geometric", out=tmp_path, resume=True))
    assert first == second
    torch.testing.assert_close(first[0], weights, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(first[1], numbers, rtol=1e-9, atol=1e-12)
    again, _ = trained("geometric", out=tmp_path, resume=True)  # finished: nothing is left to do
    torch.testing.assert_close(again, first[0], rtol=0, atol=0)
    refused = together(2, lambda: trained("geometric", out=tmp_path))
    assert all("RunError: train: " in answer and "holds a training already" in answer
               for answer in refused)  # fmt: skip


def failing(model: nn.Module, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if Ranks.here().rank == 1:
        raise RunError("the share of process 1 is broken")
    return cross_entropy(model, points, labels)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_an_error_of_one_process_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "failing", failing)
    assert set(together(2, trained, "failing")) == {"RunError: the share of process 1 is broken"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_a_killed_process_ends_all_and_the_run_is_resumed_to_the_same_weights(
    tmp_path: Path, kills: int
) -> None:
    draws = random.Random(kills)
    options: dict[str, Any] = {"epochs": 6}
    whole, numbers = together(2, trained, "geometric", **options)[0]
    for number in range(kills):
        run, step, rank = tmp_path / str(number), draws.randrange(18), draws.randrange(2)

        def kill(health: Any, step: int = step, rank: int = rank) -> None:
            if health.step == step + 1 and Ranks.here().rank == rank:
                os.kill(os.getpid(), signal.SIGKILL)

        answers = together(2, trained, "geometric", out=run, watch=kill, **options)
        assert answers[rank] is None
        assert answers[1 - rank].startswith("RunError: train: another process of this training has")
        resumed = together(2, trained, "geometric", out=run, resume=True, **options)
        assert resumed == [(whole, numbers)] * 2


def test_one_process_alone_talks_to_nobody() -> None:
    ranks = Ranks.here()
    assert ranks == Ranks(0, 1)
    rows = torch.arange(5)
    assert ranks.share(rows).tolist() == [0, 1, 2, 3, 4]
    assert ranks.gathered("one") == ["one"]
    assert ranks.of_first(lambda: 3) == 3
    gradients = [torch.ones(2), None]
    assert ranks.add_up(gradients, [torch.zeros(2)] * 2, 0.5) == gradients
    with joined("cpu") as same, same.together(), same.drawing(rows):
        assert same == ranks
    assert not distributed.is_initialized()


def test_shares_differ_by_one_row_at_most_and_cover_all() -> None:
    shares = [Ranks(rank, 3).share(torch.arange(10)).tolist() for rank in range(3)]
    assert shares == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_share_of_a_batch_draws_what_the_batch_would() -> None:
    def drawn(count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(2)
        device = torch.device("cpu")
        return drawn_rows(torch.zeros(count, 3), device, lambda t: t.normal_(generator=generator))

    whole = drawn(7)
    with rows_of_batch(4, 2, 7):
        assert torch.equal(drawn(2), whole[4:6])
        assert torch.equal(drawn(7), whole)


def test_layers_that_see_a_share_of_the_batch_are_said() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.warns(LevelSetWarning, match="BatchNorm1d of `model` sees, in each of 2 processes"):
        warn_of_batches(model, Ranks(0, 2))
    warn_of_batches(model, Ranks(1, 2))
    warn_of_batches(model, Ranks(0, 1))
