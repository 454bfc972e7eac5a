"""What curvatures cost, on a softplus LeNet for MNIST (d = 784), and on SqueezeNet (d = 150,528).

Prints the exact principal curvatures of a batch of images as a multiple of 784 batched gradients
plus the eigensolver, beside the looped procedure of Alonso and Bonin (3.1.2) and, where it is
installed, curvlinops on the same operator; the accuracy of Lanczos' five largest in 20 products;
and time and memory of the five largest and the mean on an ImageNet picture. Everything in one
process and one thread, interleaved, compared by medians. Needs LEVELSET_DATA for the pictures; on
noise and untrained networks without.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.sparse.linalg import eigsh

from levelset import LogitDifference, intersect
from levelset.boundary import Exact, Lanczos, SoftplusSurrogate, curvature
from levelset.datasets import read_images
from levelset.networks import lenet, squeezenet1_0
from levelset.training import initialise, train


def smooth_lenet(epochs: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a softplus LeNet and test images."""
    generator = torch.Generator().manual_seed(0)
    model = initialise(lenet(activation="softplus"), generator=generator)
    if "LEVELSET_DATA" not in os.environ:
        return model.eval(), torch.rand(50, 1, 28, 28, generator=generator)
    if epochs:
        data = read_images("mnist", split="train", limit=20_000)
        train(model, data, epochs=epochs, learning_rate=2e-3, batch_size=64, generator=generator)
    return model.eval(), read_images("mnist", limit=50).points


def gradients(field: Callable[..., torch.Tensor], point: torch.Tensor, batch: int) -> None:
    """Take 784 gradients, in batches."""
    for start in range(0, point.numel(), batch):
        count = min(batch, point.numel() - start)
        leaf = point.expand(count, -1, -1, -1).clone().requires_grad_()
        torch.autograd.grad(field(leaf).sum(), leaf)


def looped(field: Callable[..., torch.Tensor], point: torch.Tensor, h: float = 0.1) -> None:
    """Follow procedure 3.1.2 as it is written: one shifted gradient after the other."""

    def gradient(where: torch.Tensor) -> torch.Tensor:
        leaf = where.clone().requires_grad_()
        return torch.autograd.grad(field(leaf).sum(), leaf)[0].flatten()

    here = gradient(point)
    unit = here / here.norm()
    steps = torch.eye(len(here)) - torch.outer(unit, unit)
    rows = [gradient(point + h * step.view_as(point)) - here for step in steps]
    torch.linalg.eigvalsh(steps @ torch.stack(rows).T / h / here.norm())


def medians(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of each job, interleaved."""
    seen: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            seen[name].append(time.process_time() - began)
    return {name: statistics.median(times) for name, times in seen.items()}


def small(repeats: int, epochs: int) -> None:
    """Print the costs at d = 784."""
    model, points = smooth_lenet(epochs)
    model.requires_grad_(False)
    images = 4
    batch = points[:images]
    with torch.no_grad():
        pairs = model(batch).topk(2).indices
    field = LogitDifference(model)
    first = LogitDifference(model, int(pairs[0, 0]), int(pairs[0, 1]))
    matrices = torch.randn(images, 783, 783)
    matrices = matrices + matrices.transpose(1, 2)
    jobs: dict[str, Callable[[], object]] = {
        "784 gradients": lambda: [gradients(first, p[None], 49) for p in batch],
        "784 gradients, one batch": lambda: [gradients(first, p[None], 784) for p in batch],
        "eigensolver": lambda: torch.linalg.eigvalsh(matrices),
        "exact": lambda: curvature(field, batch, labels=pairs, level=None, directions=False),
        "exact, with directions": lambda: curvature(field, batch, labels=pairs, level=None),
        "looped": lambda: looped(first, batch[:1]),
        "Lanczos": lambda: curvature(
            field, batch, labels=pairs, level=None, count=5, method=Lanczos(20, mean_products=0)
        ),
    }
    single = {"looped"}
    if importlib.util.find_spec("curvlinops"):
        jobs["curvlinops, whole matrix"] = lambda: peer_matrix(first, batch[0])
        jobs["curvlinops, scipy's eigsh"] = lambda: peer_few(first, batch[0])
        single |= {"curvlinops, whole matrix", "curvlinops, scipy's eigsh"}
    else:
        print("curvlinops is not installed, and so left out (pip install curvlinops-for-pytorch)")
    found = medians(jobs, repeats)
    each = {name: t / (1 if name in single else images) for name, t in found.items()}
    for name, seconds in each.items():
        print(f"{name:28} {1e3 * seconds:8.1f} ms an image")
    floor = each["784 gradients"] + each["eigensolver"]
    plain = each["784 gradients, one batch"] + each["eigensolver"]
    print(f"exact = {each['exact'] / floor:.2f} x (784 gradients in batches of 49 + eigensolver)")
    print(f"exact = {each['exact'] / plain:.2f} x (784 gradients in one batch + eigensolver)")
    print(f"exact is {each['looped'] / each['exact']:.1f} x as fast as the looped procedure")
    if len(single) > 1:
        ours = curvature(first, batch[:1], level=None, directions=False)
        theirs = tangential(first, batch[:1], peer_matrix(first, batch[0]))
        off = (ours.principal[0] - theirs).abs().max() / theirs.abs().max()
        print(f"exact is {each['curvlinops, whole matrix'] / each['exact']:.1f} x as fast as "
              f"curvlinops; the curvatures differ by {float(off):.0e} of the largest")  # fmt: skip
    accuracy(model, points)


def accuracy(model: torch.nn.Module, points: torch.Tensor) -> None:
    """Print how near the five largest in size, and at the top, come to the exact ones, in float64.

    At points of the boundary between two images of different classes.
    """
    field, points = LogitDifference(model.double()), points.double()
    with torch.no_grad():
        answers = model(points).argmax(1)
    if (answers == answers[0]).all():
        print("Lanczos' accuracy is left out: an untrained network has one answer, no boundary")
        return
    others = [(answers != own).nonzero().flatten() for own in answers[:12]]
    ends = points[[int(other[row % len(other)]) for row, other in enumerate(others)]]
    with torch.no_grad():
        pairs = torch.stack([answers[:12], model(ends).argmax(1)], 1)
    where = intersect(field, points[:12], ends, labels=pairs, tol=1e-9).points
    options = {"labels": pairs, "count": 5, "directions": False}
    for kind, name in (("extreme", "largest in size"), ("top", "most positive")):
        exact = curvature(field, where, ends=kind, method=Exact(), **options).principal
        for products in (20, 30):
            found = curvature(
                field, where, ends=kind, method=Lanczos(products, mean_products=0),
                generator=torch.Generator().manual_seed(0), **options,
            )  # fmt: skip
            off = ((found.principal - exact).abs() / exact.abs()).amax(1)
            print(
                f"Lanczos, {products} products: five {name} off by {float(off.median()):.1e} "
                f"(median), {float(off.max()):.1e} (worst of {len(off)})"
            )


def peer(field: LogitDifference, point: torch.Tensor) -> Any:
    """Return the Hessian in the input as curvlinops has it: the input as the parameter of a sum."""
    from curvlinops import HessianLinearOperator

    class Shifted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift = torch.nn.Parameter(torch.zeros_like(point))

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return field(points + self.shift).unsqueeze(1)

    class Total(torch.nn.Module):
        reduction = "sum"

        def forward(self, out: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return out.sum()

    model = Shifted()
    data = [(point[None], torch.zeros(1, 1))]
    return HessianLinearOperator(model, Total(), [model.shift], data, check_deterministic=False)


def peer_matrix(field: LogitDifference, point: torch.Tensor) -> torch.Tensor:
    """Return the whole matrix by curvlinops, and take its eigenvalues."""
    matrix = peer(field, point) @ torch.eye(point.numel())
    torch.linalg.eigvalsh(matrix)
    return matrix


def peer_few(field: LogitDifference, point: torch.Tensor) -> None:
    """Take the five largest in size through curvlinops and ARPACK, to 1e-4."""
    eigsh(peer(field, point).to_scipy(), k=5, which="LM", tol=1e-4, return_eigenvectors=False)


def tangential(field: LogitDifference, point: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return the principal curvatures, descending, that a Hessian has at a point."""
    leaf = point.clone().requires_grad_()
    (slope,) = torch.autograd.grad(field(leaf).sum(), leaf)
    basis = torch.linalg.svd(slope.flatten()[None]).Vh[1:]
    return torch.linalg.eigvalsh(basis @ matrix @ basis.T).flip(0) / slope.norm()


def large(images: int) -> None:
    """Print time and memory of the five largest and the mean at d = 150,528."""
    data = os.environ.get("LEVELSET_DATA")
    model = squeezenet1_0().eval().requires_grad_(False)
    points = 120.0 * torch.randn(images, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    if data is not None:
        folder = Path(data) / "imagenet"
        state = load_file(folder / "squeezenet1_0.safetensors")
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        points = torch.stack(
            [picture(p) for p in sorted((folder / "val-sample").iterdir())[:images]]
        )
    with torch.no_grad():
        pairs = model(points).topk(2).indices
    for point, pair in zip(points, pairs, strict=True):
        began, clock = time.process_time(), time.perf_counter()
        found = curvature(
            LogitDifference(model), point[None], labels=pair[None], level=None, count=5,
            smoothing=SoftplusSurrogate(1.0), generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        top = ", ".join(f"{float(v):.3g}" for v in found.principal[0])
        print(
            f"d = {point.numel():,}: top five {top} (error up to {float(found.error.max()):.1g}), "
            f"mean {float(found.mean):.3g} +- {float(found.mean_error):.1g} per 1/255; "
            f"{time.process_time() - began:.1f} s CPU, {time.perf_counter() - clock:.1f} s wall"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"largest memory of the process: {peak:.2f} GB")


def picture(path: Path) -> torch.Tensor:
    """Return the middle 224 pixels as Caffe's network wants them: BGR, less the mean."""
    image = Image.open(path).convert("RGB")
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    less = pixels[:, :, ::-1] - np.array([104.0, 117.0, 123.0], dtype=np.float32)
    return torch.from_numpy(less.copy()).permute(2, 0, 1)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="to train the LeNet")
    parser.add_argument("--images", type=int, default=2, help="ImageNet pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.images:
        large(options.images)
    small(options.repeats, options.epochs)


if __name__ == "__main__":
    main()
