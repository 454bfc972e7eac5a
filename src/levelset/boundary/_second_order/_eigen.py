"""Eigenvalues and trace of a Hessian, whole or restricted to the tangent space of a level set."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive, check_whole
from levelset.boundary._second_order._lanczos import Draw, lanczos, trace_beyond
from levelset.boundary._second_order._smoothing import Hessian, Part, Smoothing
from levelset.errors import ParameterError

__all__ = [
    "GRAPH",
    "Eigen",
    "Eigensolver",
    "Ends",
    "Exact",
    "Lanczos",
    "check_count",
    "check_memory",
    "choose_method",
    "draws",
    "eigen",
    "kept_numbers",
]

Ends: TypeAlias = Literal["top", "bottom", "both", "extreme"]

# The largest dimension whose matrix is formed when a few curvatures are requested.
_SMALL = 1024
# Matrices of one point alive together: products, symmetric part, restriction, vectors, work.
# Measured at d = 5,000: 7.0 with directions, 4.8 without.
_MATRICES = 7
# Most bytes for the matrices of one point.
_MEMORY = 4e9
# What a graph of second derivatives keeps for each number of a point, roughly, in layers.
GRAPH = 64
_PRODUCTS = "`SoftplusSurrogate(beta)` or `GaussianSmoothing(sigma)`, which need products only,"
# Numbers of the random draws of each purpose, so that none is used twice.
_LANCZOS_DRAWS, _TRACE_DRAWS = 1, 1_000_000


class Eigen(NamedTuple):
    """Eigenvalues, directions and trace at `m` points.

    `values` `(m, q)`, descending; `vectors` `(m, q, e)`; `error` `(m, q)`; `trace` and
    `trace_error` `(m,)`.
    """

    values: Tensor
    vectors: Tensor
    error: Tensor
    trace: Tensor
    trace_error: Tensor


class Eigensolver(ABC):
    """How eigenvalues are found: a frozen dataclass of its options.

    Attributes:
        forms_matrix: Whether it forms whole matrices, of at most `memory` bytes a point.
        draws: Whether it takes random numbers.
    """

    forms_matrix = False
    memory: float = _MEMORY
    draws = False

    def refuse(self, function: str, count: int | None, size: int) -> None:
        """Refuse a count of eigenvalues, of points of a size, that it cannot find."""
        del function, count, size

    @abstractmethod
    def numbers(self, size: int) -> int:
        """Return how many numbers it keeps for a point of a size."""

    @abstractmethod
    def solve(
        self, hessian: Hessian, unit: Tensor | None, part: Part, count: int | None, ends: Ends,
        *, directions: bool,
    ) -> Eigen:  # fmt: skip
        """Return eigenvalues of H, or of P H P where a unit normal is given."""


@checked
@dataclass(frozen=True)
class Exact(Eigensolver):
    """The matrix and all its eigenvalues: `d` products and an eigensolver of order d^3 a point.

    Attributes:
        memory: Most bytes for the matrices of one point.
    """

    memory: float = _MEMORY
    forms_matrix = True

    def __post_init__(self) -> None:
        """Check the limit."""
        check_positive("Exact", "memory", self.memory)

    def numbers(self, size: int) -> int:
        return _MATRICES * size**2

    def solve(
        self, hessian: Hessian, unit: Tensor | None, part: Part, count: int | None, ends: Ends,
        *, directions: bool,
    ) -> Eigen:  # fmt: skip
        matrix = hessian.dense()
        mirror = None if unit is None else _mirror(unit)
        if mirror is not None:
            matrix = _restrict(matrix, mirror)
        if directions:
            values, columns = torch.linalg.eigh(matrix)
            vectors = columns.flip(2).transpose(1, 2)
        else:
            values = torch.linalg.eigvalsh(matrix)
            vectors = matrix[:, :0]
        shown = _ends(values.flip(1), count, ends)
        values = values.flip(1).gather(1, shown)
        if directions:
            vectors = vectors.gather(1, shown.unsqueeze(2).expand(-1, -1, vectors.shape[2]))
        if mirror is not None:
            vectors = _extend(vectors, mirror)
        trace = matrix.diagonal(dim1=1, dim2=2).sum(1)
        known = hessian.trace(unit)
        error = torch.zeros_like(trace) if known is None else known[1]
        return Eigen(values, vectors, torch.zeros_like(values), trace, error)


@checked
@dataclass(frozen=True)
class Lanczos(Eigensolver):
    """The extreme eigenvalues and an estimate of the trace from Hessian-vector products.

    Attributes:
        products: Products for the eigenvalues, at least the count. On the networks measured four
            times the count gives four digits or more of those largest in size (`extreme`); those
            at one end (`top`, `bottom`) need six times: after four the worst was off by a sixth.
        mean_products: Products for the mean curvature; 0 to leave it out (NaN). Of
            `GaussianSmoothing` it comes free from the draws, without any.
    """

    products: int = 30
    mean_products: int = 60
    draws = True

    def __post_init__(self) -> None:
        """Check the numbers of products."""
        check_whole("Lanczos", "products", self.products)
        if self.mean_products != 0:
            check_whole("Lanczos", "mean_products", self.mean_products, at_least=2)

    def refuse(self, function: str, count: int | None, size: int) -> None:
        if count is None:
            message = (
                f"{function}: `count` must be given with Lanczos, got None: how many, at most?"
            )
            raise ParameterError(message)
        if self.products < min(count, size - 1):
            message = (
                f"{function}: Lanczos' `products` must be at least `count` ({count}), got "
                f"{self.products}."
            )
            raise ParameterError(message)

    def numbers(self, size: int) -> int:
        return (GRAPH + 2 * self.products) * size

    def solve(
        self, hessian: Hessian, unit: Tensor | None, part: Part, count: int | None, ends: Ends,
        *, directions: bool,
    ) -> Eigen:  # fmt: skip
        assert part.streams is not None, "Lanczos draws its start"
        assert count is not None, "Lanczos finds a few"
        draw = partial(part.streams.normal, part.rows, hessian.gradient.shape[1:])
        m, e = hessian.gradient.shape
        free = e if unit is None else e - 1
        steps = min(self.products, free)

        def product(vectors: Tensor) -> Tensor:
            image = hessian.product(vectors)
            if unit is None:
                return image
            return image - (image * unit).sum(1, keepdim=True) * unit

        ritz = lanczos(product, lambda number: draw(_LANCZOS_DRAWS + number), unit, steps)
        values, order = ritz.sharper.sort(dim=1, descending=True)
        shown = order.gather(1, _ends(values, count, ends))
        vectors = ritz.vectors[:, : steps if directions else 0]
        if directions:
            vectors = vectors.gather(1, shown.unsqueeze(2).expand(-1, -1, e))
        trace, error = ritz.values.sum(1), values.new_zeros(m)
        known = hessian.trace(unit)
        if known is not None:
            trace, error = known
        elif steps < free:
            span = ritz.basis if unit is None else torch.cat([ritz.basis, unit.unsqueeze(1)], dim=1)
            remainder, error = self._trace_beyond(hessian, span, draw)
            trace = trace + remainder
        away = ritz.residual + (ritz.sharper - ritz.values).abs()
        return Eigen(ritz.sharper.gather(1, shown), vectors, away.gather(1, shown), trace, error)

    def _trace_beyond(self, hessian: Hessian, span: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the trace outside the rows of `span`, and its standard error."""
        if self.mean_products == 0:
            nothing = span.new_full((len(span),), torch.nan)
            return nothing, nothing
        return trace_beyond(
            hessian.product, span, lambda number: draw(_TRACE_DRAWS + number), self.mean_products
        )


def choose_method(
    function: str,
    method: Eigensolver | None,
    count: int | None,
    smoothing: Smoothing,
    points: Tensor,
) -> Eigensolver:
    """Return the method that fits the size of the points, or say why there is none."""
    e = points.new_zeros(1, *points.shape[1:]).numel()
    if method is None:
        method = Exact() if count is None or e <= _SMALL else Lanczos(products=max(30, 6 * count))
    method.refuse(function, count, e)
    if smoothing.is_matrix:
        remedy = f"It needs them whatever is asked for: take {_PRODUCTS} with `count=`"
    else:
        remedy = "Let Lanczos find the extreme ones from products (`count=`, `method=None`)"
    if smoothing.is_matrix or method.forms_matrix:
        remedy += ", or allow more with `method=Exact(memory=...)`."
        check_memory(function, smoothing, points, remedy, method.memory)
    return method


def draws(method: Eigensolver, smoothing: Smoothing) -> bool:
    """Return whether measuring takes random numbers."""
    return smoothing.draws > 0 or method.draws


def kept_numbers(method: Eigensolver, smoothing: Smoothing, size: int) -> int:
    """Return how many numbers a point of a size keeps in memory while it is measured."""
    return method.numbers(size) + smoothing.memory(size)


def check_memory(
    function: str,
    smoothing: Smoothing,
    points: Tensor,
    remedy: str = f"It needs them whatever is asked for: take {_PRODUCTS[:-1]}.",
    most: float = _MEMORY,
) -> None:
    """Refuse matrices of more than `most` bytes a point, and say what can be done."""
    e = points.new_zeros(1, *points.shape[1:]).numel()
    needed = float(_MATRICES * e * e * points.element_size())
    if needed > most:
        message = (
            f"{function}: {smoothing.form} with d = {e:,} would take {needed / 1e9:,.1f} GB a "
            f"point for its matrices, more than the {most / 1e9:g} GB allowed. {remedy}"
        )
        raise ParameterError(message)


def check_count(function: str, count: int | None, ends: Ends, most: int) -> None:
    """Refuse a count or ends out of range."""
    if count is not None and not (isinstance(count, Integral) and 1 <= count <= most):
        message = (
            f"{function}: `count` must be an integer in 1 to {most:,}, or None for all, got "
            f"{count!r}."
        )
        raise ParameterError(message)
    if ends not in ("top", "bottom", "both", "extreme"):
        message = f"{function}: `ends` must be one of top, bottom, both, extreme, got {ends!r}."
        raise ParameterError(message)


def eigen(
    hessian: Hessian,
    unit: Tensor | None,
    part: Part,
    count: int | None,
    ends: Ends,
    method: Eigensolver,
    *,
    directions: bool,
) -> Eigen:
    """Return eigenvalues of H, or of P H P on the tangent space where a unit normal is given."""
    pairs = method.solve(hessian, unit, part, count, ends, directions=directions)
    return pairs._replace(vectors=_one_way(pairs.vectors))


def _one_way(vectors: Tensor) -> Tensor:
    """Return directions turned such that the number largest in size is positive."""
    if vectors.numel() == 0:
        return vectors
    largest = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)


def _ends(values: Tensor, count: int | None, ends: Ends) -> Tensor:
    """Return the places `(m, q)` of the requested ones among descending values `(m, s)`."""
    size = values.shape[1]
    places = torch.arange(size, device=values.device)
    if count is not None and ends == "extreme":
        return values.abs().argsort(dim=1, descending=True)[:, :count].sort(dim=1).values
    if count is not None:
        top, bottom = places < count, places >= size - count
        places = places[{"top": top, "bottom": bottom}.get(ends, top | bottom)]
    return places.expand(len(values), -1)


def _mirror(unit: Tensor) -> Tensor:
    """Return u `(m, e)` of the reflection I - 2uu^T that takes each normal to the first axis."""
    first = unit[:, 0]
    moved = unit.clone()
    moved[:, 0] += torch.where(first < 0, -1.0, 1.0)
    return moved / moved.norm(dim=1, keepdim=True)


def _restrict(matrix: Tensor, mirror: Tensor) -> Tensor:
    """Return the matrices in a basis of the tangent space, `(m, e - 1, e - 1)`."""
    u = mirror.unsqueeze(2)
    image = matrix @ u
    across = image - (u.transpose(1, 2) @ image) * u
    turned = matrix - 2.0 * (u @ across.transpose(1, 2) + across @ u.transpose(1, 2))
    return turned[:, 1:, 1:]


def _extend(vectors: Tensor, mirror: Tensor) -> Tensor:
    """Return tangent vectors `(m, q, e)` from their coordinates `(m, q, e - 1)`."""
    padded = torch.cat([torch.zeros_like(vectors[:, :, :1]), vectors], dim=2)
    weights = padded @ mirror.unsqueeze(2)
    return padded - 2.0 * weights * mirror.unsqueeze(1)
