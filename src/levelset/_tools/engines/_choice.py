"""The engines by their names."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import torch

from levelset._tools.checks import check_whole
from levelset._tools.engines._crew import Listen, Results, Work
from levelset._tools.engines._local import Local
from levelset._tools.engines._ray import Cluster
from levelset.errors import LevelSetWarning, ParameterError

__all__ = ["ENGINES", "Engine", "EngineName", "Place", "engine_of"]

EngineName: TypeAlias = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@runtime_checkable
class Engine(Protocol):
    """What does the pieces of a job."""

    def run(
        self,
        work: Work,
        piece_of: Callable[[int], Any],
        numbers: Sequence[int],
        listen: Listen,
        *,
        finish: bool = False,
    ) -> Results:
        """Yield the results of the pieces as they come; see `Local.run`."""


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    Attributes:
        engine: By which engine.
        workers: Most workers; `None` for as many as torch may have threads, or for all processors
            of the cluster.
        address: Of the cluster; `None` for a local engine, or to start Ray here.
    """

    engine: EngineName = "local"
    workers: int | None = None
    address: str | None = None


def engine_of(
    function: str,
    place: Place,
    *,
    pieces: int,
    threads: int,
    device: str,
) -> Engine:
    """Return an engine.

    Args:
        function: Name of the public function at work, for messages.
        place: Where.
        pieces: Of the job.
        threads: Of each worker; where more than one, the local engine has one worker.
        device: Type of the device that the job computes on.

    Raises:
        ParameterError: If an argument does not fit the engine.
    """
    workers, address = place.workers, place.address
    if workers is not None:
        check_whole(function, "workers", workers)
        if 0 < pieces < workers:
            parts = "1 part" if pieces == 1 else f"{pieces} parts"
            message = (
                f"{function}: `workers` is {workers}, but the work has only {parts}: no more are "
                "started."
            )
            warnings.warn(message, LevelSetWarning, stacklevel=2)
    if place.engine == "ray":
        return Cluster(function, workers, address, pieces, threads, device)
    if address is not None:
        message = (
            f"{function}: `address` is for the engine ray, got {address!r} with {place.engine}. "
            "Leave it out, or choose that engine."
        )
        raise ParameterError(message)
    if device != "cpu" or threads > 1:
        return Local(function, 1, threads)
    count = torch.get_num_threads() if workers is None else workers
    return Local(function, min(count, pieces), threads)
