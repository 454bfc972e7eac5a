"""Streams of random numbers of a training's own, and seeded weights."""

import pytest
import torch
from torch import nn

from levelset._tools.random import draw_seed, private_stream
from levelset.errors import ParameterError
from levelset.networks import digits, fc_2, resnet18_cifar
from levelset.training import initialise

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_streams_repeat_differ_and_leave_the_global_state() -> None:
    state = torch.get_rng_state()
    drawn = []
    for seed, stream in ((1, 0), (1, 0), (1, 1), (2, 0)):
        with private_stream(CPU, seed, stream):
            drawn.append(torch.rand(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0], drawn[1])
    assert len({tuple(x.tolist()) for x in drawn}) == 3


def test_global_state_comes_back_after_an_exception() -> None:
    state = torch.get_rng_state()

    def interrupted() -> None:
        with private_stream(CPU, 1, 0):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_is_one_draw() -> None:
    generator = seeded(3)
    first, second = draw_seed(generator), draw_seed(generator)
    assert first == draw_seed(seeded(3)) != second
    assert 0 <= first < 2**63


@pytest.mark.parametrize("make", [digits, fc_2, resnet18_cifar])
def test_initialise_depends_on_the_generator_alone(make: type[nn.Module]) -> None:
    one, two, three = make(), make(), make()
    state = torch.get_rng_state()
    assert initialise(one, generator=seeded(5)) is one
    initialise(two, generator=seeded(5))
    initialise(three, generator=seeded(6))
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = (m.state_dict() for m in (one, two, three))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_initialise_draws_torchs_own_distribution() -> None:
    layer = initialise(nn.Linear(400, 500), generator=seeded())
    bound = 1 / 20  # of torch: uniform within 1 / sqrt(inputs)
    assert layer.weight.abs().max() <= bound * (1 + 1e-6)
    assert layer.weight.detach().std() == pytest.approx(bound / 3**0.5, rel=0.01)


def test_initialise_resets_running_statistics() -> None:
    layer = nn.BatchNorm1d(3)
    layer(torch.rand(5, 3))
    initialise(layer, generator=seeded())
    assert torch.equal(layer.running_mean, torch.zeros(3))
    assert layer.num_batches_tracked == 0


def test_initialise_names_the_layer_that_cannot() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3))

    network = nn.Sequential(nn.Linear(3, 3), Scale())
    before = network[0].weight.clone()
    with pytest.raises(ParameterError, match=r"`reset_parameters`, got none in Scale 1\."):
        initialise(network, generator=seeded())
    assert torch.equal(network[0].weight, before)
