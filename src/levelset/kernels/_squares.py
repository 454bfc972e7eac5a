"""Adam's scales along a path, walked in either direction."""

from torch import Tensor

from levelset._recording._recording import Shard
from levelset.kernels._path import Path, Step

__all__ = ["Squares"]


class Squares:
    """The moving means of Adam's squared gradients, shard by shard, from the last to the first."""

    def __init__(self, path: Path) -> None:
        self._path, self._rule = path, path.recording.plan.rule
        self._starts: dict[int, Tensor | None] = {}
        squares: Tensor | None = None
        for shard in path.recording.shards():
            self._starts[shard.first] = squares
            for number in range(shard.numbers[0], shard.numbers[-1]):
                squares = self._next(squares, path.step(shard, number))

    def scales(self, shard: Shard) -> list[Tensor]:
        """Return what each step of a shard is multiplied by, `(p,)` each."""
        squares, scales = self._starts[shard.first], []
        for number in range(shard.numbers[0], shard.numbers[-1]):
            squares = self._next(squares, self._path.step(shard, number))
            scales.append(self._rule.scale(number, squares))
        return scales

    def _next(self, squares: Tensor | None, step: Step) -> Tensor:
        gradient = self._path.gradient(step)
        if not self._rule.decays_apart:
            gradient = gradient + self._rule.weight_decay * step.before
        return self._rule.squares(squares, gradient)
