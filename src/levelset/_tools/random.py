"""Random numbers from one seed: a stream a point, and a stream for what draws globally."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Streams",
    "content_names",
    "draw_seed",
    "drawn_rows",
    "mixed_seed",
    "private_stream",
    "rows_of_batch",
]

# First row, number and all rows of a batch, of which this process has only those.
_ROWS: ContextVar[tuple[int, int, int] | None] = ContextVar("rows", default=None)


def draw_seed(generator: torch.Generator | None) -> int:
    """Return a seed by one draw of `generator`, or of torch's global one."""
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))


def mixed_seed(seed: int, stream: int) -> int:
    """Return the seed of one of many independent streams."""
    return int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])


@contextmanager
def private_stream(device: torch.device, seed: int, stream: int) -> Iterator[None]:
    """Let torch's global generators give a stream of their own meanwhile, then put them back.

    Layers such as Dropout, and torch's initialisations, draw from the global generators and from
    nothing else. Each (`seed`, `stream`) gives one and the same sequence.
    """
    mixed = mixed_seed(seed, stream)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(mixed)
        for one in devices:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(mixed)
        yield


@contextmanager
def rows_of_batch(first: int, count: int, total: int) -> Iterator[None]:
    """Say that `count` points from `first` on are a share of a batch of `total` meanwhile.

    `drawn_rows` then gives them the numbers that they would get in the whole batch.
    """
    token = _ROWS.set((first, count, total))
    try:
        yield
    finally:
        _ROWS.reset(token)


def drawn_rows(like: Tensor, device: torch.device, draw: Callable[[Tensor], object]) -> Tensor:
    """Return random numbers for points, `(n, *d)`: those of their rows in a whole batch.

    Args:
        like: The points, `(n, *d)`.
        device: Where to draw.
        draw: Fills a tensor.
    """
    share = _ROWS.get()
    if share is None or share[1] != len(like):
        share = (0, len(like), len(like))
    first, count, total = share
    drawn = torch.empty((total, *like.shape[1:]), dtype=like.dtype, device=device)
    draw(drawn)
    return drawn[first : first + count].to(like.device)


def content_names(points: Tensor) -> Tensor:
    """Return a number for each point that its entries alone decide, `(n,)`.

    As names of streams they give a point the same numbers wherever it stands among others.
    """
    rows = np.ascontiguousarray(points.detach().cpu().numpy())
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    names = [int.from_bytes(digest, "little") >> 1 for digest in digests]
    return torch.tensor(names, dtype=torch.int64)


class Streams:
    """Random numbers by the number of the point and the number of the draw.

    One draw of the generator makes the seed of all. Point `i` gets the same numbers in draw
    `index` whatever the batch, the other points, and the draws before; on every device too, as
    they are made by a counter-based generator (Philox) on the processor, and then moved.

    Args:
        generator: Draws the seed; `None` for torch's global one.
        points: In whose dtype and on whose device the numbers are returned.
        names: What tells the points from one another, `(n,)`; `None` for their places.
    """

    def __init__(
        self, generator: torch.Generator | None, points: Tensor, names: Tensor | None = None
    ) -> None:
        self.seed = draw_seed(generator)
        self.dtype, self.device = points.dtype, points.device
        self.names = names

    def uniform(self, rows: Tensor, shape: tuple[int, ...], index: int = 0) -> Tensor:
        """Return uniform numbers from 0 to 1, `(m, *shape)`, for the points `rows`, `(m,)`."""
        drawn = [self._of(name, index).random(shape) for name in self._named(rows)]
        return self._filled(drawn, shape)

    def normal(self, rows: Tensor, shape: tuple[int, ...], index: int = 0) -> Tensor:
        """Return standard normal numbers, `(m, *shape)`, for the points `rows`, `(m,)`."""
        drawn = [self._of(name, index).standard_normal(shape) for name in self._named(rows)]
        return self._filled(drawn, shape)

    def _named(self, rows: Tensor) -> list[int]:
        names: list[int] = (rows if self.names is None else self.names[rows]).tolist()
        return names

    def _of(self, name: int, index: int) -> np.random.Generator:
        # The draw stands in the highest word of the counter, so that no two draws overlap.
        key = np.array([self.seed, name], dtype=np.uint64)
        counter = np.array([0, 0, 0, index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def _filled(self, drawn: list[np.ndarray], shape: tuple[int, ...]) -> Tensor:
        array = np.stack(drawn) if drawn else np.empty((0, *shape))
        return torch.from_numpy(array).to(self.device, self.dtype)
