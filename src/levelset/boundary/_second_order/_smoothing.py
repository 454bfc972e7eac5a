"""Ways to give a piecewise linear network a second derivative, as options that go with results."""

from dataclasses import dataclass
from typing import TypeAlias

from levelset._tools.arguments import checked
from levelset._tools.checks import check_positive, check_whole
from levelset.errors import ParameterError

__all__ = [
    "CentralDifference",
    "ForwardDifference",
    "GaussianSmoothing",
    "Smoothing",
    "SoftplusSurrogate",
    "check_smoothing",
]


@checked
@dataclass(frozen=True)
class CentralDifference:
    r"""The matrix of central differences of the gradient along the projected axes.

    $$G_{kl} = v_k^T\,\frac{\nabla F(x + h v_l) - \nabla F(x - h v_l)}{2h}, \qquad v_l = P e_l,$$

    made symmetric. On a ReLU network `h` sets the size of what is found: from 0.03 to 1 the
    largest curvatures of a LeNet change ten- to thirtyfold, so a number without its `h` says
    nothing. Rounding of the gradients adds noise of about their size times `eps / h`. It is a
    matrix and not an operator (a difference along another unit vector is another smoothing), and so
    it needs all `2 d` gradients of a point, whatever is asked of it.

    Attributes:
        h: Length of the shift, in the units of the points.
    """

    h: float

    def __post_init__(self) -> None:
        """Check the shift."""
        check_positive("CentralDifference", "h", self.h)

    @property
    def words(self) -> str:
        """What stands for the second derivative, as a reader of a page knows it."""
        return f"central differences with step {self.h:.3g}"


@checked
@dataclass(frozen=True)
class ForwardDifference:
    r"""The one-sided differences of Alonso and Bonin (procedure 3.1.2), to reproduce them.

    $$G_{kl} = v_k^T\,\frac{\nabla F(x + h v_l) - \nabla F(x)}{h}, \qquad v_l = P e_l,$$

    made symmetric. On ReLU networks it differs from the central form by about 100 %; prefer
    [`CentralDifference`][levelset.boundary.CentralDifference].

    Attributes:
        h: Length of the shift, in the units of the points.
    """

    h: float

    def __post_init__(self) -> None:
        """Check the shift."""
        check_positive("ForwardDifference", "h", self.h)

    @property
    def words(self) -> str:
        """What stands for the second derivative, as a reader of a page knows it."""
        return f"forward differences with step {self.h:.3g}"


@checked
@dataclass(frozen=True)
class SoftplusSurrogate:
    r"""The same weights with every ReLU replaced by $\log(1 + e^{\beta z})/\beta$.

    The Hessian of the surrogate is a linear operator, so Lanczos and traces work in any number of
    dimensions. `beta` sets the scale as `h` does: the surrogate rounds each kink over a width of
    about $1/\beta$ in the units of the pre-activations. Value, gradient and normal are the
    surrogate's too. ReLU and leaky ReLU are replaced wherever torch's functions are called; the
    module is not touched. Max-pooling stays: its winners at the point are taken as fixed.

    Attributes:
        beta: Sharpness; the ReLU is its limit at infinity.
    """

    beta: float

    def __post_init__(self) -> None:
        """Check the sharpness."""
        check_positive("SoftplusSurrogate", "beta", self.beta)

    @property
    def words(self) -> str:
        """What stands for the second derivative, as a reader of a page knows it."""
        return f"a softplus of sharpness {self.beta:.3g} for each ReLU"


@checked
@dataclass(frozen=True)
class GaussianSmoothing:
    r"""The Hessian of $F_\sigma(x) = E\,F(x + \sigma\varepsilon)$, from gradients alone.

    By Stein's lemma,

    $$\nabla^2 F_\sigma(x) = \tfrac{1}{\sigma} E[\varepsilon\,\nabla F(x + \sigma\varepsilon)^T].$$

    The mean runs over `draws` antithetic pairs and is made symmetric. A linear operator of rank at
    most twice the draws: single curvatures carry its noise (with fewer draws than dimensions they
    are mostly noise), the mean curvature comes with its standard error over the draws.

    Attributes:
        sigma: Standard deviation of the noise in each entry, in the units of the points.
        draws: Antithetic pairs a point.
    """

    sigma: float
    draws: int = 1000

    def __post_init__(self) -> None:
        """Check width and draws."""
        check_positive("GaussianSmoothing", "sigma", self.sigma)
        check_whole("GaussianSmoothing", "draws", self.draws, at_least=2)

    @property
    def words(self) -> str:
        """What stands for the second derivative, as a reader of a page knows it."""
        return f"Gaussian noise of standard deviation {self.sigma:.3g}"


Smoothing: TypeAlias = CentralDifference | ForwardDifference | SoftplusSurrogate | GaussianSmoothing

_ALL: tuple[type, ...] = (
    CentralDifference, ForwardDifference, SoftplusSurrogate, GaussianSmoothing,
)  # fmt: skip


def check_smoothing(
    function: str, smoothing: object, allowed: tuple[type, ...] = _ALL, *, optional: bool = False
) -> None:
    """Refuse what is not an instance of one of the `allowed` classes, or `None` if `optional`."""
    if isinstance(smoothing, allowed) or (optional and smoothing is None):
        return
    names = ", ".join(f"{kind.__name__}(...)" for kind in allowed)
    got = f"the class {smoothing.__name__}" if isinstance(smoothing, type) else repr(smoothing)
    message = (
        f"{function}: `smoothing` must be one of {names}{', or None' if optional else ''}, "
        f"got {got}."
    )
    raise ParameterError(message)
