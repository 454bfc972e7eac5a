"""How a reconstruction is done: fast and free in its means, or as the paper did it."""

from dataclasses import dataclass

from levelset._tools.arguments import checked
from levelset._tools.checks import check_at_least_one, check_batch_size, check_positive
from levelset.errors import ParameterError

__all__ = ["Fast", "Paper"]

_GRIDS = (32, 64, 128, 256)


@checked
@dataclass(frozen=True)
class Fast:
    """The default, free in its means.

    Attributes:
        grid: Cells a side of the finest grid of a surface's field: 32, 64, 128, 256. Fewer are
            taken where the points are far apart. Curves need none.
        seconds: Wall-clock time to stay within; `None` for the method's own.
    """

    grid: int = 128
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if self.grid not in _GRIDS:
            message = f"Fast: `grid` must be one of {', '.join(map(str, _GRIDS))}, got {self.grid}."
            raise ParameterError(message)
        _check_seconds("Fast", self.seconds)


@checked
@dataclass(frozen=True)
class Paper:
    r"""Training with the level sets' distances, as Atzmon et al. 2019 published it.

    The values are those of section 5.3 and supplement 2.4, with Eq. 13 as the loss. Where they
    leave something open, the released code decides: batches of 10,000 points, p = 1, and weights
    drawn so that the network begins as the distance from a sphere.

    Attributes:
        epochs: How often each point is seen.
        batch_size: Most points of the cloud a step.
        learning_rate: Of Adam.
        halve_at: Epochs after which the learning rate is halved.
        weight: First and last value of the factor lambda in Eq. 13.
        weight_epochs: Epochs over which lambda grows, linearly.
        sigma: Standard deviation of the noise that is added to the points for starts, in units of
            the cloud's radius.
        iterations: Most Newton steps of the projection on the zero level set.
        lifetime: Steps of training for which a sample of the zero level set is used. It follows
            its level set from step to step by one Newton step that costs nothing, as it is part
            of attaching it. At 1, each is used once, as published; that costs twice as much.
        power: The exponent p of Eq. 13.
        seconds: Wall-clock time to stay within; `None` for all epochs. The published network
            takes CPU-days for all epochs of a scan.
    """

    epochs: int = 5_000
    batch_size: int = 10_000
    learning_rate: float = 1e-3
    halve_at: tuple[int, ...] = (500, 1_500, 3_500)
    weight: tuple[float, float] = (1.0, 5.0)
    weight_epochs: int = 1_000
    sigma: float = 0.1
    iterations: int = 10
    lifetime: int = 10
    power: float = 1.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("epochs", "weight_epochs", "lifetime", "iterations"):
            check_at_least_one("Paper", name, getattr(self, name))
        check_batch_size("Paper", self.batch_size)
        check_positive("Paper", "learning_rate", self.learning_rate)
        check_positive("Paper", "sigma", self.sigma)
        if not min(self.weight) >= 0:
            message = f"Paper: `weight` must be two numbers of at least 0, got {self.weight}."
            raise ParameterError(message)
        check_at_least_one("Paper", "power", self.power)
        _check_seconds("Paper", self.seconds)

    @checked
    def weight_at(self, epoch: int) -> float:
        """Return lambda after some epochs."""
        share = min(epoch / self.weight_epochs, 1.0)
        return self.weight[0] + share * (self.weight[1] - self.weight[0])

    @checked
    def rate_at(self, epoch: int) -> float:
        """Return the learning rate after some epochs."""
        return float(self.learning_rate * 0.5 ** sum(epoch >= mark for mark in self.halve_at))


def _check_seconds(name: str, seconds: float | None) -> None:
    if seconds is not None:
        check_positive(name, "seconds", seconds)
