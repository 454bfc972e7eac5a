"""Table 1 of Atzmon et al. 2019, its MNIST rows, trained here: every loss at the same cost.

ConvNet-4a by the plain cross-entropy, by Madry, by TRADES, by interval bounds, and by the loss on
level-set samples (`losses.robust_distance`), each for as many epochs as fit a budget of CPU time.
What a step of each costs, in plain steps, is measured and stands in COSTS, so that the epochs do
not depend on what else the machine does; the seconds taken are in the result. All take the same
optimiser, learning rate, weights and batches, and raise the radius over the first 30 % of the
steps. Judged on test images by `robust_accuracy(effort="thorough")`.

Every run is a folder that a second call goes on from. Needs the folder of data that LEVELSET_DATA
names.
"""

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from _results import data_folder, write_results
from torch import nn

from levelset.attacks import pgd
from levelset.boundary import Effort, certified_radius, robust_accuracy
from levelset.datasets import Images, read_images
from levelset.networks import convnet_4a
from levelset.training import build_loss, initialise, train

LOSSES = {
    "plain": "cross_entropy",
    "Madry": "adversarial(radius=ramp({'0%': 0.02, '30%': 0.3}), steps=7)",
    "TRADES": "trades(radius=ramp({'0%': 0.02, '30%': 0.3}), beta=6.0, steps=7)",
    "interval bounds": (
        "interval_bound(radius=ramp({'2%': 0.001, '60%': 0.3}), "
        "kappa=ramp({'2%': 1.0, '60%': 0.5}))"
    ),
    "level sets": (
        "robust_distance(radius=ramp({'0%': 0.02, '30%': 0.3}), adversarial=1.0, steps=2, "
        "step_size=ramp({'0%': 0.008, '30%': 0.12}), starts='last', weight_wrong=0.0)"
    ),
    "level sets and bounds": (
        "robust_distance(radius=ramp({'0%': 0.02, '30%': 0.3}), adversarial=1.0, steps=2, "
        "step_size=ramp({'0%': 0.008, '30%': 0.12}), starts='last', weight_wrong=0.0) + "
        "ramp({'5%': 0.0, '40%': 0.1}) * "
        "interval_bound(radius=ramp({'5%': 0.001, '70%': 0.3}), kappa=0.0)"
    ),
    # Which part gives what.
    "no samples": (
        "adversarial(radius=ramp({'0%': 0.02, '30%': 0.3}), steps=2, "
        "step_size=ramp({'0%': 0.008, '30%': 0.12}), starts='last')"
    ),
    "random starts": (
        "robust_distance(radius=ramp({'0%': 0.02, '30%': 0.3}), adversarial=1.0, steps=2, "
        "weight_wrong=0.0)"
    ),
}
# Of a step in bfloat16, in steps by the plain cross-entropy.
COSTS = {
    "plain": 1.0, "Madry": 8.1, "TRADES": 9.0, "interval bounds": 4.7, "level sets": 4.8,
    "level sets and bounds": 8.5, "no samples": 3.9, "random starts": 4.3,
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What is run."""

    methods: tuple[str, ...] = ("plain", "Madry", "TRADES", "interval bounds", "level sets")
    """Keys of LOSSES."""
    minutes: tuple[float, ...] = (12.0, 60.0)
    """Budgets, of one core."""
    plain_step: float = 0.37
    """Milliseconds an image of a plain step takes."""
    seeds: int = 1
    """Of weights and batches, from 0 on."""
    learning_rate: float = 2e-3
    """Of AdamW, before a cosine."""
    clip_norm: float = 1.0
    """Largest norm of a step's gradient."""
    batch: int = 128
    """Images a step."""
    radius: float = 0.3
    """What is withstood, L-infinity; pixels go from 0 to 1."""
    images: int = 1_000
    """Test images of the robust accuracies, from the first one on."""
    certified: int = 100
    """Test images whose radius is certified, from the first one on."""
    effort: Effort = "thorough"
    """Of the robust accuracy."""
    out: Path = Path("runs/robust_training")
    """Folder for one folder a run, and config.json and result.json."""
    quick: bool = False
    """One epoch on 500 images."""


def epochs_of(method: str, minutes: float, config: Config, images: int) -> int:
    """Return how many epochs cost a budget."""
    seconds = COSTS[method] * config.plain_step * 1e-3 * images
    return max(1, round(60.0 * minutes / seconds))


def trained(
    method: str, minutes: float, seed: int, data: Images, config: Config, out: Path
) -> tuple[nn.Module, dict]:
    """Return a trained network, and what its training cost."""
    generator = torch.Generator().manual_seed(seed)
    network = initialise(convnet_4a("relu"), generator=generator)
    network = network.to(memory_format=torch.channels_last)
    history = train(
        network, data, loss=build_loss(LOSSES[method]),
        epochs=epochs_of(method, minutes, config, len(data)), learning_rate=config.learning_rate,
        weight_decay=0.0, batch_size=config.batch, precision="bfloat16", clip_norm=config.clip_norm,
        out=out, resume=True, generator=generator,
    )  # fmt: skip
    return network, {
        "epochs": len(history),
        "seconds": float(history.seconds.sum()),
        "converged": [float(share) for share in history.converged],
    }


def judged(network: nn.Module, data: Images, config: Config) -> dict:
    """Return what a network withstands."""
    with torch.no_grad():
        answers = torch.cat([network(part).argmax(1) for part in data.points.split(500)])
    few = data[slice(0, config.images)]
    result = {"clean": share(answers == data.labels)}
    for loss in ("cross_entropy", "margin"):
        attack = pgd(
            network, few.points, few.labels, radius=config.radius, steps=40, step_size=0.01,
            loss=loss, keep="last", generator=torch.Generator().manual_seed(100),
        )  # fmt: skip
        result[f"PGD-40, {loss}"] = share(~attack.success)
    robust = robust_accuracy(
        network, few.points, few.labels, radius=config.radius, effort=config.effort,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    result |= {"robust": 100.0 * robust.accuracy, "robust_interval": list(robust.interval)}
    some = data[slice(0, config.certified)]
    # Intervals up to the last layer: a relaxation of all takes longer than the training.
    bound = certified_radius(network, some.points, some.labels, max_units=0, tolerance=0.05)
    return result | {"certified": share(bound >= config.radius)}


def share(mask: torch.Tensor) -> float:
    """Return the share of a mask that is true, in per cent."""
    return 100.0 * float(mask.double().mean())


def run(
    method: str, minutes: float, seed: int, data: tuple[Images, Images], config: Config
) -> dict:
    """Return the result of one run: as it was written, or trained and judged."""
    name = method.replace(",", "").replace(" ", "-")
    folder = config.out / f"{name}-{minutes:g}-{seed}"
    file = folder / "judged.json"
    if not file.exists():
        network, cost = trained(method, minutes, seed, data[0], config, folder)
        result = {"method": method, "minutes": minutes, "seed": seed}
        result |= cost | judged(network, data[1], config)
        file.write_text(json.dumps(result, indent=2))
    return json.loads(file.read_text())


def line(results: list[dict]) -> str:
    """Return the row of a method: means over its seeds, and the standard error of the robust."""
    columns = ("clean", "PGD-40, cross_entropy", "PGD-40, margin", "robust", "certified")
    means = [statistics.fmean(result[name] for result in results) for name in columns]
    robust = [result["robust"] for result in results]
    error = statistics.stdev(robust) / len(robust) ** 0.5 if len(robust) > 1 else float("nan")
    first = results[0]
    seconds = statistics.fmean(result["seconds"] for result in results)
    numbers = " ".join(f"{mean:9.2f}" for mean in means)
    return (
        f"{first['method']:22} {first['minutes']:4g} {first['epochs']:6} {seconds:8.0f} {numbers} "
        f"{error:6.2f} {len(results):5}"
    )


def main(config: Config) -> list[dict]:
    """Run, print the table, write the results, and return them."""
    data_folder("mnist")
    if config.quick:
        config = replace(config, minutes=(0.001,), images=10, certified=5, effort="quick")
    data = (
        read_images("mnist", split="train", limit=500 if config.quick else None),
        read_images("mnist", limit=500 if config.quick else None),
    )
    config.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{'method':22}  min epochs        s     clean      xent    margin    robust certified"
        "  error seeds"
    )
    results = []
    for minutes in config.minutes:
        for method in config.methods:
            rows = [run(method, minutes, seed, data, config) for seed in range(config.seeds)]
            print(line(rows), flush=True)
            results += rows
    write_results(config, results)
    return results


if __name__ == "__main__":
    main(tyro.cli(Config))
