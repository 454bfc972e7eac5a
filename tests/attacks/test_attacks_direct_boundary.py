"""The nearest point of another class: exact answers, costs, and the released networks."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor, nn

from levelset import attacks
from levelset._tools.norms import dual, norm_of
from levelset.attacks import direct_boundary
from levelset.datasets import read_images
from levelset.networks import convnet_4a

NORMS = [1.0, 2.0, math.inf]
NO_BOUNDS = (-math.inf, math.inf)


class NearestPrototype(nn.Module):
    """One nearest neighbour: minus the squared distance to the nearest prototype of each class."""

    def __init__(self, prototypes: Tensor, classes: Tensor) -> None:
        super().__init__()
        self.prototypes, self.classes = prototypes, classes

    def forward(self, points: Tensor) -> Tensor:
        near = -(points.unsqueeze(1) - self.prototypes).square().sum(2)
        masks = [self.classes == c for c in range(int(self.classes.max()) + 1)]
        return torch.stack([near[:, mask].amax(1) for mask in masks], 1)

    def distance(self, point: Tensor, label: int) -> float:
        """Return the least distance to the cell of a prototype of another class, by SciPy."""
        own = self.prototypes[self.classes == label]
        found = math.inf
        for other in self.prototypes[self.classes != label]:
            normal = 2.0 * (other - own).numpy()
            offset = (other.square().sum() - own.square().sum(1)).numpy()
            best = minimize(
                lambda y: ((y - point.numpy()) ** 2).sum(), other.numpy(),
                jac=lambda y: 2 * (y - point.numpy()),
                constraints=[LinearConstraint(normal, offset)], method="SLSQP",
                options={"ftol": 1e-14},
            )  # fmt: skip
            found = min(found, math.sqrt(best.fun))
        return found


def affine(noise: Callable[..., Tensor], classes: int) -> nn.Linear:
    model = nn.Linear(8, classes).double()
    with torch.no_grad():
        model.weight.copy_(noise(classes, 8, seed=1))
        model.bias.copy_(noise(classes, seed=2))
    return model


def exact(model: nn.Linear, points: Tensor, norm: float) -> Tensor:
    """Return the distances to the nearest boundary of an affine model."""
    logits = model(points).detach()
    own = logits.argmax(1)
    gap = logits.amax(1, keepdim=True) - logits
    slope = model.weight[own].unsqueeze(1) - model.weight
    size = norm_of(slope.flatten(0, 1), dual(norm)).view_as(gap)
    return (gap / size).nan_to_num(math.inf).amin(1).detach()


@pytest.mark.parametrize("options", [{}, {"steps": 8, "rivals": 0}], ids=["full", "short"])
@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("norm", NORMS)
def test_affine_models_are_answered_exactly(
    norm: float, classes: int, options: dict[str, int], noise: Callable[..., Tensor]
) -> None:
    model, points = affine(noise, classes), noise(25, 8, seed=3)
    found = direct_boundary(model, points, norm=norm, bounds=NO_BOUNDS, **options)
    assert found.success.all()
    torch.testing.assert_close(found.distance, exact(model, points, norm), rtol=1e-9, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_in_a_box_no_random_search_comes_nearer(norm: float, noise: Callable[..., Tensor]) -> None:
    model, points = affine(noise, 3), noise(6, 8, seed=3).sigmoid()
    found = direct_boundary(model, points, norm=norm)
    assert found.success.all()
    assert (found.distance >= exact(model, points, norm) * (1 - 1e-9)).all()
    for row in range(6):
        draws = points[row] + found.distance[row] * 0.97 * _in_ball(noise, norm, seed=row)
        inside = ((draws >= 0) & (draws <= 1)).all(1)
        assert (model(draws[inside]).argmax(1) == model(points[row : row + 1]).argmax(1)).all()


def _in_ball(noise: Callable[..., Tensor], norm: float, seed: int) -> Tensor:
    draws = noise(20_000, 8, seed=100 + seed)
    return draws / norm_of(draws, norm).unsqueeze(1)


def test_nearest_neighbour_regions(noise: Callable[..., Tensor]) -> None:
    """Mostly exact; the rest are true local minima, behind another cell, which peers fall for."""
    prototypes, classes = noise(14, 2, seed=4), torch.arange(14) % 3
    model = NearestPrototype(prototypes, classes)
    points = noise(40, 2, seed=5)
    labels = model(points).argmax(1)
    found = direct_boundary(model, points, bounds=NO_BOUNDS)
    truth = torch.tensor(
        [model.distance(p, int(c)) for p, c in zip(points, labels, strict=True)],
        dtype=torch.float64,
    )
    ratio = found.distance / truth
    assert (ratio >= 1 - 1e-6).all()
    assert (ratio <= 1.001).double().mean() >= 0.8
    for peer in (attacks.alma, attacks.ddn, attacks.deepfool, attacks.fmn):
        other = peer(model, points, bounds=NO_BOUNDS).distance / truth
        assert (other >= 1 - 1e-6).all()
        assert (ratio <= 1.001).sum() > (other <= 1.001).sum()


def test_scouting_finds_a_rival_that_the_logits_hide(noise: Callable[..., Tensor]) -> None:
    # Class 1 has the higher logit at the input; class 2 rises ten times as fast, but bends, so
    # that nothing affine is seen.
    class Hidden(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            x, y = points[:, 0], points[:, 1]
            zero = torch.zeros_like(x)
            return torch.stack([zero, x + 0.05 * x.square() - 0.8, 5 * y + y**3 - 1.0], 1)

    points = torch.zeros(1, 2, dtype=torch.float64)
    found = direct_boundary(Hidden(), points, bounds=(-5.0, 5.0))
    blind = direct_boundary(Hidden(), points, bounds=(-5.0, 5.0), targets=torch.tensor([1]))
    # 5 y + y^3 = 1 at y = 0.198437.
    assert float(found.distance) == pytest.approx(0.1984374, rel=1e-4)
    assert float(blind.distance) > 0.7


def test_more_steps_are_no_worse_on_average(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 5)
    model = settled(nn.Sequential(*layers), seed=2, dtype=torch.float64)
    points = noise(40, 10, seed=6)
    lengths = [
        direct_boundary(model, points, bounds=NO_BOUNDS, steps=s, rivals=r).distance
        for s, r in ((8, 0), (30, 0), (95, 3))
    ]
    assert lengths[0].log().mean() >= lengths[1].log().mean() >= lengths[2].log().mean()


@pytest.mark.slow
def test_it_spends_what_it_says(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 5)
    model = settled(nn.Sequential(*layers), seed=2, dtype=torch.float64)
    points = noise(40, 10, seed=6)
    for steps, rivals in ((20, 0), (60, 3), (400, 5), (12, 4)):
        found = direct_boundary(model, points, bounds=NO_BOUNDS, steps=steps, rivals=rivals)
        usual = found.gradients.median()
        # New starts end where a whole one, of 12 gradients, does not fit any more.
        assert usual == steps or (steps == 400 and steps - 13 <= usual <= steps)
        assert found.evaluations.double().mean() <= steps + 14


def test_every_norm_beats_the_others_at_its_own(
    settled: Callable[..., nn.Module], noise: Callable[..., Tensor]
) -> None:
    layers = nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 3)
    model = settled(nn.Sequential(*layers), seed=2, dtype=torch.float64)
    points = noise(30, 10, seed=6)
    found = {p: direct_boundary(model, points, norm=p, bounds=NO_BOUNDS).points for p in NORMS}
    for p in NORMS:
        sizes = {q: norm_of(found[q] - points, p).log().mean() for q in NORMS}
        assert min(sizes, key=sizes.__getitem__) == p


def released(folder: Path, name: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a released network and the first test images that it classifies right."""
    model = convnet_4a()
    weights = load_file(folder / "networks" / f"mnist-convnet4a-{name}.safetensors")
    with torch.no_grad():
        for own, weight in zip(model.parameters(), weights_in_order(weights), strict=True):
            own.copy_(weight)
    data = read_images(str(folder / "mnist"))
    points, labels = data.points[:count], data.labels[:count]
    right = model(points).argmax(1) == labels
    return model.eval(), points[right], labels[right]


def weights_in_order(weights: dict[str, Tensor]) -> list[Tensor]:
    layers = ("conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "fc3")
    return [weights[f"{layer}.{part}"] for layer in layers for part in ("weight", "bias")]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "options", "most"),
    [
        ("xent", 2.0, {"steps": 26, "rivals": 0}, 0.80),
        ("xent", 2.0, {}, 0.75),
        ("xent", math.inf, {"steps": 46, "rivals": 0}, 0.076),
        ("madry-eps0.3", 2.0, {"steps": 26, "rivals": 0}, 1.8),
        ("madry-eps0.3", 2.0, {}, 1.50),
        ("madry-eps0.3", math.inf, {"steps": 46, "rivals": 0}, 0.345),
    ],
)
def test_released_networks(
    name: str, norm: float, options: dict[str, int], most: float, levelset_data: Path
) -> None:
    model, points, labels = released(levelset_data, name, 100)
    found = direct_boundary(model, points, labels, norm=norm, **options)
    assert found.success.all()
    assert found.distance.median() <= most
    # Nearer than the strongest published method with as many gradients; its failures count.
    if norm == 2.0:
        peer = attacks.alma(model, points, labels, steps=int(found.gradients.max()))
        assert (found.distance < peer.distance).double().mean() > 0.6
        assert found.distance.log().mean() < peer.distance.log().mean()
