"""Handing pieces to workers that may die, and taking what they return as it comes."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from levelset._tools.engines._parcels import Said
from levelset._tools.stops import finishing, stop_asked
from levelset.errors import RunError

__all__ = ["Crew", "Done", "Listen", "Message", "Results", "Work", "led"]

Hook: TypeAlias = Callable[[Any], None]
Work: TypeAlias = Callable[[Any, Hook], Any]
"""Takes a piece, and a hook for what is to be heard of its progress; returns its result."""

Listen: TypeAlias = Callable[[int, Any], None]
"""Takes the number of a piece, and what its work said; `None` where it begins anew."""

# A piece that ends so many workers is not tried again: it may be what ends them.
_MOST_DEATHS = 3


class Done(NamedTuple):
    """A finished piece: its number, and what the work returned."""

    number: int
    result: Any


Results: TypeAlias = Generator[Done, None, None]
"""The results of pieces as they come; closing it ends the work."""


@dataclass(frozen=True)
class Message:
    """What comes of a worker about the piece that it has.

    Attributes:
        number: Of the piece.
        kind: `told` (progress), `done`, `failed` (an exception of the work) or `died` (the worker
            is gone, and another one takes its place).
        content: What the work said or returned, the exception, or how the worker ended.
        warnings: Those of the work.
    """

    number: int
    kind: str
    content: Any = None
    warnings: tuple[Said, ...] = ()


@runtime_checkable
class Crew(Protocol):
    """Workers, each with at most one piece at a time."""

    @property
    def function(self) -> str:
        """Name of the public function at work, for messages."""

    @property
    def idle(self) -> bool:
        """Whether a worker waits for a piece."""

    @property
    def busy(self) -> bool:
        """Whether a worker has one."""

    def give(self, number: int, piece: Any) -> None:
        """Hand a piece to a worker that waits."""

    def messages(self) -> list[Message]:
        """Wait a moment for news, and return it; none is no error."""


def led(
    crew: Crew,
    piece_of: Callable[[int], Any],
    numbers: Sequence[int],
    listen: Listen,
    *,
    finish: bool,
) -> Results:
    """Yield the results of all pieces as they come.

    A piece whose worker died is given to another one. An exception of the work is raised here, and
    its warnings are given here. After a request to stop no piece is begun; those in hand are
    finished.

    Raises:
        RunError: If a piece has ended three workers.
    """
    waiting, deaths = deque(numbers), Counter[int]()
    block: AbstractContextManager[None] = finishing() if finish else nullcontext()
    with block:
        while waiting or crew.busy:
            while waiting and crew.idle and not (finish and stop_asked()):
                number = waiting.popleft()
                crew.give(number, piece_of(number))
            if finish and stop_asked() and not crew.busy:
                return
            for message in crew.messages():
                for said in message.warnings:
                    said.again()
                if message.kind == "told":
                    listen(message.number, message.content)
                elif message.kind == "done":
                    yield Done(message.number, message.content)
                elif message.kind == "failed":
                    raise message.content
                else:
                    deaths[message.number] += 1
                    _check_deaths(crew.function, message, deaths[message.number])
                    listen(message.number, None)
                    waiting.appendleft(message.number)


def _check_deaths(function: str, message: Message, deaths: int) -> None:
    if deaths >= _MOST_DEATHS:
        text = (
            f"{function}: part {message.number} has ended {deaths} workers: the last one "
            f"{message.content}. If memory is short, use fewer `workers`, or a smaller "
            "`batch_size`."
        )
        raise RunError(text)
