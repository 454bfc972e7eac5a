"""What second derivatives cannot be taken of, or say nothing, refused with its points."""

import torch
from torch import Tensor

from levelset._tools.checks import first_rows
from levelset.boundary._second_order._lanczos import Product
from levelset.errors import FieldError, ParameterError

__all__ = ["check_bent", "check_gradient", "check_shift", "one_equation", "probe"]


# Below this many units of rounding a number is taken for rounding.
_ROUNDING = 100.0
# How far rounding may lie above what products of sums, less the sums of products, show of it.
_NOISE = 30.0


def one_equation(function: str, out: Tensor, points: Tensor) -> Tensor:
    """Return the values `(m,)` of a field of one equation, in the dtype of the points."""
    if out.shape == (len(points), 1):
        out = out[:, 0]
    if out.shape != (len(points),):
        message = (
            f"{function}: `field` must return one value a point, ({len(points)},), got "
            f"{tuple(out.shape)}. Of a classifier take Margin or LogitDifference."
        )
        raise FieldError(message)
    return out.to(points.dtype)


def check_shift(function: str, points: Tensor, name: str, shift: float) -> None:
    """Refuse shifts that the dtype of the points would round by a tenth or more."""
    least = 5.0 * torch.finfo(points.dtype).eps * float(points.abs().max())
    if shift < least:
        message = (
            f"{function}: `{name}` must be at least {least:.2g} for points of {points.dtype} with "
            f"entries up to {float(points.abs().max()):.3g}, got {shift:g}, which is lost in their "
            "rounding. Take a larger one, or give points and model in float64."
        )
        raise ParameterError(message)


def check_gradient(function: str, gradient: Tensor, rows: Tensor) -> None:
    """Refuse points where the gradient vanishes or is not finite: no surface passes there."""
    length = gradient.norm(dim=1)
    bad = ~(length > torch.finfo(gradient.dtype).tiny ** 0.5) | ~length.isfinite()
    if not bad.any():
        return
    message = (
        f"{function}: `field` must have a gradient at each point, but it vanishes or is not finite "
        f"at {_shown(bad, rows)}: they lie on no level surface. Project the points first, or leave "
        "these out."
    )
    raise FieldError(message)


def probe(
    function: str, gradient: Tensor, product: Product, rows: Tensor, unit: Tensor | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return two vectors a point, tangent where a unit normal is given, and their products.

    No symmetric matrix but zero is likely to annihilate both, and none hides an entry from them:
    second derivatives that are not finite are refused.
    """
    ramp = torch.linspace(1.0, 2.0, gradient.shape[1]).to(gradient)
    ramp[1::3] *= -1.0
    vectors = [(side / ramp.norm()).expand_as(gradient) for side in (ramp, ramp.flip(0))]
    if unit is not None:
        vectors = [_tangential(vector, unit) for vector in vectors]
    images = [product(vector) for vector in vectors]
    bad = ~torch.cat(images, dim=1).isfinite().all(1)
    if bad.any():
        message = (
            f"{function}: the second derivative must be finite, got NaN or infinity at "
            f"{_shown(bad, rows)}. Move these off the kink, or give "
            "`smoothing=CentralDifference(h)`, which needs the gradient only."
        )
        raise FieldError(message)
    return vectors, images


def check_bent(function: str, gradient: Tensor, product: Product, rows: Tensor) -> None:
    r"""Refuse points where the level set is flat to rounding: P H P = 0.

    That of a ReLU network is, also with a sigmoid or a softmax of two classes on top, whose Hessian
    $\varphi''\,\nabla f\,\nabla f^T$ is not zero but has no part along the level set. So rounding
    is measured against the Hessian itself, and, where that is rounding too (as of a softmax) by how
    far its products are from linear.
    """
    slope = gradient.norm(dim=1)
    unit = gradient / slope.unsqueeze(1)
    vectors, images = probe(function, gradient, product, rows, unit)
    eps = torch.finfo(gradient.dtype).eps
    size = torch.stack([_tangential(image, unit).norm(dim=1) for image in images]).sum(0)
    flat = size <= _ROUNDING * eps * torch.stack(images).norm(dim=2).sum(0)
    doubtful = ~flat & (size <= eps**0.5 * slope.square())
    if doubtful.any():
        noise = torch.zeros_like(size)
        for weight in (1.0, -1.0, 0.7):  # the rounding of one alone may be nothing by chance
            off = product(vectors[0] + weight * vectors[1]) - images[0] - weight * images[1]
            noise += _tangential(off, unit).norm(dim=1)
        flat |= doubtful & ((size <= _NOISE * noise) | (noise == 0))
    if not flat.any():
        return
    message = (
        f"{function}: the Hessian of `field` is identically zero along the level set at "
        f"{_shown(flat, rows)}, as that of a ReLU network is almost everywhere, or that of a field "
        "whose backward pass cannot itself be differentiated. Say what stands for it: "
        "`smoothing=CentralDifference(h)`, `GaussianSmoothing(sigma)`, `ForwardDifference(h)`, or "
        "of a ReLU network `SoftplusSurrogate(beta)`; the result depends on the choice. (A level "
        "set that is flat, as of a field that is linear, has no curvature to measure.)"
    )
    raise FieldError(message)


def _tangential(vectors: Tensor, unit: Tensor) -> Tensor:
    return vectors - (vectors * unit).sum(1, keepdim=True) * unit


def _shown(bad: Tensor, rows: Tensor) -> str:
    """Return how many of the points are bad, and the first in the numbering of all points."""
    mask = torch.zeros(int(rows.max()) + 1, dtype=torch.bool, device=bad.device)
    mask[rows[bad]] = True
    return f"{int(bad.sum())} of these {len(bad)} points (first: {first_rows(mask)})"
