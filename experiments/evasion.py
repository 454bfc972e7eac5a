"""An attack that knows the detector of section 3.2 of Alonso and Bonin, and walks round it.

The score of a detector is made of differences of the network's values, so it has a gradient: that
of a ReLU network's lengths and normals is zero almost everywhere, and only the sum over the axes,
784 of them, is too long to follow at each step. The attacker follows it along a few axes drawn
afresh each step (an unbiased estimate), starts from a plain perturbed input, and goes down the
score, and back across the boundary whenever the input is about to be answered right again; for
several weights of the two, and keeps the best by the real detector. Once more he does so leaving an
even background alone, whose ties in the max-pools give other perturbations away. Prints the share
flagged beside that of the plain attack, writes result.json. Needs the folder of data that
LEVELSET_DATA names.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from _results import data_folder, write_results
from detection import PROTOCOL, fitted, images, network
from detection import Config as Protocol
from torch import Tensor, nn

from levelset.attacks import pgd
from levelset.boundary import CentralDifference, GaussianSmoothing, detect


@dataclass(frozen=True)
class Config:
    """What is run."""

    data: Literal["mnist", "fashion-mnist"] = "mnist"
    """The images."""
    attacked: int = 40
    """Images that are attacked."""
    steps: int = 40
    """Steps of a run."""
    weights: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Of the score's gradient against the margin's, both of length 1; a run each."""
    fitted: int = 300
    """Natural images, and as many perturbed ones, that the detector is fitted on; others."""
    axes: int = 48
    """Axes, or pairs of noise, of one step."""
    together: int = 4
    """Inputs whose gradient is taken together; about 200 MB each."""
    slack: float = 1.0
    """How far beyond the boundary the input is kept, in logits."""
    judged_every: int = 5
    """Steps between questions to the real detector."""
    network: Path | None = None
    """Weights of a LeNet; None to train one."""
    seed: int = 0
    """Of training, attacks and noise."""
    device: str = "cpu"
    """Where to compute."""
    out: Path = Path("runs/evasion")
    """Folder for config.json and result.json."""
    quick: bool = False
    """Four images, five steps of one run."""


def main(config: Config) -> dict:
    """Run, print, write the result and return it."""
    data_folder(config.data)
    protocol = Protocol(
        config.data, images=100, fitted=config.fitted, weights=config.network, seed=config.seed,
        device=config.device,
    )  # fmt: skip
    if config.quick:
        config = replace(config, attacked=4, steps=5, judged_every=5, weights=(1.0,), axes=8)
        protocol = replace(protocol, images=40, fitted=40, quick=True)
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    model = network(protocol).requires_grad_(False)
    sets = images(protocol, model)
    detector = fitted(model, sets, protocol, ("curvature",), None)
    points, answers = sets["spare"][: config.attacked], sets["spare_answers"][: config.attacked]
    result = evaded(config, detector, points, answers)
    natural = detector(sets["natural"])
    result["natural flagged"] = float(natural.flagged.double().mean())
    print(
        f"{config.data}: of {result['attacked']} perturbed inputs within the same radius, "
        f"flagged: plain {100 * result['plain']:.1f} %, by an attacker who knows the detector "
        f"{100 * result['knowing']:.1f} % (natural inputs: {100 * result['natural flagged']:.1f} %)"
    )
    write_results(config, result)
    return result


def evaded(config: Config, detector: detect.Detector, points: Tensor, answers: Tensor) -> dict:
    """Return the share flagged of a plain attack, and of one that knows the detector."""
    radius = PROTOCOL[config.data][0] / 255
    generator = torch.Generator().manual_seed(config.seed + 1)
    moved = pgd(
        detector.model, points, answers, radius=radius, steps=40, step_size=radius / 10,
        loss="margin", keep="last", generator=generator,
    )  # fmt: skip
    through = moved.success.nonzero().flatten()
    points, answers, start = points[through], answers[through], moved.points[through]
    plain = detector(start).score
    best, by_weight = plain.clone(), {}
    low, high = (points - radius).clamp(0, 1), (points + radius).clamp(0, 1)
    ground = points == 0
    boxes = {
        "all pixels": (start, low, high),
        "background left alone": (points, low.where(~ground, points), high.where(~ground, points)),
    }
    for name, box in boxes.items():
        for weight in config.weights:
            scores = run(config, detector, answers, box, radius, weight, generator)
            best = torch.minimum(best, scores)
            by_weight[f"{name}, {weight:g}"] = told = {
                "through": float(scores.isfinite().double().mean()),
                "flagged": share(scores[scores.isfinite()], detector),
            }
            print(
                f"{name}, weight {weight:g}: through {100 * told['through']:.1f} %, flagged of "
                f"those {100 * told['flagged']:.1f} %",
                flush=True,
            )
    return {
        "attacked": len(points),
        "plain": share(plain, detector),
        "knowing": share(best, detector),
        "by weight": by_weight,
        "scores, plain": plain.tolist(),
        "scores, knowing": best.tolist(),
        "threshold": detector.threshold,
    }


def share(scores: Tensor, detector: detect.Detector) -> float:
    """Return the share that is flagged."""
    return float((scores > detector.threshold).double().mean())


def run(
    config: Config, detector: detect.Detector, answers: Tensor, box: tuple[Tensor, Tensor, Tensor],
    radius: float, weight: float, generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return the least score, by the real detector, of an input that is misclassified in a box."""
    start, low, high = box
    here, best = start.clone(), start.new_full((len(start),), torch.inf)
    for step in range(config.steps):
        down = unit(score_gradient(config, detector, here, generator))
        way = unit(margin_gradient(config, detector.model, here, answers)) + weight * down
        size = radius / 10 * (1 - step / config.steps)
        here = torch.minimum(torch.maximum(here - size * way.sign(), low), high)
        if (step + 1) % config.judged_every == 0:
            with torch.no_grad():
                wrong = detector.model(here).argmax(1) != answers
            judged = torch.where(wrong, detector(here).score, torch.inf)
            best = torch.minimum(best, judged)
    return best


def unit(gradient: Tensor) -> Tensor:
    """Return gradients of length 1, or 0 where there is none."""
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-20)
    return gradient / length.view(-1, 1, 1, 1)


def margin_gradient(config: Config, model: nn.Module, points: Tensor, answers: Tensor) -> Tensor:
    """Return the gradient of the margin of the right answer, where it is above minus the slack."""
    leaf = points.clone().requires_grad_()
    logits = model(leaf)
    own = logits.gather(1, answers[:, None])[:, 0]
    rival = logits.scatter(1, answers[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad((own - rival + config.slack).clamp_min(0).sum(), leaf)
    return gradient


def score_gradient(
    config: Config, detector: detect.Detector, points: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the gradient of the score along axes drawn afresh, a few points at a time."""
    parts = []
    for part in points.split(config.together):
        leaf = part.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(config, detector, leaf, generator).sum(), leaf)
        parts.append(gradient)
    return torch.cat(parts)


def score(
    config: Config, detector: detect.Detector, points: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the detector's score with a gradient; its sums run over a few axes."""
    curvatures = torch.stack(
        [
            class_curvatures(config, detector.model, scale, points, generator)
            for scale in detector.scales
        ],
        dim=2,
    )
    own = curvatures.isnan()
    kinds = (
        curvatures.nan_to_num(0.0).sum(1),
        curvatures.masked_fill(own, -torch.inf).amax(1),
        curvatures.masked_fill(own, torch.inf).amin(1),
    )
    numbers = torch.cat(kinds, dim=1).double()
    return (
        (numbers - detector.centre.to(numbers)) / detector.spread.to(numbers)
    ) @ detector.weights.to(numbers)


def class_curvatures(
    config: Config, model: nn.Module, scale: CentralDifference | GaussianSmoothing,
    points: Tensor, generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return the mean curvatures by class `(n, k)`, NaN for the answer, as a detector does."""
    n, e = len(points), points[0].numel()
    count = min(config.axes, e)
    if isinstance(scale, GaussianSmoothing):
        h, share_of_all = scale.sigma, 1.0 / count
        steps = torch.randn(n, count, e, generator=generator).to(points)
    else:
        h, share_of_all = scale.h, e / count
        chosen = torch.rand(n, e, generator=generator).argsort(1)[:, :count].to(points.device)
        steps = torch.nn.functional.one_hot(chosen, e).to(points)
    logits = model(points)
    trace = share_of_all * second(model, points, logits, h * steps).sum(1)
    answer = logits.detach().argmax(1)
    slopes = jacobian(model, points)
    slopes = slopes[range(n), answer].unsqueeze(1) - slopes
    length = slopes.norm(dim=2)
    bent = second(model, points, logits, h * slopes / length.clamp_min(1e-20).unsqueeze(2))
    along = bent.gather(2, answer.view(-1, 1, 1).expand(-1, bent.shape[1], 1))[:, :, 0]
    along = along - bent.diagonal(dim1=1, dim2=2)
    means = trace.gather(1, answer[:, None]) - trace - along
    means = means / (h * h * (e - 1) * length.clamp_min(1e-20))
    return means.scatter(1, answer[:, None], torch.nan)


def second(net: nn.Module, points: Tensor, logits: Tensor, shifts: Tensor) -> Tensor:
    """Return f(x + s) + f(x - s) - 2 f(x) for shifts `(n, m, e)`: `(n, m, k)`."""
    shifts = shifts.view(*shifts.shape[:2], *points.shape[1:])
    both = torch.cat([points.unsqueeze(1) + shifts, points.unsqueeze(1) - shifts], 1)
    values = net(both.flatten(0, 1)).view(len(points), 2, shifts.shape[1], -1)
    return values.sum(1) - 2.0 * logits.unsqueeze(1)


def jacobian(net: nn.Module, points: Tensor) -> Tensor:
    """Return the slopes of the logits `(n, k, e)`, without a gradient of their own."""
    leaf = points.detach().clone().requires_grad_()
    logits = net(leaf)
    rows = [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in logits.T]
    return torch.stack(rows, 1).flatten(2)


if __name__ == "__main__":
    main(tyro.cli(Config))
