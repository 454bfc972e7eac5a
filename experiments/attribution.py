"""Do the shares of training points tell what leaving points out does to a network?

On MNIST, with 784-100-10 or LeNet, trained by gradient descent on small batches:

- removal: for each of some test images, the 1 % of the training images with the largest positive
  shares in its logit are left out, and the network is trained again with the same start and the
  same batches but for them; how far the logit falls, beside 1 % left out at random.
- halves: the linear datamodelling score of the TRAK paper (arXiv:2303.14186). Networks are trained
  on random halves of the training images, several on each, each with a start of its own; for each
  test image, the rank correlation over the halves of the mean logit with the sum of the scores of
  the half.

Scores are `contributions` and `effects` of the kernel, and, where dattri is installed, TracIn, TRAK
and influence functions (EK-FAC), at the same networks. Each is timed. What has been trained lies in
`out`, from which a run that was stopped goes on.
"""

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from levelset.datasets import read_images
from levelset.kernels import PathKernel, effects
from levelset.networks import fc, lenet
from levelset.training import Recording, initialise, record

NETWORKS: dict[str, Callable[[], nn.Module]] = {"fc": lambda: fc(784, 100, 10), "lenet": lenet}


@dataclass(frozen=True)
class Config:
    """What is run."""

    network: str = "fc"
    """`fc` (784-100-10) or `lenet`."""
    train: int = 5000
    """Training images."""
    test: int = 50
    """Test images."""
    epochs: int = 5
    """Passes over the training images."""
    batch: int = 50
    """Images a step."""
    learning_rate: float = 0.1
    """Of gradient descent."""
    halves: int = 50
    """Random halves of the training images."""
    retrainings: int = 4
    """Networks trained on each half."""
    models: int = 1
    """Networks whose scores are averaged."""
    out: Path = Path("runs/attribution")
    """Folder for what has been trained, config.json and result.json."""
    quick: bool = False
    """A small part of it."""


@dataclass(frozen=True)
class Data:
    """Training and test images."""

    points: Tensor
    labels: Tensor
    tests: Tensor
    classes: Tensor


def read(config: Config) -> Data:
    """Return the images."""
    train = read_images("mnist", split="train", limit=config.train)
    test = read_images("mnist", split="test", limit=config.test)
    return Data(train.points, train.labels, test.points, test.labels)


def fresh(config: Config, seed: int) -> tuple[nn.Module, torch.Generator]:
    """Return a network at the start of its training, and what draws its batches."""
    generator = torch.Generator().manual_seed(seed)
    return initialise(NETWORKS[config.network](), generator=generator), generator


def fit(config: Config, data: Data, network: nn.Module, batches: list[Tensor]) -> Tensor:
    """Train a network on batches; return the logits of the classes of the test images, `(m,)`."""
    optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate)
    for rows in batches:
        optimizer.zero_grad()
        functional.cross_entropy(network(data.points[rows]), data.labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return network(data.tests).gather(1, data.classes.unsqueeze(1))[:, 0]


def half(config: Config, number: int) -> Tensor:
    """Return a random half of the training images, `(n / 2,)`."""
    generator = torch.Generator().manual_seed(1_000_000 + number)
    return torch.randperm(config.train, generator=generator)[: config.train // 2]


def kept(path: Path, number: int, make: Callable[[int], Tensor]) -> Tensor:
    """Return `number` tensors in a stack, made one by one, or read from a file."""
    known: list[Tensor] = torch.load(path) if path.exists() else []
    while len(known) < number:
        known.append(make(len(known)))
        if len(known) % 10 == 0 or len(known) == number:
            torch.save(known, path)
    return torch.stack(known[:number])


def logits_of_halves(config: Config, data: Data) -> Tensor:
    """Return the mean logit of the networks trained on each half, `(halves, m)`."""

    def make(index: int) -> Tensor:
        network, generator = fresh(config, 10_000 + index)
        rows = half(config, index % config.halves)
        batches = [
            rows[part]
            for _ in range(config.epochs)
            for part in torch.randperm(len(rows), generator=generator).split(config.batch)
        ]
        return fit(config, data, network, batches)

    number = config.halves * config.retrainings
    every = kept(config.out / f"halves-{config.network}.pt", number, make)
    return every.view(config.retrainings, config.halves, -1).mean(0)


def recorded(config: Config, data: Data, seed: int, folder: str) -> tuple[Recording, list[Tensor]]:
    """Return a recorded training, and its batches."""
    network, generator = fresh(config, seed)
    recording = record(
        network, data.points, data.labels, steps=config.epochs * -(-config.train // config.batch),
        learning_rate=config.learning_rate, batch_size=config.batch, folder=folder,
        generator=generator,
    )  # fmt: skip
    batches = [
        shard.batch(number)
        for shard in recording.shards()
        for number in range(shard.numbers[0], shard.numbers[-1])
    ]
    return recording, [batch for batch in batches if batch is not None]


def shares_of(kernel: PathKernel, data: Data) -> Tensor:
    """Return the shares in the logit of each test image's class, `(m, n)`."""
    shares = kernel.contributions(data.tests).shares
    return shares[torch.arange(len(data.tests)), data.classes]


Function = Callable[[dict[str, Tensor], tuple[Tensor, Tensor]], Tensor]


def functions_of(model: nn.Module, rank: int) -> dict[str, Function]:
    """Return functions of weights and a pair of image and label, or images and labels.

    Args:
        model: The network.
        rank: Axes of several images.
    """

    def outputs(weights: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        image, label = pair
        rows = image if image.dim() == rank else image.unsqueeze(0)
        return functional_call(model, weights, (rows,)), label.reshape(-1)

    def loss(weights: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(*outputs(weights, pair))

    def logit(weights: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
        out, label = outputs(weights, pair)
        return out.gather(1, label.unsqueeze(1)).sum()

    def margin(weights: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
        log = -loss(weights, pair)
        return log - torch.log1p(-torch.exp(log) + 1e-7)

    def right(weights: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> Tensor:
        return torch.exp(-loss(weights, pair))

    return {"loss": loss, "logit": logit, "margin": margin, "right": right}


def ends_of_epochs(config: Config, recording: Recording) -> list[dict[str, Tensor]]:
    """Return the weights after each epoch."""
    epoch = -(-config.train // config.batch)
    return [
        recording.named(shard.state(number).clone())
        for shard in recording.shards()
        for number in range(shard.numbers[0] + 1, shard.numbers[-1] + 1)
        if number % epoch == 0
    ]


def loader(points: Tensor, labels: Tensor) -> torch.utils.data.DataLoader:
    """Return what dattri reads images from."""
    pairs = torch.utils.data.TensorDataset(points, labels)
    return torch.utils.data.DataLoader(pairs, batch_size=250)


def peers(config: Config, data: Data, recording: Recording) -> dict[str, Callable[[], Tensor]]:
    """Return dattri's methods, each a function to its scores, `(m, n)`; none if it is missing."""
    if importlib.util.find_spec("dattri") is None:
        return {}
    from dattri.algorithm import IFAttributorEKFAC, TracInAttributor, TRAKAttributor
    from dattri.task import AttributionTask

    model, ends = recording.model, ends_of_epochs(config, recording)
    functions = functions_of(model, data.points.dim())
    train, test = loader(data.points, data.labels), loader(data.tests, data.classes)

    def task_of(name: str, checkpoints: object) -> AttributionTask:
        return AttributionTask(functions[name], model, checkpoints, target_func=functions["logit"])

    def tracin() -> Tensor:
        rates = torch.full((len(ends),), config.learning_rate)
        method = TracInAttributor(task_of("loss", ends), rates, normalized_grad=False)
        return method.attribute(train, test).T

    def trak() -> Tensor:
        method = TRAKAttributor(
            task_of("margin", ends[-1]), functions["right"],
            projector_kwargs={"proj_dim": 1024, "device": "cpu"}, regularization=1e-4,
        )  # fmt: skip
        return method.attribute(test, train).T

    def influence(damping: float) -> Tensor:
        method = IFAttributorEKFAC(task_of("loss", ends[-1]), damping=damping)
        method.cache(train)
        return method.attribute(train, test).T

    return {"TracIn": tracin, "TRAK": trak} | {
        f"influence, {damping:g}": lambda damping=damping: influence(damping)
        for damping in (1e-1, 1e-2)
    }


def scores_of(config: Config, data: Data) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the scores by each method, averaged over networks, and the CPU seconds they took."""
    scores: dict[str, Tensor] = {}
    seconds: dict[str, float] = {}
    for number in range(config.models):
        path = config.out / f"scores-{config.network}-{number}.pt"
        known: dict[str, tuple[Tensor, float]] = torch.load(path) if path.exists() else {}
        with tempfile.TemporaryDirectory() as folder:
            recording, _ = recorded(config, data, number, folder)
            kernel = PathKernel(recording, data.points, data.labels)
            methods: dict[str, Callable[[], Tensor]] = {
                "contributions": lambda kernel=kernel: shares_of(kernel, data),
                "effects": lambda kernel=kernel: effects(kernel, data.tests, data.classes),
            }
            for name, method in (methods | peers(config, data, recording)).items():
                if name not in known:
                    begin = time.process_time()
                    result = method().detach()
                    known[name] = result, time.process_time() - begin
                    torch.save(known, path)
                    print(f"  {name}: {known[name][1]:.1f} CPU s", flush=True)
        ours = known["contributions"][0]
        for name, (result, spent) in known.items():
            # Signs differ between methods: more of a point's class raises the logit.
            sign = torch.sign((result * ours).sum())
            scores[name] = scores.get(name, 0.0) + sign * result / config.models
            seconds[name] = seconds.get(name, 0.0) + spent
    return scores, seconds


def agreement(config: Config, scores: Tensor, logits: Tensor) -> tuple[float, float]:
    """Return the linear datamodelling score, and its standard error over the test images."""
    inside = torch.zeros(config.halves, config.train)
    for number in range(config.halves):
        inside[number, half(config, number)] = 1.0
    predicted = inside @ scores.T
    each = torch.tensor(
        [spearmanr(predicted[:, i], logits[:, i]).statistic for i in range(logits.shape[1])]
    )
    return float(each.mean()), float(each.std() / len(each) ** 0.5)


def removal(config: Config, data: Data) -> dict[str, float]:
    """Return how far logits fall where the strongest supporters, or others, are left out."""
    count = config.train // 100
    with tempfile.TemporaryDirectory() as folder:
        recording, batches = recorded(config, data, 0, folder)
        kernel = PathKernel(recording, data.points, data.labels)
        shares = shares_of(kernel, data)
    orders = {"contributions": shares.topk(count).indices}
    path = config.out / f"scores-{config.network}-0.pt"
    orders["effects"] = torch.load(path)["effects"][0].topk(count).indices

    def without(rows: Tensor) -> Tensor:
        network, _ = fresh(config, 0)
        left = [batch[~torch.isin(batch, rows)] for batch in batches]
        return fit(config, data, network, [batch for batch in left if len(batch)])

    generator = torch.Generator().manual_seed(2)
    whole = without(torch.empty(0, dtype=torch.int64))
    draws = [torch.randperm(config.train, generator=generator)[:count] for _ in range(20)]
    name = f"removal-{config.network}"
    random = kept(config.out / f"{name}-random.pt", 20, lambda i: whole - without(draws[i]))
    result = {
        "random": float(random.mean()),
        "random, standard error": float(random.mean(1).std() / len(random) ** 0.5),
        "random, mean size": float(random.abs().mean()),
    }
    for method, order in orders.items():
        falls = kept(
            config.out / f"{name}-{method}.pt", len(order),
            lambda i, order=order: whole - without(order[i]),
        ).diagonal()  # fmt: skip
        result[method] = float(falls.mean())
        result[f"{method}, standard error"] = float(falls.std() / len(falls) ** 0.5)
        result[f"{method}, share that falls"] = float((falls > 0).double().mean())
    return result


def main(config: Config) -> dict[str, object]:
    """Run, print, write the result, and return it."""
    if config.quick:
        config = replace(config, train=300, test=4, epochs=2, halves=4, retrainings=2)
    torch.set_num_threads(1)
    config.out.mkdir(parents=True, exist_ok=True)
    data = read(config)
    scores, seconds = scores_of(config, data)
    result: dict[str, object] = {}
    for name, value in removal(config, data).items():
        result[f"removal, {name}"] = value
        print(f"removal, {name:<40} {value:8.4f}", flush=True)
    logits = logits_of_halves(config, data)
    for name, each in scores.items():
        mean, error = agreement(config, each, logits)
        result[f"halves, {name}"] = {"mean": mean, "error": error, "seconds": seconds[name]}
        print(f"halves, {name:<20} {mean:6.3f} +- {error:.3f}, {seconds[name]:7.1f} CPU s")
    settings = {**asdict(config), "out": str(config.out), "torch": torch.__version__}
    (config.out / f"config-{config.network}.json").write_text(json.dumps(settings, indent=2))
    (config.out / f"result-{config.network}.json").write_text(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
