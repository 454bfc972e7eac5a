"""How exact the path kernel is: networks by optimisers, and quadratures by nodes.

In float64, on random images, so that it needs no data. First the identity error (the largest
difference of the kernel's outputs and the network's) by `secant`, for every kind of network,
optimiser and batch; `breakpoints` on two layers; then Eq. 16's asymmetry as the steps get smaller,
and the error of the quadratures against their nodes.

    python benchmarks/path_kernel_exactness.py [--quick]
"""

import argparse
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from levelset.kernels import GaussLegendre, Midpoint, PathKernel
from levelset.networks import fc, lenet
from levelset.training import initialise, record


class Residual(nn.Module):
    """A convolution, BatchNorm, a residual sum, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 5, stride=3)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.last = nn.Linear(6 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        h = torch.relu(self.norm(self.first(x)))
        return self.last((h + torch.relu(self.second(h))).flatten(1))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(216, 10)
    )


NETWORKS = {
    "784-60-30-10": lambda: fc(784, 60, 30, 10), "LeNet": lenet, "max pooling": pooled,
    "BatchNorm, residual": Residual,
}  # fmt: skip
RULES: dict[str, dict[str, Any]] = {
    "SGD": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    "Adam": {"learning_rate": 1e-3, "optimizer": "adam", "weight_decay": 1e-3},
    "AdamW": {"learning_rate": 1e-3, "optimizer": "adamw", "weight_decay": 1e-2},
}
GENERATOR = torch.Generator().manual_seed(0)


def built(make: Any) -> nn.Module:
    network = initialise(make(), generator=GENERATOR).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1, generator=GENERATOR)
            module.running_var.uniform_(0.5, 2.0, generator=GENERATOR)
    return network


def images(count: int) -> tuple[Tensor, Tensor]:
    points = torch.rand(count, 1, 28, 28, generator=GENERATOR).double()
    return points, torch.randint(10, (count,), generator=GENERATOR)


def identity(count: int, steps: int) -> None:
    """Print the identity error of every network, optimiser and batch."""
    points, labels = images(count)
    tests, _ = images(8)
    print(f"identity error by secant, {steps} steps, {count} images, all / batches of {count // 3}")
    print(f"{'':<22}" + "".join(f"{name:>20}" for name in RULES))
    for name, make in NETWORKS.items():
        cells = []
        for options in RULES.values():
            pair = []
            for batch in (None, count // 3):
                with tempfile.TemporaryDirectory() as folder:
                    recording = record(
                        built(make), points, labels, steps=steps, batch_size=batch, folder=folder,
                        generator=GENERATOR, **options,
                    )  # fmt: skip
                    kernel = PathKernel(recording, points, labels)
                    both = kernel.predict(tests), kernel.contributions(tests)
                    pair.append(max(each.identity_error for each in both))
            cells.append(f"{pair[0]:.1e} / {pair[1]:.1e}")
        print(f"{name:<22}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def quadratures(count: int, steps: int) -> None:
    """Print the error of the quadratures against their nodes, and that of the exact forms."""
    points, labels = images(count)
    tests, _ = images(10)
    for activation, nodes in ((nn.ReLU, (1, 2, 4, 8, 16, 32, 100)), (nn.Tanh, (1, 2, 3, 4, 8))):
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 50), activation(), nn.Linear(50, 10)
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            recording = record(
                built(lambda network=network: network), points, labels, steps=steps,
                learning_rate=0.3, folder=folder,
            )  # fmt: skip
            print(f"784-50-10, {activation.__name__}, rate 0.3, {steps} steps: identity error")
            exact = ("secant", "breakpoints") if activation is nn.ReLU else ("secant",)
            for integral in exact:
                kernel = PathKernel(recording, points, labels, integral=integral)
                print(f"  {integral:<12} {kernel.predict(tests).identity_error:.1e}")
            print(f"  {'nodes':<6}{'midpoint':>12}{'Gauss-Legendre':>16}")
            for number in nodes:
                errors = [
                    PathKernel(recording, points, labels, integral=rule(number))
                    .predict(tests)
                    .identity_error
                    for rule in (Midpoint, GaussLegendre)
                ]
                print(f"  {number:<6}{errors[0]:>12.1e}{errors[1]:>16.1e}", flush=True)


def asymmetry(count: int, lengths: tuple[int, ...]) -> None:
    """Print Eq. 16's asymmetry, and what lemma 14.4 says of Eq. 11, as the steps get smaller."""
    points, labels = images(count)
    start = built(lambda: fc(784, 50, 10)).state_dict()
    for steps in lengths:
        network = fc(784, 50, 10).double()
        network.load_state_dict(start)
        with tempfile.TemporaryDirectory() as folder:
            recording = record(
                network, points, labels, steps=steps, learning_rate=3.0 / steps, folder=folder
            )
            kernel = PathKernel(recording, points, labels)
            tests = torch.cat([points[:5], images(15)[0]])
            gram = kernel.gram(tests)
            values = torch.linalg.eigvalsh((gram + gram.T) / 2)
            print(
                f"rate {3.0 / steps:.4f}: asymmetry of Eq. 16 {kernel.asymmetry(tests):.1e}; "
                f"Eq. 11: |K - K^T| {float((gram - gram.T).abs().max()):.1e}, least eigenvalue "
                f"{float(values[0]):.1e} of {float(values[-1]):.1e}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a part of the work")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    identity(12 if quick else 30, 3 if quick else 10)
    asymmetry(30, (10, 40) if quick else (10, 40, 160))
    quadratures(30 if quick else 100, 5 if quick else 50)


if __name__ == "__main__":
    main()
