"""Ensembles: never above a member, each member on what it can improve, the caller's state kept."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from levelset.attacks import Attack, direct_boundary
from levelset.boundary import ATTACKS, distance
from levelset.boundary._ensemble import Ensemble, Member, members
from levelset.networks import fc


@pytest.fixture
def model() -> nn.Module:
    generator = torch.Generator().manual_seed(8)
    network = fc(10, 20, 4).eval()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture
def points() -> Tensor:
    return torch.rand(25, 10, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("norm", [2.0, math.inf])
@pytest.mark.parametrize(
    "effort", ["quick", "standard", pytest.param("thorough", marks=pytest.mark.slow)]
)
def test_never_above_a_member(model: nn.Module, points: Tensor, norm: float, effort: str) -> None:
    found = distance(model, points, norm=norm, effort=effort)  # type: ignore[arg-type]
    for member in members(effort, norm, points, ()):  # type: ignore[arg-type]
        assert member.name in ATTACKS
        if member.last_resort or member.resumes:  # never made of these inputs from the start
            continue
        alone = member.attack(model, points, **member.options)
        order = math.inf if math.isinf(norm) else 2
        length = torch.linalg.vector_norm(alone.points - points, ord=order, dim=1)
        assert (found.distance <= length.where(alone.success, torch.inf) + 1e-6).all(), member.name


def test_the_last_resort_takes_only_what_is_missing(model: nn.Module, points: Tensor) -> None:
    seen = []

    def note(model: nn.Module, points: Tensor, labels: Tensor, **options: object) -> Attack:
        seen.append(len(points))
        return direct_boundary(model, points, labels)

    labels = model(points).argmax(1)
    ensemble = Ensemble(model, points, labels, 2.0)
    ensemble.run(0, Member("first", note, {}))
    missed = int(ensemble.lengths.isinf().sum())
    ensemble.run(1, Member("last", note, {}, last_resort=True))
    assert seen == ([25, missed] if missed else [25])


def test_random_directions_find_what_gradients_cannot(points: Tensor) -> None:
    """A classifier whose gradient points away from its own boundary."""

    class Misleading(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            true = 4.0 * (x[:, 0] - 0.5)
            shown = true.detach() - 1e-3 * (x - x.detach())[:, 0]
            return torch.stack([shown, -shown], dim=1)

    found = distance(Misleading(), points, bounds=(-3.0, 4.0), effort="quick")
    assert found.distance.isfinite().all()
    assert (found.distance >= (points[:, 0] - 0.5).abs() * (1 - 1e-4)).all()


@pytest.mark.slow
def test_the_random_state_is_neither_used_nor_moved(model: nn.Module, points: Tensor) -> None:
    torch.manual_seed(1)
    first = distance(model, points, effort="thorough")
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    again = distance(model, points, effort="thorough")
    assert torch.equal(first.distance, again.distance)
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())


class Rounded(nn.Module):
    """A model whose input is rounded, so that it has no gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x * 8).round() / 8)


class Steep(nn.Module):
    """A model whose logits saturate, so that its gradients vanish at most inputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(3.0 * self.model(x))


@pytest.mark.slow
@pytest.mark.parametrize("norm", [2.0, math.inf])
@pytest.mark.parametrize("kind", [nn.Identity, Rounded, Steep])
def test_a_higher_effort_is_never_farther(
    model: nn.Module, points: Tensor, norm: float, kind: type[nn.Module]
) -> None:
    network = kind(model) if kind is not nn.Identity else model
    points = points[:12]
    labels = model(points).argmax(1)
    quick, standard, thorough = (
        distance(network, points, labels, norm=norm, effort=effort).distance
        for effort in ("quick", "standard", "thorough")
    )
    assert (standard <= quick).all()
    assert (thorough <= standard).all()


def test_efforts_begin_with_those_below(points: Tensor) -> None:
    for norm in (2.0, math.inf):
        lists = [members(effort, norm, points, ()) for effort in ("quick", "standard", "thorough")]
        for lower, higher in itertools.pairwise(lists):
            for one, other in zip(lower, higher, strict=False):
                assert (one.name, one.attack, one.resumes) == (
                    other.name,
                    other.attack,
                    other.resumes,
                )
                same = {k: v for k, v in one.options.items() if k != "generator"}
                assert same == {k: v for k, v in other.options.items() if k != "generator"}
