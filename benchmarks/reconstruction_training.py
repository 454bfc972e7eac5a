"""What a step of training by Eq. 13 costs beside plain regression of the same network.

Trains FC-2 on points of a torus, or on a scan of LEVELSET_DATA, and times whole cycles of steps
(each renews all samples of the zero level set once), interleaved with steps of regression,
|F(x) - t|, on as many points as a step of Eq. 13 looks at: the batch and its samples. Prints the
ratio of CPU times with samples that follow their level set (the default), and with samples
projected anew each step, as published. The paper reports a ratio of 2 (reply to the reviewers);
the goal is 1.3. Then the evaluations each takes, counted in passes of the network.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from levelset.networks import fc_2
from levelset.reconstruction import Paper
from levelset.reconstruction._paper import _Trainer, paper_network, stream
from levelset.shapes import Torus


def cloud(name: str | None) -> tuple[torch.Tensor, str]:
    """Return points in the unit frame: of a scan, or of a torus with noise of 0.002."""
    data = os.environ.get("LEVELSET_DATA")
    generator = torch.Generator().manual_seed(0)
    if name is None or data is None:
        torus = Torus(0.7, 0.28)
        points = torus.project(torch.randn(30_000, 3, generator=generator) * 0.7)
        return points + 0.002 * torch.randn(points.shape, generator=generator), "torus"
    import numpy as np

    raw = (Path(data) / "meshes" / f"{name}-scan.ply").read_bytes()
    start = raw.index(b"end_header\n") + len(b"end_header\n")
    points = torch.from_numpy(np.frombuffer(raw, "<f4", offset=start).reshape(-1, 3).copy())
    return points, f"{name}-scan"


class Counted(nn.Module):
    """A network that counts rows evaluated, and rows differentiated in the points alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.rows = 0

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        self.rows += len(points)
        return self.network(points)


def following(points: torch.Tensor, batch: int, lifetime: int) -> Callable[[], float]:
    """Return a function that trains for one cycle and returns rows evaluated a step and point."""
    settings = Paper(batch_size=batch, lifetime=lifetime)
    network = Counted(paper_network(points, False, 0))
    trainer = _Trainer(points, settings, network, 0.002, 0)
    drawn, cycle = stream(0, 0), [0]

    def run() -> float:
        network.rows = 0
        for _ in range(CYCLE):
            rows = torch.randint(len(points), (batch,), generator=drawn)
            trainer.step(rows, cycle[0] // 3, drawn)
            cycle[0] += 1
        return network.rows / CYCLE / (2 * batch)

    return run


def regression(points: torch.Tensor, batch: int) -> Callable[[], float]:
    """Return a function that takes as many steps of regression as a cycle has."""
    network = fc_2()
    solver = torch.optim.Adam(network.parameters(), 1e-3)
    drawn = torch.Generator().manual_seed(1)

    def run() -> float:
        for _ in range(CYCLE):
            rows = torch.randint(len(points), (2 * batch,), generator=drawn)
            noise = 0.1 * torch.randn(2 * batch, 3, generator=drawn)
            target = noise.norm(dim=1)
            loss = (network(points[rows] + noise).squeeze(1) - target).abs().mean()
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            solver.step()
        return 1.0

    return run


CYCLE = 10


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scan", help="name of a mesh of LEVELSET_DATA, such as stanford-bunny")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="batches of 200, one repeat")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batch, repeats = (200, 1) if options.quick else (options.batch, options.repeats)
    points, what = cloud(options.scan)
    print(f"FC-2, {what}, batches of {batch}, {options.threads} threads, torch {torch.__version__}")
    jobs = {
        "regression": regression(points, batch),
        "Eq. 13, following": following(points, batch, CYCLE),
        "Eq. 13, as published": following(points, batch, 1),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    counts: dict[str, float] = {}
    for name, job in jobs.items():
        job()  # starts are projected, memory is claimed
        print(f"  {name}: warm", flush=True)
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.process_time()
            counts[name] = job()
            times[name].append(time.process_time() - start)
    unit = statistics.median(times["regression"])
    for name, spent in times.items():
        ratios = [a / b for a, b in zip(spent, times["regression"], strict=True)]
        print(
            f"{name:<22} {1e3 * statistics.median(spent) / CYCLE:8.1f} CPU ms a step   "
            f"x regression {statistics.median(spent) / unit:.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})   rows evaluated a point {counts[name]:.2f}"
        )
    print("goal: at most 1.3; the paper: 2")


if __name__ == "__main__":
    main()
