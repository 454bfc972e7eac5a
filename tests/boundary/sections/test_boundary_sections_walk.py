"""Nodes of a network at places that each layer adds to."""

import pytest
import torch
from torch import Tensor, nn

from levelset._relaxation._piecewise import read_piecewise
from levelset._relaxation._program import Node
from levelset.boundary._sections._walk import Walk


class Fixed(Walk):
    """Places on a segment that stay as they are, and the kinks met on the way."""

    def __init__(self, program, basis: Tensor, knots: Tensor) -> None:
        super().__init__(program, basis, basis[:1].abs() + basis[1:].abs())
        self.knots = knots
        self.kinks: list[tuple[float, ...]] = []

    def values(self, node: int) -> Tensor:
        if node not in self._known:
            base, way = self._flat[node]
            self._known[node] = base + self.knots.view(-1, *[1] * base.dim()) * way
        return self._known[node]

    def bend(self, step: Node) -> None:
        self.kinks.append(step.operation.kinks or ())


class Branches(nn.Module):
    """A sum of two branches, of which one goes round the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(nn.functional.leaky_relu(y, 0.2) + y)


@pytest.mark.parametrize(
    ("network", "kinks"),
    [
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), [(0.0,)]),
        (nn.Sequential(nn.Linear(4, 6), nn.Hardtanh(), nn.Linear(6, 3)), [(-1.0, 1.0)]),
        (Branches(), [(0.0,)]),
    ],
)
def test_nodes_are_what_the_network_computes(settled, noise, network, kinks):
    network = settled(network).double()
    start, end = noise(1, 4), noise(1, 4)
    with torch.no_grad():
        program = read_piecewise("test", network, start, network(start), "")
        knots = torch.linspace(0, 1, 7, dtype=torch.float64)
        walk = Fixed(program, torch.cat([start, end - start]), knots)
        outputs = walk.run()
        expected = network(start + knots.unsqueeze(1) * (end - start))
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    assert walk.kinks == kinks
    assert set(walk._known) == {program.output}  # what no later step takes is dropped
    assert (walk.sizes[program.output] >= outputs.abs().amax(0) * (1 - 1e-12)).all()
