r"""A model at two states of its weights at once, and what its outputs change with in between.

A model is run on pairs of values, before and after a step of the weights. Beside each pair goes
its *tangent*: a tensor of zeros with a graph, through which the change of the outputs is carried
back to each layer. Between the two states a layer is replaced by a linear map that is exact for
this pair:

* a product of weights and values changes by the mean weights times the change of the values, and
  by the mean values times the change of the weights;
* an activation changes by its secant slope (f(b) - f(a)) / (b - a);
* a maximum, by the entries that are the largest before and after, so weighted that it comes out;
* sums, means, shapes are linear as they are.

So the sum over all weights of this *secant gradient* times their change is the change of the
outputs, by algebra, at any depth. Where both states are one, it is the gradient.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from levelset.fields import Classifier
from levelset.kernels._blocks import Block, Dense
from levelset.kernels._pairs import Pair, Reader, UnknownLayerError, Use, pair
from levelset.kernels._rules import RULES, move

__all__ = ["Tangent", "run"]


class Tangent:
    """The outputs of a model at two states of its weights, and their secant gradient.

    Attributes:
        before: Outputs with the first weights, `(n, k)`.
        after: With the second.
    """

    def __init__(self, out: Pair, uses: list["Use"]) -> None:
        matrix = move(lambda t: t.unsqueeze(1), out) if out.dim() == 1 else out
        self.before, self.after, self._tangent = matrix.before, matrix.after, matrix.tangent
        self._uses = uses

    def folded(self, factors: Tensor) -> list[Block]:
        """Return the gradient of each row's outputs times its factors, `(n, k)`."""
        return _merged(
            [use.block(d) for use, d in zip(self._uses, self._back(factors), strict=True)]
        )

    def each(self) -> list[Block]:
        """Return the gradient of each of the k outputs."""
        n, k = self.before.shape
        unit = torch.eye(k, dtype=self.before.dtype, device=self.before.device)
        rows = [self._back(unit[c].expand(n, k)) for c in range(k)]
        each = [torch.stack(parts, 1) for parts in zip(*rows, strict=True)]
        return _merged([use.block(d) for use, d in zip(self._uses, each, strict=True)])

    def _back(self, factors: Tensor) -> list[Tensor]:
        probes = [use.probe for use in self._uses]
        if self._tangent is None or not probes:
            return [torch.zeros_like(probe) for probe in probes]
        return list(torch.autograd.grad(
            self._tangent, probes, factors, retain_graph=True, allow_unused=True,
            materialize_grads=True,
        ))  # fmt: skip


def run(
    model: nn.Module,
    before: dict[str, Tensor],
    after: dict[str, Tensor],
    points: Tensor,
    rules: Mapping[Any, Any] = RULES,
) -> Tangent:
    """Run a model on points with two states of its weights.

    Args:
        model: In evaluation mode.
        before: The first state of the weights that count, by their names.
        after: The second; the same object for the gradient at one state.
        points: `(n, *d)`.
        rules: What each function makes of pairs.

    Raises:
        UnknownLayerError: If the model calls a function that has no rule.
    """
    reader = Reader(model, before, after, len(points), rules)
    with torch.enable_grad(), reader:
        out = _call(model, pair(points, points, None))
    if not isinstance(out, Pair):
        message = f"an output of the type {type(out).__name__}"
        raise UnknownLayerError(message)
    return Tangent(out, reader.uses)


def _call(model: nn.Module, points: Any) -> Any:
    """Call a model; one that a `Classifier` only normalises points for, without its checks."""
    if isinstance(model, Classifier) and model.reader.is_plain:
        return model.model(model.normalised(points))
    return model(points)


def _merged(blocks: list[Block]) -> list[Block]:
    """Return one block a weight: the gradients of all its uses are added."""
    merged: dict[tuple[str, ...], Block] = {}
    for block in blocks:
        known = merged.get(block.names)
        both = None if known is None else known.dense().values + block.dense().values
        merged[block.names] = block if both is None else Dense(block.names, both)
    names = [name for key in merged for name in key]
    if len(names) != len(set(names)):
        raise UnknownLayerError("a weight that is used with two biases")
    return list(merged.values())
