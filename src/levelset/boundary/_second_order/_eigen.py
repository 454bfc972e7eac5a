"""Eigenvalues and trace of a Hessian, whole or restricted to the tangent space of a level set."""

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
    "Ends",
    "Exact",
    "Lanczos",
    "Method",
    "check_count",
    "check_memory",
    "choose_method",
    "draws",
    "eigen",
    "kept_numbers",
]

Ends: TypeAlias = Literal["top", "bottom", "both", "extreme"]

# The largest dimension whose matrix is formed when a few curvatures are asked for.
_SMALL = 1024
# Matrices of one point alive together: products, symmetric part, restriction, vectors, work.
# Measured at d = 5,000: 7.0 with directions, 4.8 without.
_MATRICES = 7
# What a graph of second derivatives keeps for each number of a point, roughly, in layers.
GRAPH = 64
_PRODUCTS = "`SoftplusSurrogate(beta)` or `GaussianSmoothing(sigma)`, which need products only,"
# Numbers of the random draws of each purpose, so that none is used twice.
_LANCZOS_DRAWS, _TRACE_DRAWS = 1, 1_000_000


@checked
@dataclass(frozen=True)
class Exact:
    """The matrix and all its eigenvalues: `d` products and an eigensolver of order d^3 a point.

    Attributes:
        memory: Most bytes for the matrices of one point.
    """

    memory: float = 4e9

    def __post_init__(self) -> None:
        """Check the limit."""
        check_positive("Exact", "memory", self.memory)


@checked
@dataclass(frozen=True)
class Lanczos:
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

    def __post_init__(self) -> None:
        """Check the numbers of products."""
        check_whole("Lanczos", "products", self.products)
        if self.mean_products != 0:
            check_whole("Lanczos", "mean_products", self.mean_products, at_least=2)


Method: TypeAlias = Exact | Lanczos


class Eigen(NamedTuple):
    """What was found for `m` points.

    `values` `(m, q)`, descending; `vectors` `(m, q, e)`; `error` `(m, q)`; `trace` and
    `trace_error` `(m,)`.
    """

    values: Tensor
    vectors: Tensor
    error: Tensor
    trace: Tensor
    trace_error: Tensor


def choose_method(
    function: str,
    method: Method | None,
    count: int | None,
    smoothing: Smoothing,
    points: Tensor,
) -> Method:
    """Return the method that fits the size of the points, or say why there is none."""
    e = points.new_zeros(1, *points.shape[1:]).numel()
    if method is None:
        method = Exact() if count is None or e <= _SMALL else Lanczos(products=max(30, 6 * count))
    if not isinstance(method, Exact | Lanczos):
        message = f"{function}: `method` must be Exact(...), Lanczos(...), or None, got {method!r}."
        raise ParameterError(message)
    if isinstance(method, Lanczos) and count is None:
        message = f"{function}: `count` must be given with Lanczos, got None: how many, at most?"
        raise ParameterError(message)
    if isinstance(method, Lanczos) and count is not None and method.products < min(count, e - 1):
        message = (
            f"{function}: Lanczos' `products` must be at least `count` ({count}), got "
            f"{method.products}."
        )
        raise ParameterError(message)
    if smoothing.is_matrix:
        remedy = f"It needs them whatever is asked for: take {_PRODUCTS} with `count=`"
    else:
        remedy = "Let Lanczos find the extreme ones from products (`count=`, `method=None`)"
    if smoothing.is_matrix or isinstance(method, Exact):
        most = method.memory if isinstance(method, Exact) else Exact.memory
        remedy += ", or allow more with `method=Exact(memory=...)`."
        check_memory(function, smoothing, points, remedy, most)
    return method


def draws(method: Method, smoothing: Smoothing) -> bool:
    """Return whether measuring takes random numbers."""
    return smoothing.draws > 0 or not isinstance(method, Exact)


def kept_numbers(method: Method, smoothing: Smoothing, size: int) -> int:
    """Return how many numbers a point of a size keeps in memory while it is measured."""
    own = _MATRICES * size**2 if isinstance(method, Exact) else (GRAPH + 2 * method.products) * size
    return own + smoothing.memory(size)


def check_memory(
    function: str,
    smoothing: Smoothing,
    points: Tensor,
    remedy: str = f"It needs them whatever is asked for: take {_PRODUCTS[:-1]}.",
    most: float = Exact.memory,
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
    method: Method,
    *,
    directions: bool,
) -> Eigen:
    """Return eigenvalues of H, or of P H P on the tangent space where a unit normal is given."""
    if isinstance(method, Exact):
        found = _exact(hessian, unit, count, ends, directions)
    else:
        assert part.streams is not None, "Lanczos draws its start"
        assert count is not None, "Lanczos finds a few"
        draw = partial(part.streams.normal, part.rows, hessian.gradient.shape[1:])
        found = _few(hessian, unit, draw, count, ends, method, directions)
    return found._replace(vectors=_one_way(found.vectors))


def _one_way(vectors: Tensor) -> Tensor:
    """Return directions turned such that the number largest in size is positive."""
    if vectors.numel() == 0:
        return vectors
    largest = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)


def _exact(
    hessian: Hessian, unit: Tensor | None, count: int | None, ends: Ends, directions: bool
) -> Eigen:
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


def _few(
    hessian: Hessian, unit: Tensor | None, draw: Draw, count: int, ends: Ends,
    method: Lanczos, directions: bool,
) -> Eigen:  # fmt: skip
    m, e = hessian.gradient.shape
    free = e if unit is None else e - 1
    steps = min(method.products, free)

    def product(vectors: Tensor) -> Tensor:
        image = hessian.product(vectors)
        if unit is None:
            return image
        return image - (image * unit).sum(1, keepdim=True) * unit

    found = lanczos(product, lambda number: draw(_LANCZOS_DRAWS + number), unit, steps)
    values, order = found.sharper.sort(dim=1, descending=True)
    shown = order.gather(1, _ends(values, count, ends))
    vectors = found.vectors[:, : steps if directions else 0]
    if directions:
        vectors = vectors.gather(1, shown.unsqueeze(2).expand(-1, -1, e))
    trace, error = found.values.sum(1), values.new_zeros(m)
    known = hessian.trace(unit)
    if known is not None:
        trace, error = known
    elif steps < free:
        held = found.basis if unit is None else torch.cat([found.basis, unit.unsqueeze(1)], dim=1)
        rest, error = _rest(hessian, held, draw, method)
        trace = trace + rest
    away = found.residual + (found.sharper - found.values).abs()
    return Eigen(found.sharper.gather(1, shown), vectors, away.gather(1, shown), trace, error)


def _rest(hessian: Hessian, held: Tensor, draw: Draw, method: Lanczos) -> tuple[Tensor, Tensor]:
    """Return the trace outside the rows of `held`, and its standard error."""
    if method.mean_products == 0:
        nothing = held.new_full((len(held),), torch.nan)
        return nothing, nothing
    return trace_beyond(
        hessian.product, held, lambda number: draw(_TRACE_DRAWS + number), method.mean_products
    )


def _ends(values: Tensor, count: int | None, ends: Ends) -> Tensor:
    """Return the places `(m, q)` of those that are asked for among descending values `(m, s)`."""
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
