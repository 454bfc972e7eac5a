"""Robust accuracy at a radius beside torchattacks' AutoAttack, in one process and one thread.

On the first images of MNIST and the three released networks, L-infinity, radius 0.3: what each
leaves standing, CPU seconds, and forward-equivalents an image, in which a gradient counts as two
further forward passes. Needs LEVELSET_DATA; without torchattacks the peer is left out, and that
is said.
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from levelset.boundary import robust_accuracy
from levelset.datasets import load_model, read_images

NETWORKS = ("xent", "madry-eps0.3", "ours-eps0.4")
RADIUS = 0.3
ROWS = 100


class Counted(nn.Module):
    """A model that counts the rows it is given, and those that are differentiated."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.forwards, self.gradients = model, 0, 0

    def forward(self, points: Tensor) -> Tensor:
        self.forwards += len(points)
        self.gradients += len(points) if points.requires_grad else 0
        return self.model(points)


def peer(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor | None:
    """Return which inputs AutoAttack leaves standing, or None if it is not installed."""
    try:
        import torchattacks
    except ImportError:
        return None
    attack = torchattacks.AutoAttack(model, norm="Linf", eps=RADIUS, n_classes=10, seed=0)
    masks = []
    for images, classes in zip(points.split(ROWS), labels.split(ROWS), strict=True):
        made = attack(images, classes)
        inside = ((made - images).abs() <= RADIUS + 1e-6).flatten(1).all(1)
        masks.append((model(made).argmax(1) == classes) | ~inside)
    return torch.cat(masks)


def ours(model: nn.Module, points: Tensor, labels: Tensor, effort: str) -> Tensor:
    """Return which inputs our cascade leaves standing."""
    return robust_accuracy(model, points, labels, radius=RADIUS, effort=effort).robust


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--without-peer", action="store_true")
    arguments = parser.parse_args()
    if not os.environ.get("LEVELSET_DATA"):
        print("Needs the released networks: set LEVELSET_DATA.")
        return
    torch.set_num_threads(1)
    images = read_images("mnist", limit=arguments.limit)
    print(f"{'network':14} {'method':12} {'standing':>9} {'fwd-eq':>8} {'CPU s':>8}")
    methods = ["quick", "standard", "thorough"] + ["AutoAttack"] * (not arguments.without_peer)
    for name in arguments.networks:
        folder = Path(os.environ["LEVELSET_DATA"]) / "networks"
        model = load_model("convnet_4a", folder / f"mnist-convnet4a-{name}.safetensors").eval()
        for parameter in model.parameters():
            parameter.requires_grad_(requires_grad=False)
        for method in methods:
            counted = Counted(model)
            clock = time.process_time()
            if method == "AutoAttack":
                stands = peer(counted, images.points, images.labels)
            else:
                stands = ours(counted, images.points, images.labels, method)
            if stands is None:
                print("torchattacks is not installed: AutoAttack is left out.")
                continue
            cost = (counted.forwards + 2 * counted.gradients) / len(images.points)
            share, seconds = 100 * float(stands.double().mean()), time.process_time() - clock
            print(f"{name:14} {method:12} {share:7.2f} % {cost:8.0f} {seconds:8.0f}", flush=True)


if __name__ == "__main__":
    main()
