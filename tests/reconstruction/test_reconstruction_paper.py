import pytest
import torch
from torch import nn

from levelset import project
from levelset.errors import NotConvergedError, ParameterError, RunError
from levelset.networks._implicit import _Skips
from levelset.reconstruction import Paper, train_paper
from levelset.reconstruction._paper import as_sphere, stream
from levelset.shapes import Sphere


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=1):
    with torch.random.fork_rng():
        return as_sphere(_Skips(3, 1, width=48, layers=4), 3, stream(seed, 0))


def cloud(count=400):
    points = torch.randn(count, 3, generator=seeded())
    return 0.8 * points / points.norm(dim=1, keepdim=True)


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("lifetime", [1, 10])
def test_level_sets_go_to_their_distances_from_the_points(lifetime):
    settings = Paper(epochs=150, batch_size=400, lifetime=lifetime)
    network, history = train_paper(cloud(), settings, network=small(), generator=seeded())
    points = torch.randn(500, 3, generator=seeded(1)) * 0.6
    near = (Sphere(0.8)(points)).abs() < 0.3
    with torch.no_grad():
        error = (network(points).squeeze(1) - Sphere(0.8)(points)).abs()[near]
    assert float(error.mean()) < 0.04
    assert history[-1].loss < 0.25 * history[0].loss
    found = project(network, cloud())
    assert float((found.points.norm(dim=1) - 0.8).abs().mean()) < 0.01
    assert history[-1].residual == pytest.approx(0.0, abs=0.02)


def test_it_is_the_same_for_the_same_seed_and_after_a_stop(tmp_path):
    settings = Paper(epochs=4, batch_size=100)
    whole, history = train_paper(cloud(), settings, network=small(), generator=seeded())
    stopped = []

    def stop(step):
        stopped.append(step)
        if step.done == 2:
            raise KeyboardInterrupt

    half, first = train_paper(
        cloud(), settings, network=small(), generator=seeded(), out=tmp_path, progress=stop
    )
    assert [step.done for step in first] == [1, 2]
    assert not torch.equal(weights(half), weights(whole))
    rest, full = train_paper(
        cloud(), settings, network=small(9), generator=seeded(), out=tmp_path, resume=True
    )
    assert torch.equal(weights(rest), weights(whole))
    assert [step.loss for step in full] == [step.loss for step in history]
    assert all(p.grad is None for p in rest.parameters())


def test_time_is_kept():
    _, history = train_paper(
        cloud(), Paper(batch_size=50, seconds=0.05), network=small(), generator=seeded()
    )
    assert 1 <= len(history) < 100
    assert history[-1].total == 5000


def test_random_numbers_and_arguments_are_left_alone(left_as_found):
    points = cloud()
    with left_as_found(points):
        train_paper(points, Paper(epochs=1), network=small(), generator=seeded())


def test_samples_of_the_zero_level_set_serve_several_steps():
    """Counted: with a longer life fewer rows are evaluated, for the same samples a step."""

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.rows = small(), 0

        def forward(self, x):
            self.rows += len(x)
            return self.inner(x)

    rows = []
    for lifetime in (1, 10):
        network = Counted()
        settings = Paper(epochs=20, batch_size=400, lifetime=lifetime)
        train_paper(cloud(), settings, network=network, generator=seeded())
        rows.append(network.rows / 20)
    assert rows[1] < 1.3 * 800
    assert rows[0] > 1.5 * 800


def test_what_cannot_go_on_is_told(tmp_path):
    settings = Paper(epochs=1)
    with pytest.raises(ParameterError, match="`resume` needs the folder"):
        train_paper(cloud(), settings, network=small(), resume=True)
    train_paper(cloud(), settings, network=small(), out=tmp_path, generator=seeded())
    with pytest.raises(RunError, match="holds a training already"):
        train_paper(cloud(), settings, network=small(), out=tmp_path)
    with pytest.raises(RunError, match="was of another sigma, points"):
        train_paper(
            cloud(90), Paper(epochs=1, sigma=0.2), network=small(), out=tmp_path, resume=True
        )
    broken = small()
    with torch.no_grad():
        broken.last.weight.fill_(float("nan"))
    with pytest.raises(NotConvergedError, match="the loss is no longer finite in epoch 1"):
        train_paper(cloud(), settings, network=broken)


def test_a_last_batch_that_is_smaller_costs_no_new_samples():
    rows = []

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small()

        def forward(self, x):
            rows.append(len(x))
            return self.inner(x)

    train_paper(cloud(410), Paper(epochs=10, batch_size=100), network=Counted(), generator=seeded())
    assert sum(rows) / 10 < 1.35 * 820


@pytest.mark.gpu
def test_it_runs_where_the_points_are():
    network, history = train_paper(
        cloud().to("cuda"), Paper(epochs=2), network=small().to("cuda"), generator=seeded()
    )
    assert next(network.parameters()).is_cuda
    assert len(history) == 2
