"""Noise around points: one stream a point, whatever the batch and the other points."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from copy import copy
from typing import Literal, TypeAlias

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from levelset._tools.random import draw_seed
from levelset.errors import ParameterError, ShapeError

__all__ = ["Noise", "NoiseName", "check_noise"]

NoiseName: TypeAlias = Literal["gaussian", "ball"]

# Sizes of a point between which directions are drawn as whole orthonormal bases. Below, bases
# would double the share of some even functions in the error; above, making one costs too much.
_LEAST_BASIS, _MOST_BASIS = 128, 1024
# Numbers in the bases that all points of a call share, at least a few bases: 20 MB, which a
# processor's cache holds. A point that needs more gets them again, with other signs.
_SHARED, _FEWEST_BASES = 5_000_000, 4
# Numbers drawn at once for one point: fixed, as the numbers depend on how many are drawn.
_BLOCK = 4096
# Lengths drawn at once for one point.
_LENGTHS = 512


class Noise:
    r"""Standard noise for each of several points: mean 0, variance 1 in every coordinate.

    `"gaussian"` is $N(0, I)$. `"ball"` is uniform in the ball of radius $\sqrt{e + 2}$ about the
    origin, e the size of a point, where the variance of a coordinate is 1 too.

    The stream of a point follows from one draw of the generator and from the point itself, so it
    is the same alone, among others, and in any order; copies of one point have streams of their
    own. Each stream is consumed in order.

    With `orthogonal`, the directions of a point of 128 to 1,024 coordinates come as whole random
    bases: each is uniform, any e in a row are orthogonal to one another, lengths are independent.
    An average over them is unbiased, and has less variance than over independent directions (0.5
    to 0.55 of it on an MNIST network). A few bases are made once and shared, so that making noise
    costs little: each point begins at its own row and rolls the coordinates by its own amount, so
    that errors of different points are nearly independent. A point that needs more uses them again,
    rolled by another amount and with other signs of the coordinates: new bases. Each point has its
    own lengths throughout, for where a region is round they alone decide.

    Args:
        points: `(n, *d)`.
        generator: Gives the seed, and its device is where numbers are drawn (bases always on the
            processor); `None` for torch's global generator of the processor.
        kind: `"gaussian"` or `"ball"`.
        orthogonal: Draw directions as bases where that pays.

    Attributes:
        keys: A number for each point, which its stream follows from.
    """

    def __init__(
        self,
        points: Tensor,
        generator: torch.Generator | None,
        *,
        kind: NoiseName = "gaussian",
        orthogonal: bool = False,
    ) -> None:
        if len(points) and points[0].numel() == 0:
            message = (
                "noise: `points` must hold at least one number each, got the shape "
                f"{tuple(points.shape)}."
            )
            raise ShapeError(message)
        self.seed = draw_seed(generator)
        self._place = torch.device("cpu") if generator is None else generator.device
        self.size = points.flatten(1).shape[1] if len(points) else 0
        self.dtype, self.device, self.kind = points.dtype, points.device, kind
        self._drawn = torch.float64 if points.dtype == torch.float64 else torch.float32
        self.keys = _keys(points, self.seed)
        in_range = _LEAST_BASIS <= self.size <= _MOST_BASIS
        self._shares = orthogonal and kind == "gaussian" and in_range
        self._used = [0] * len(points)
        self._bases = _Bases(self.seed, self.size, self._drawn, points.detach().new_empty(0))
        self._mirror: dict[int, tuple[int, Tensor]] = {}
        self._lengths: dict[int, _Lengths] = {}
        self._streams: dict[int, _Stream] = {}

    def of(self, keys: list[int]) -> "Noise":
        """Return the noise of some of the points, by their `keys`, from the beginning.

        It shares the bases, and holds nothing else that grows with the number of points.
        """
        part = copy(self)
        part.keys, part._used = keys, [0] * len(keys)
        part._mirror, part._lengths, part._streams = {}, {}, {}
        return part

    def take(self, row: int, count: int) -> Tensor:
        """Return the next draws of a point, up to `count` of them: `(m, e)`, m at least 1."""
        drawn, scale = self.take_unscaled(row, count)
        return drawn if scale is None else drawn * scale

    def take_unscaled(self, row: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Return them as rows `(m, e)`, not to be written to, and what to multiply them by, if any.

        The factors are lengths `(m, 1)`, or with signs `(m, e)`.
        """
        if self._shares:
            size, key = self.size, self.keys[row]
            number, gone = divmod(self._used[row], size)
            turn, which = divmod(number, self._bases.count)
            first = (gone + key) % size
            lengths = self._length(row, min(count, size - gone, size - first))
            count = lengths.shape[0]
            self._used[row] += count
            # A window on rows twice as long: one call, where slicing takes two.
            place = 2 * size * first + (key // size + turn) % size
            drawn = self._bases.basis(which).as_strided((count, size), (2 * size, 1), place)
            return drawn, lengths * self._signs(row, turn) if turn else lengths
        drawn = self._stream(row).take(count)
        if self.kind == "ball":
            drawn = self._in_ball(row, drawn)
        self._used[row] += drawn.shape[0]
        return drawn.to(self.device, self.dtype), None

    def release(self, rows: Iterable[int]) -> None:
        """Forget the streams of points that need no more draws."""
        for row in rows:
            self._streams.pop(row, None)
            self._mirror.pop(row, None)
            self._lengths.pop(row, None)

    def _stream(self, row: int) -> "_Stream":
        if row not in self._streams:
            self._streams[row] = _Stream(self.keys[row], self.size, self._drawn, self._place)
        return self._streams[row]

    def _length(self, row: int, count: int) -> Tensor:
        if row not in self._lengths:
            self._lengths[row] = _Lengths(self.keys[row], self.size)
        return self._lengths[row].take(count, self.device, self.dtype)

    def _signs(self, row: int, turn: int) -> Tensor:
        if row not in self._mirror or self._mirror[row][0] != turn:
            generator = _generator(f"{self.keys[row]} turn {turn}")
            signs = torch.randint(2, (self.size,), generator=generator) * 2 - 1
            self._mirror[row] = (turn, signs.to(self.device, self.dtype))
        return self._mirror[row][1]

    def _in_ball(self, row: int, normal: Tensor) -> Tensor:
        """Return points uniform in the ball of variance 1, from directions and a uniform number."""
        uniform = self._stream(row).uniform(len(normal))
        radius = (self.size + 2) ** 0.5 * uniform ** (1.0 / self.size)
        return normal * (radius / normal.norm(dim=1)).unsqueeze(1)


class _Bases:
    """Random orthonormal bases that points share, each made when it is first asked for.

    Args:
        seed: Of all.
        size: Of a point.
        drawn: In which precision they are drawn.
        like: An empty tensor in whose dtype and on whose device they are returned.
    """

    def __init__(self, seed: int, size: int, drawn: torch.dtype, like: Tensor) -> None:
        self.seed, self.size, self.drawn, self.like = seed, size, drawn, like
        self.count = max(_SHARED // max(2 * size**2, 1), _FEWEST_BASES)
        self._first: Tensor | None = None
        self._bases: dict[int, Tensor] = {}

    def basis(self, number: int) -> Tensor:
        """Return a random orthonormal basis, each row twice over."""
        if number not in self._bases:
            generator = _generator(f"{self.seed} basis {number}")
            signs = torch.randint(2, (2, self.size), generator=generator).to(self.drawn) * 2 - 1
            # Any rotation of a uniform basis is one again; this one is a fast transform between
            # random signs, which leaves nothing in common with the basis it comes from.
            mixed = dct((self._first_basis() * signs[0]).numpy(), norm="ortho", overwrite_x=True)
            rows = torch.from_numpy(mixed)
            # Twice over, so that rolled coordinates are a window.
            twice = torch.empty(self.size, 2, self.size, dtype=self.drawn)
            twice[:, 1] = torch.mul(rows, signs[1], out=twice[:, 0])
            self._bases[number] = twice.flatten(1).to(self.like)
        return self._bases[number]

    def _first_basis(self) -> Tensor:
        """Return orthonormal rows, uniform over all bases."""
        if self._first is None:
            generator = _generator(f"{self.seed} basis")
            shape = (self.size, self.size)
            normal = torch.randn(shape, generator=generator, dtype=self.drawn)
            columns, triangle = torch.linalg.qr(normal)
            self._first = (columns * triangle.diagonal().sign()).T
        return self._first


class _Lengths:
    """Lengths of normal vectors for one point, in blocks: their squares are sums of squares."""

    def __init__(self, key: int, size: int) -> None:
        self.generator, self.size = np.random.Generator(np.random.Philox(key)), size
        self.left = torch.empty(0, 1)

    def take(self, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the next lengths, up to `count` of them, `(m, 1)`."""
        if not self.left.shape[0]:
            lengths = np.sqrt(self.generator.chisquare(self.size, _LENGTHS))
            self.left = torch.from_numpy(lengths).to(device, dtype).unsqueeze(1)
        taken, self.left = self.left[:count], self.left[count:]
        return taken


class _Stream:
    """Normal numbers of one point, in blocks of a fixed size: the same however they are taken."""

    def __init__(self, key: int, size: int, dtype: torch.dtype, place: torch.device) -> None:
        self.generator = torch.Generator(place).manual_seed(key)
        self.lengths = torch.Generator(place).manual_seed(key ^ 0x5DEECE66D)
        self.size, self.dtype, self.place = size, dtype, place
        self.rows = max(_BLOCK // max(size, 1), 1)
        self.left = torch.empty(0, size, dtype=dtype, device=place)

    def _randn(self) -> Tensor:
        return torch.randn(
            self.rows, self.size, generator=self.generator, dtype=self.dtype, device=self.place
        )

    def take(self, count: int) -> Tensor:
        if self.left.shape[0] >= count:
            drawn, self.left = self.left[:count], self.left[count:]
            return drawn
        blocks = -(-(count - self.left.shape[0]) // self.rows)
        joined = torch.cat([self.left, *(self._randn() for _ in range(blocks))])
        drawn, self.left = joined[:count], joined[count:].clone()  # a view would keep all of it
        return drawn

    def uniform(self, count: int) -> Tensor:
        drawn = torch.rand(count, generator=self.lengths, dtype=torch.float64, device=self.place)
        return drawn.to(self.dtype)


def check_noise(function: str, noise: str) -> None:
    """Refuse a noise that has another name than those known."""
    if noise not in ("gaussian", "ball"):
        message = f"{function}: `noise` must be 'gaussian' or 'ball', got {noise!r}."
        raise ParameterError(message)


def _keys(points: Tensor, seed: int) -> list[int]:
    """Return a number a point, from its content and its place among its copies."""
    rows = points.detach().cpu().flatten(1).contiguous().view(torch.uint8).numpy()
    keys = []
    met: Counter[bytes] = Counter()
    for row in rows:
        content = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        keys.append(_number(content + f"{seed} {met[content]}".encode()))
        met[content] += 1
    return keys


def _generator(words: str) -> torch.Generator:
    return torch.Generator().manual_seed(_number(words.encode()))


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1
