"""The pieces of a job on many inputs, each of less than a minute."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from torch import Tensor

from levelset._tools.batches import row_batches
from levelset._tools.cost import useful_threads
from levelset._tools.engines._choice import Place, engine_of
from levelset._tools.engines._crew import Work
from levelset._typing import Model, Progress

__all__ = ["cut", "expected_seconds", "in_pieces", "threads_of"]

# Numbers in the inputs of one part: 250 images of MNIST; and how long a part is expected to take
# at most, which is what a killed run may lose.
_PART_ELEMENTS, _PART_LEAST = 200_000, 4
_PART_SECONDS = 30.0
# Seconds of one row of an evaluation on one processor core, beside its operations and for each:
# LeNet on MNIST takes 0.1 ms. Other devices are assumed to be this many times as fast.
_CALL, _OPERATION = 5e-5, 5e-11
_OTHER_DEVICES = 30.0


def expected_seconds(evaluations: float, operations: int, device: str) -> float:
    """Return how long so many evaluations of so many operations are expected to take."""
    seconds = evaluations * (_CALL + operations * _OPERATION)
    return seconds if device == "cpu" else seconds / _OTHER_DEVICES


def cut(n: int, size: int, seconds: float) -> list[slice]:
    """Return the rows of each part: as many as are expected to take half a minute.

    Where they lie follows from what is measured on which model, not from the speed of the
    machine: how rows are batched decides their last bits, so a run that goes on elsewhere, or
    under load, still ends with the rows of an unbroken one.

    Args:
        n: Inputs.
        size: Numbers in one input.
        seconds: Expected for one input.
    """
    most = max(_PART_ELEMENTS // max(size, 1), _PART_LEAST)
    rows = max(min(int(_PART_SECONDS / seconds), most), 1)
    return list(row_batches(n, rows))


def threads_of(parts: int, seconds: float, model: Model, points: Tensor) -> int:
    """Return the processor threads of a part: one, so that others run beside it.

    One in any case where there are several parts, whatever the engine and the machine: the number
    of threads decides the last bits of a row. A part alone gets as many as it keeps busy, and so
    do parts that take long for all that they hold one input.

    Args:
        parts: How many there are.
        seconds: Expected for one input.
        model: What is evaluated.
        points: The inputs, `(n, *d)`.
    """
    return 1 if parts > 1 and seconds <= _PART_SECONDS else useful_threads(model, points)


def in_pieces(
    function: str,
    work: Work,
    piece_of: Callable[[slice], Any],
    rows: Sequence[slice],
    place: Place,
    *,
    threads: int,
    device: str,
    progress: Progress | None = None,
) -> list[Any]:
    """Return what comes of all pieces, in their order, wherever and in which order they are done.

    Args:
        function: Name of the public function at work, for messages.
        work: What is done with a piece; it says how many of its rows are done.
        piece_of: Returns the piece of some rows.
        rows: Of each piece.
        place: Where.
        threads: Of a piece.
        device: Type of the device to compute on.
        progress: Takes the rows done and their number.
    """
    engine = engine_of(function, place, pieces=len(rows), threads=threads, device=device)
    results: list[Any] = [None] * len(rows)
    done, total, heard = [0] * len(rows), sum(part.stop - part.start for part in rows), -1

    def listen(number: int, said: int | None) -> None:
        nonlocal heard
        done[number] = said or 0
        if progress is not None and sum(done) > heard:
            heard = sum(done)
            progress(heard, total)

    run = engine.run(work, lambda number: piece_of(rows[number]), range(len(rows)), listen)
    with closing(run):
        for number, result in run:
            results[number] = result
            listen(number, rows[number].stop - rows[number].start)
    return results
