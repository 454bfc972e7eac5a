"""Do the shares of training points predict what leaving points out does to a network?

On MNIST, with a fully connected network and with LeNet:

- removal: for each of some test images the 1 % of the training images with the largest positive
  shares in its logit are left out, the network is trained again from the same start with the same
  order of batches, and its logit compared with that after leaving out 1 % at random;
- halves: the linear datamodelling score of the TRAK paper (arXiv:2303.14186): networks are trained
  on random halves of the training images, several times each from other starts; for each test image
  the rank correlation, over the halves, of the mean logit with the sum of the shares of the half.

Beside `contributions` and `effects` of the kernel stand TracIn (captum), TRAK, and influence
functions (dattri), where they are installed. What has been trained is read again from the folder
`out`: a run that was stopped goes on.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from levelset.datasets import read_images
from levelset.networks import fc, lenet
from levelset.training import initialise

NETWORKS = {"fc": lambda: fc(784, 100, 10), "lenet": lenet}


@dataclass(frozen=True)
class Config:
    """What is run."""

    network: str = "fc"
    """`fc` (784-100-10) or `lenet`."""
    train: int = 5000
    """Training images."""
    test: int = 100
    """Test images."""
    epochs: int = 10
    """Passes over the training images."""
    batch: int = 50
    """Images a step."""
    learning_rate: float = 0.1
    """Of gradient descent."""
    halves: int = 50
    """Random halves of the training images."""
    retrainings: int = 10
    """Networks trained on each half."""
    out: Path = Path("runs/attribution")
    """Folder for what has been trained, config.json and result.json."""
    quick: bool = False
    """A small part of it."""


def trained(config: Config, points: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Return a network trained from a start and in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    network = initialise(NETWORKS[config.network](), generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate)
    for _ in range(config.epochs):
        order = torch.randperm(len(points), generator=generator)
        for rows in order.split(config.batch):
            optimizer.zero_grad()
            functional.cross_entropy(network(points[rows]), labels[rows]).backward()
            optimizer.step()
    return network


def half(config: Config, number: int) -> Tensor:
    """Return the training images of a random half, `(n / 2,)`."""
    generator = torch.Generator().manual_seed(1_000_000 + number)
    return torch.randperm(config.train, generator=generator)[: config.train // 2]


def logits_of_halves(config: Config, points: Tensor, labels: Tensor, tests: Tensor) -> Tensor:
    """Return the logits of all networks trained on halves, `(halves, retrainings, m, k)`."""
    path = config.out / f"halves-{config.network}.pt"
    known: dict[tuple[int, int], Tensor] = torch.load(path) if path.exists() else {}
    begin = time.process_time()
    for again in range(config.retrainings):
        for number in range(config.halves):
            if (number, again) in known:
                continue
            rows = half(config, number)
            network = trained(config, points[rows], labels[rows], 1000 * again + number)
            with torch.no_grad():
                known[number, again] = network(tests)
            torch.save(known, path)
        print(f"halves, {again + 1} times: {time.process_time() - begin:.0f} CPU s", flush=True)
    return torch.stack(
        [
            torch.stack([known[number, again] for again in range(config.retrainings)])
            for number in range(config.halves)
        ]
    )


def main(config: Config) -> None:
    """Run, print, and write the result."""
    if config.quick:
        config = replace(config, train=200, test=10, epochs=2, halves=4, retrainings=2)
    torch.set_num_threads(1)
    config.out.mkdir(parents=True, exist_ok=True)
    train = read_images("mnist", split="train", limit=config.train)
    test = read_images("mnist", split="test", limit=config.test)
    logits_of_halves(config, train.points, train.labels, test.points)
    settings = {**asdict(config), "out": str(config.out), "torch": torch.__version__}
    (config.out / "config.json").write_text(json.dumps(settings, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Config))
