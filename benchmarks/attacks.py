"""Each attack beside the same attack of foolbox, torchattacks and adv-lib, on the same images.

On the two released MNIST networks (or an untrained one, on noise, without LEVELSET_DATA), in one
process and one thread, all calls of a method interleaved and compared by medians. Prints for each:

- ms: CPU milliseconds an image;
- forward, backward: passes of the network an image, counted by hooks;
- success of the inputs that were answered right, and the median norm of what was found;
- x own: CPU time over that of the very same calls of the bare network, replayed;
- x floor: CPU time over that of as many passes at the best rate that the bare network reaches,
  without gradients of parameters, in any layout and batch.

Peers that are not installed are left out, and that is said.
"""

import argparse
import copy
import importlib.machinery
import math
import os
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from levelset import attacks
from levelset.datasets import load_model, read_images
from levelset.networks import convnet_4a

Call = Callable[[nn.Module, Tensor, Tensor], Tensor]

RADIUS, STEP, STEPS = 0.3, 0.01, 40
LEAST, SEARCHES, SQUARES, DRAWS = 100, 3, 200, 20
FLOOR_ROWS = 100


@dataclass(frozen=True)
class Method:
    """One row of the table: a norm to print, our call, and how many images it can afford."""

    norm: float
    options: dict[str, object]
    share: float = 1.0


BALL = {"radius": RADIUS, "steps": STEPS, "step_size": STEP, "keep": "last"}
METHODS = {
    "fgsm": Method(math.inf, {"radius": RADIUS}),
    "r_fgsm": Method(math.inf, {"radius": RADIUS}),
    "igsm": Method(math.inf, BALL),
    "mi_fgsm": Method(math.inf, BALL),
    "pgd": Method(math.inf, BALL),
    "square": Method(math.inf, {"radius": RADIUS, "steps": SQUARES}),
    "fab": Method(2.0, {"norm": 2.0, "steps": STEPS}),
    "deepfool": Method(2.0, {}),
    "ddn": Method(2.0, {"steps": LEAST}),
    "fmn": Method(2.0, {"steps": LEAST}),
    "alma": Method(2.0, {"steps": LEAST}),
    "carlini_wagner": Method(2.0, {"steps": LEAST, "searches": SEARCHES, "step_size": 0.05}),
    "jsma": Method(0.0, {}, 0.2),
    "lbfgs": Method(2.0, {"searches": SEARCHES}, 0.2),
    "direct_boundary": Method(2.0, {}),
    "random_direction": Method(2.0, {"draws": DRAWS}),
}


def ours(name: str) -> Call:
    """Return our attack of a name, as a call that returns points."""

    def call(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
        attack: Callable[..., attacks.Attack] = getattr(attacks, name)
        return attack(model, points, labels, **METHODS[name].options).points

    return call


def foolbox() -> dict[str, Call]:
    """Return foolbox's attacks, by our names."""
    import foolbox as fb

    def at(attack: object, radius: float | None = None) -> Call:
        def call(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
            wrapped = fb.PyTorchModel(model, bounds=(0, 1), device=points.device)
            found: Tensor = attack(wrapped, points, labels, epsilons=radius)[1]  # type: ignore[operator]
            return found

        return call

    fixed = {"abs_stepsize": STEP, "steps": STEPS}
    return {
        "fgsm": at(fb.attacks.LinfFastGradientAttack(), RADIUS),
        "igsm": at(fb.attacks.LinfBasicIterativeAttack(**fixed, random_start=False), RADIUS),
        "pgd": at(fb.attacks.LinfProjectedGradientDescentAttack(**fixed), RADIUS),
        "deepfool": at(fb.attacks.L2DeepFoolAttack()),
        "ddn": at(fb.attacks.DDNAttack(steps=LEAST)),
        "fmn": at(fb.attacks.L2FMNAttack(steps=LEAST)),
        "carlini_wagner": at(
            fb.attacks.L2CarliniWagnerAttack(
                steps=LEAST, binary_search_steps=SEARCHES, stepsize=0.05
            )
        ),
        "random_direction": at(
            fb.attacks.L2RepeatedAdditiveUniformNoiseAttack(repeats=DRAWS), 10.0
        ),
    }


def torchattacks() -> dict[str, Call]:
    """Return torchattacks' attacks, by our names."""
    import torchattacks as ta

    def by(kind: Callable[..., Callable[[Tensor, Tensor], Tensor]], **options: object) -> Call:
        return lambda model, points, labels: kind(model, **options)(points, labels)

    fixed = {"eps": RADIUS, "alpha": STEP, "steps": STEPS}
    return {
        "fgsm": by(ta.FGSM, eps=RADIUS),
        "r_fgsm": by(ta.RFGSM, eps=RADIUS, alpha=RADIUS / 2, steps=1),
        "igsm": by(ta.BIM, **fixed),
        "mi_fgsm": by(ta.MIFGSM, **fixed),
        "pgd": by(ta.PGD, **fixed),
        "square": by(ta.Square, eps=RADIUS, n_queries=SQUARES),
        "fab": by(ta.FAB, norm="L2", eps=10.0, steps=STEPS),
        "deepfool": by(ta.DeepFool),
        "carlini_wagner": by(ta.CW, steps=LEAST * SEARCHES, lr=0.05),
        "jsma": by(ta.JSMA),
    }


def adv_lib() -> dict[str, Call]:
    """Return adv-lib's attacks, by our names."""
    from adv_lib import attacks as al

    def by(attack: Callable[..., Tensor], **options: object) -> Call:
        return partial(attack, **options)

    return {
        "pgd": by(al.pgd_linf, ε=RADIUS, steps=STEPS, absolute_step_size=STEP),
        "fab": by(al.fab, norm=2, n_iter=STEPS),
        "deepfool": by(al.df, norm=2),
        "ddn": by(al.ddn, steps=LEAST, levels=None),
        "fmn": by(al.fmn, norm=2, steps=LEAST),
        "alma": by(al.alma, distance="l2", num_steps=LEAST, init_lr_distance=1.0, α=0.5),
        "carlini_wagner": by(
            al.carlini_wagner_l2, max_iterations=LEAST, binary_search_steps=SEARCHES,
            learning_rate=0.05,
        ),
    }  # fmt: skip


def stand_in() -> None:
    """Put empty modules in the places of what two peers import, and do not use here.

    In torchvision's even where there is one: it must fit torch to the release, and often does not.
    """
    inner = ("datasets", "models", "transforms", "transforms.functional", "utils")
    for name in ("visdom", "torchvision", *(f"torchvision.{part}" for part in inner)):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        module.__getattr__ = lambda _: object  # type: ignore[method-assign]
        sys.modules[name] = module


def peers() -> dict[str, dict[str, Call]]:
    """Return the calls of each installed peer; say which are missing."""
    stand_in()
    found = {"levelset": {name: ours(name) for name in METHODS}}
    for name, calls in {
        "foolbox": foolbox, "torchattacks": torchattacks, "adv-lib": adv_lib
    }.items():  # fmt: skip
        try:
            found[name] = calls()
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


@dataclass
class Books:
    """Every call of the network: rows, strides, and how often it was differentiated."""

    calls: list[tuple[int, tuple[int, ...], bool]] = field(default_factory=list)
    backwards: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def kept(self, model: nn.Module) -> Iterator[None]:
        """Keep the books of a model meanwhile."""
        handle = model.register_forward_hook(self._note)
        try:
            yield
        finally:
            handle.remove()

    def _note(self, _: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        call = len(self.calls)
        self.calls.append((len(out), inputs[0].stride(), out.requires_grad))
        if out.requires_grad:
            out.register_hook(partial(self._backward, call))

    def _backward(self, call: int, _: Tensor) -> None:
        self.backwards[call] = self.backwards.get(call, 0) + 1

    def rows(self) -> tuple[int, int]:
        """Return the rows that went forward and backward."""
        back = sum(self.calls[call][0] * times for call, times in self.backwards.items())
        return sum(rows for rows, _, _ in self.calls), back

    def replay(self, model: nn.Module, points: Tensor) -> None:
        """Make the same calls of the bare network again."""
        for call, (rows, strides, differentiable) in enumerate(self.calls):
            shape = (rows, *points.shape[1:])
            part = torch.empty_strided(shape, strides).copy_(points[:1])
            with torch.set_grad_enabled(differentiable):
                out = model(part.requires_grad_(differentiable))
            times = self.backwards.get(call, 0)
            for i in range(times):
                torch.autograd.grad(
                    out[:, i % out.shape[1]].sum(), part, retain_graph=i + 1 < times
                )


def seconds(job: Callable[[], object]) -> float:
    """Return the CPU seconds of a job."""
    began = time.process_time()
    job()
    return time.process_time() - began


def floor(model: nn.Module, points: Tensor) -> tuple[float, float]:
    """Return the best CPU seconds an image of a forward pass, and of a backward pass."""
    _, c, h, w = points.shape
    layouts = {"default": (c * h * w, h * w, w, 1), "channels_last": (c * h * w, 1, w * c, c)}
    best = {False: math.inf, True: math.inf}
    for name, strides in layouts.items():
        there = copy.deepcopy(model)
        there = there.to(memory_format=torch.channels_last) if name == "channels_last" else there
        for batch in (25, 50, 100):
            for differentiable in (False, True):
                books = Books([(batch, strides, differentiable)] * (FLOOR_ROWS // batch))
                books.backwards = dict.fromkeys(range(len(books.calls)), int(differentiable))
                spent = min(seconds(lambda b=books, m=there: b.replay(m, points)) for _ in "ab")  # type: ignore[misc]
                best[differentiable] = min(best[differentiable], spent / (len(books.calls) * batch))
    return best[False], best[True] - best[False]


def judge(
    model: nn.Module, points: Tensor, labels: Tensor, found: Tensor, norm: float
) -> tuple[float, float]:
    """Return the share of inputs answered right that were moved across, and how far, median."""
    with torch.no_grad():
        right = model(points).argmax(1) == labels
        across = right & (model(found).argmax(1) != labels)
    lengths = torch.linalg.vector_norm((found - points)[across].flatten(1), ord=norm, dim=1)
    share = float(across.sum() / right.sum().clamp(min=1))
    return share, float(lengths.median()) if len(lengths) else math.nan


def compare(
    method: str, calls: dict[str, Call], model: nn.Module, data: tuple[Tensor, Tensor], repeats: int
) -> None:
    """Print the lines of one method."""
    points, labels = data
    spent: dict[str, list[tuple[float, float, float]]] = {name: [] for name in calls}
    shown: dict[str, str] = {}
    for _ in range(repeats):
        forward, backward = floor(model, points)
        for name, call in calls.items():
            torch.manual_seed(0)
            books = Books()
            with books.kept(model):
                job = partial(call, model, points, labels)
                kept: list[Tensor] = []
                cpu = seconds(lambda job=job, kept=kept: kept.append(job()))  # type: ignore[misc]
            replayed = seconds(partial(books.replay, model, points))
            there, back = books.rows()
            least = there * forward + back * backward
            spent[name].append((cpu / len(points), cpu / replayed, cpu / least))
            share, length = judge(model, points, labels, kept[0].detach(), METHODS[method].norm)
            passes = f"{there / len(points):8.1f} {back / len(points):8.1f}"
            shown[name] = f"{passes} {share:8.1%} {length:8.4g}"
    for name, line in shown.items():
        cpu, own, least = (statistics.median(column) for column in zip(*spent[name], strict=True))
        print(f"{method:17}{name:13}{1e3 * cpu:8.2f} {line} {own:8.2f} {least:8.2f}", flush=True)


def network(name: str, count: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Return a released network and test images, or an untrained one and noise."""
    data = os.environ.get("LEVELSET_DATA")
    if data is None:
        model = convnet_4a().eval().requires_grad_(False)
        points = torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        return model, (points, model(points).argmax(1))
    model = load_model(
        "convnet_4a", Path(data) / "networks" / f"mnist-convnet4a-{name}.safetensors"
    )
    images = read_images("mnist", limit=count)
    return model.requires_grad_(False), (images.points, images.labels)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--networks", nargs="+", default=["xent", "madry-eps0.3"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="10 images, one repeat, xent only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", module="torchattacks|foolbox|adv_lib")
    images, repeats, names = options.images, options.repeats, options.networks
    if options.quick:
        images, repeats, names = 10, 1, names[:1]
    found = peers()
    for name in names:
        model, (points, labels) = network(name, images)
        print(f"\n{name}, {images} images, {options.threads} threads, torch {torch.__version__}")
        print(
            f"{'method':17}{'by':13}{'ms':>8} {'forward':>8} {'backward':>8} {'success':>8} "
            f"{'norm':>8} {'x own':>8} {'x floor':>8}"
        )
        for method in options.methods:
            few = max(int(METHODS[method].share * images), 2)
            calls = {by: table[method] for by, table in found.items() if method in table}
            compare(method, calls, model, (points[:few], labels[:few]), repeats)


if __name__ == "__main__":
    main()
