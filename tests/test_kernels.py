"""The path kernel against brute force: gradients point by point, optimisers step by step."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset import Classifier
from levelset.errors import DataError, LevelSetWarning, ParameterError, ShapeError
from levelset.kernels import (
    GaussianProcess,
    GaussLegendre,
    Midpoint,
    PathKernel,
    effects,
    explain,
    novelty,
    suspects,
)  # fmt: skip
from levelset.kernels._blocks import Outer, matrix_of
from levelset.kernels._explain import _pieces as explain_pieces
from levelset.kernels._pairs import UnknownLayerError
from levelset.kernels._tangent import run
from levelset.networks import lenet
from levelset.training import Recording, record


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Residual(nn.Module):
    """Convolutions, grouped ones among them, BatchNorm, sums in place, a mean, a gain."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.norm2, self.gain = nn.BatchNorm2d(4), nn.Parameter(torch.ones(4, 1, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm1(self.conv1(x)))
        kept = h
        h = self.norm2(self.conv2(h))
        h += kept
        return self.head(functional.relu(h * self.gain, inplace=True).mean((2, 3)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def shallow() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.GELU(), nn.Flatten(), nn.Linear(27, 3)
    )


def sequence() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 3, 3, padding="same", dilation=2), nn.LeakyReLU(), nn.MaxPool1d(2),
        nn.Linear(4, 4), nn.Softplus(), nn.AvgPool1d(2), nn.Dropout(), nn.Flatten(),
        nn.Linear(6, 3),
    )  # fmt: skip


class Tied(nn.Module):
    """One layer used twice, and a bias added by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3, bias=False)
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x))))) + self.shift


NETWORKS = {
    "mlp": (mlp, (4,)),
    "lenet": (lenet, (1, 28, 28)),
    "pooled": (pooled, (1, 8, 8)),
    "residual": (Residual, (1, 6, 6)),
    "sequence": (sequence, (2, 8)),
    "tied": (Tied, (4,)),
}
OPTIMIZERS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {
        "momentum": 0.9, "nesterov": True, "weight_decay": 0.05, "schedule": "cosine",
    },
    "decay": {"weight_decay": 0.05},
    "adam": {"optimizer": "adam", "weight_decay": 0.05, "learning_rate": 0.01},
    "adamw": {
        "optimizer": "adamw", "weight_decay": 0.05, "learning_rate": 0.01, "schedule": "cosine",
    },
}  # fmt: skip


def settle(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = seeded(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            width = parameter[0].numel() if parameter.dim() > 1 else 1
            parameter.normal_(generator=generator).div_(width**0.5)
    return model.double()


def inputs(shape: tuple[int, ...], n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, *shape, generator=seeded(seed)).double()


def labels_of(n: int, k: int = 3, seed: int = 2) -> Tensor:
    return torch.randint(k, (n,), generator=seeded(seed))


def trained(folder, make=mlp, shape=(4,), n=12, **options) -> tuple[Recording, Tensor, Tensor]:
    points, labels = inputs(shape, n), labels_of(n)
    settings = {"steps": 8, "learning_rate": 0.3, "folder": folder, "generator": seeded()}
    return record(settle(make()), points, labels, **(settings | options)), points, labels


def gradient(model: nn.Module, point: Tensor, k: int) -> dict[str, Tensor]:
    """Return the gradient of one output at one point, by autograd."""
    names, weights = zip(*model.named_parameters(), strict=True)
    parts = torch.autograd.grad(model(point.unsqueeze(0))[0, k], weights)
    return dict(zip(names, parts, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_layers_are_those_of_autograd(name):
    make, shape = NETWORKS[name]
    model, points = settle(make()).eval(), inputs(shape, 2)
    state = {n: p.detach() for n, p in model.named_parameters()}
    tangent = run(model, state, state, points)
    assert (tangent.before - model(points)).abs().max() < 1e-12
    factors = torch.randn(2, tangent.before.shape[1], generator=seeded()).double()
    each, folded = tangent.each(), tangent.folded(factors)
    assert {n for block in each for n in block.names} == set(state)
    for row in range(2):
        whole = {n: torch.zeros_like(p) for n, p in state.items()}
        for k in range(3):
            expected = gradient(model, points[row], k)
            for block in each:
                own = block.dense().values[row, k]
                assert (own - matrix_of(block.names, expected).reshape(-1)).abs().max() < 1e-10
        total = (model(points[row : row + 1])[0] * factors[row]).sum()
        parts = torch.autograd.grad(total, list(model.parameters()))
        whole = dict(zip(state, parts, strict=True))
        for block in folded:
            own = block.dense().values[row]
            assert (own - matrix_of(block.names, whole).reshape(-1)).abs().max() < 1e-10


@pytest.mark.parametrize("name", NETWORKS)
def test_the_secant_gradient_times_any_step_is_the_change_of_the_outputs(name):
    make, shape = NETWORKS[name]
    model, points = settle(make()).eval(), inputs(shape, 5)
    before = {n: p.detach() for n, p in model.named_parameters()}
    step = {n: 0.3 * torch.randn(p.shape, generator=seeded(4)).double() for n, p in before.items()}
    after = {n: before[n] + step[n] for n in before}
    tangent = run(model, before, after, points)
    change = sum(block.times(step) for block in tangent.each())
    assert (tangent.after - tangent.before).abs().max() > 0.1
    assert (change - (tangent.after - tangent.before)).abs().max() < 1e-11


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "name",
    ["mlp", *(pytest.param(n, marks=pytest.mark.slow) for n in ("residual", "pooled", "lenet"))],
)
def test_kernel_and_network_agree(name, optimizer, batch_size, tmp_path):
    make, shape = NETWORKS[name]
    small = {"learning_rate": 0.02, "steps": 3, "n": 6} if name == "lenet" else {}
    options = small | OPTIMIZERS[optimizer]
    recording, points, labels = trained(tmp_path, make, shape, batch_size=batch_size, **options)
    kernel, tests = PathKernel(recording, points, labels), inputs(shape, 3, seed=7)
    prediction = kernel.predict(tests)
    assert (prediction.network_logits - prediction.start).abs().max() > 0.01
    assert prediction.identity_error < 1e-11
    shares = kernel.contributions(tests)
    assert shares.identity_error < 1e-11
    assert (shares.shares.sum(2) - prediction.from_points).abs().max() < 1e-11
    assert (shares.weight_decay - prediction.weight_decay).abs().max() < 1e-11
    assert bool(shares.weight_decay.any()) == (recording.plan.rule.weight_decay > 0)


def brute_force(recording: Recording, points: Tensor, labels: Tensor, tests: Tensor) -> Tensor:
    """Return the shares of training points by the mean of gradients at 64 midpoints a step.

    Each point has a memory of its own, updated forwards, as an optimiser's; Adam's scale comes of
    the sum over all points.
    """
    model, rule = recording.model, recording.plan.rule
    (shard,) = recording.shards()
    shares = torch.zeros(len(tests), 3, len(points)).double()
    memory = torch.zeros(len(points), len(recording.end())).double()
    squares = torch.zeros(len(recording.end())).double()

    def load(state: Tensor) -> None:
        nn.utils.vector_to_parameters(state, model.parameters())

    def flat(point: Tensor, k: int) -> Tensor:
        return torch.cat([g.reshape(-1) for g in gradient(model, point, k).values()])

    for number in range(recording.steps):
        load(shard.state(number))
        batch = shard.batch(number)
        rows = range(len(points)) if batch is None else batch.tolist()
        own = torch.zeros_like(memory)
        for i in rows:
            value = functional.cross_entropy(model(points[i : i + 1]), labels[i : i + 1])
            parts = torch.autograd.grad(value, list(model.parameters()))
            own[i] = torch.cat([p.reshape(-1) for p in parts]) / len(rows)
        scale = 1.0
        if rule.is_adaptive:
            total = own.sum(0)
            squares = rule.betas[1] * squares + (1 - rule.betas[1]) * total**2
            root = (squares / (1 - rule.betas[1] ** (number + 1))).sqrt()
            scale = 1.0 / ((root + rule.eps) * (1 - rule.betas[0] ** (number + 1)))
            memory = rule.betas[0] * memory + (1 - rule.betas[0]) * own
            update = memory
        else:
            memory = rule.momentum * memory + own
            update = own + rule.momentum * memory if rule.nesterov else memory
        moved = -shard.rate(number) * scale * update
        for t in range(64):
            load(torch.lerp(shard.state(number), shard.state(number + 1), (t + 0.5) / 64))
            for m, point in enumerate(tests):
                for k in range(3):
                    shares[m, k] += moved @ flat(point, k) / 64
    load(recording.end())
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_shares_are_those_of_a_brute_force(optimizer, batch_size, tmp_path):
    options = OPTIMIZERS[optimizer] | {"weight_decay": 0.0, "steps": 4, "batch_size": batch_size}

    def smooth() -> nn.Module:
        return nn.Sequential(
            nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
        )

    recording, points, labels = trained(tmp_path, smooth, n=6, **options)
    tests = inputs((4,), 2, seed=9)
    expected = brute_force(recording, points, labels, tests)
    exact = PathKernel(recording, points, labels, integral=GaussLegendre(6))
    assert (exact.contributions(tests).shares - expected).abs().max() < 1e-4 * expected.abs().max()
    secant = PathKernel(recording, points, labels).contributions(tests).shares
    assert (secant - expected).abs().max() < 1e-2 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_breakpoints_are_the_integral_of_two_layers(optimizer, activation, tmp_path):
    def two() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), activation, nn.Linear(8, 3))

    recording, points, labels = trained(tmp_path, two, **OPTIMIZERS[optimizer])
    tests = inputs((4,), 4, seed=5)
    exact = PathKernel(recording, points, labels, integral="breakpoints")
    assert exact.predict(tests).identity_error < 1e-13
    shares = exact.contributions(tests)
    assert shares.identity_error < 1e-12
    fine = PathKernel(recording, points, labels, integral=Midpoint(60)).contributions(tests)
    assert (fine.shares - shares.shares).abs().max() < 1e-2 * shares.shares.abs().max()


def test_breakpoints_are_refused_for_deeper_networks(tmp_path):
    recording, points, labels = trained(tmp_path)
    with pytest.raises(ParameterError, match="'breakpoints' is for a Linear or Conv layer, a ReLU"):
        PathKernel(recording, points, labels, integral="breakpoints")


@pytest.mark.slow
def test_more_nodes_are_closer_and_smooth_networks_need_few(tmp_path):
    recording, points, labels = trained(tmp_path / "relu", learning_rate=0.5)
    tests = inputs((4,), 6, seed=3)
    errors = [
        PathKernel(recording, points, labels, integral=Midpoint(n)).predict(tests).identity_error
        for n in (1, 4, 32)
    ]
    assert errors[0] > errors[1] > errors[2] > 1e-9

    def smooth() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    recording, points, labels = trained(tmp_path / "tanh", smooth)
    kernel = PathKernel(recording, points, labels, integral=GaussLegendre(6))
    assert kernel.predict(tests).identity_error < 1e-12


def test_both_ends_of_the_shares(tmp_path):
    recording, points, labels = trained(tmp_path)
    kernel, tests = PathKernel(recording, points, labels), inputs((4,), 3, seed=7)
    whole = kernel.contributions(tests)
    few = kernel.contributions(tests, top=2)
    assert few.shares.shape == (3, 3, 4)
    order = whole.shares.argsort(2, descending=True)
    assert torch.equal(few.indices, torch.cat([order[:, :, :2], order[:, :, -2:]], 2))
    assert (few.shares - whole.shares.gather(2, few.indices)).abs().max() < 1e-14
    assert (few.logits - whole.logits).abs().max() < 1e-14
    assert kernel.contributions(tests, top=50).shares.shape == (3, 3, 12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_little_memory_gives_the_same(optimizer, tmp_path):
    options = {"batch_size": 7, "steps": 4} | OPTIMIZERS[optimizer]
    recording, points, labels = trained(tmp_path, **options)
    tests = inputs((4,), 4, seed=7)
    plenty = PathKernel(recording, points, labels).contributions(tests)
    scarce = PathKernel(recording, points, labels, memory=2_500)
    assert (scarce.contributions(tests).shares - plenty.shares).abs().max() < 1e-14
    assert (scarce.contributions(tests, top=1).logits - plenty.logits).abs().max() < 1e-14
    assert (scarce.gram(tests) - PathKernel(recording, points, labels).gram(tests)).norm() < 1e-13
    with pytest.raises(
        ParameterError, match=r"the result takes 1152 bytes, more than `memory` \(9"
    ):
        PathKernel(recording, points, labels, memory=900).contributions(tests)


def test_gram_matrices_are_those_of_gradients(tmp_path):
    recording, points, labels = trained(tmp_path, steps=3)
    kernel, tests = PathKernel(recording, points, labels), inputs((4,), 2, seed=7)
    (shard,) = recording.shards()
    model = recording.model
    expected = torch.zeros(12, 12).double()
    for number in range(3):
        nn.utils.vector_to_parameters(shard.state(number), model.parameters())
        for k in range(3):
            rows = [
                torch.cat([g.reshape(-1) for g in gradient(model, p, k).values()]) for p in points
            ]
            expected += torch.stack(rows) @ torch.stack(rows).T / 3
    nn.utils.vector_to_parameters(recording.end(), model.parameters())
    assert (kernel.gram(points) - expected).abs().max() < 1e-11
    assert (kernel.gram(points, form="asymmetric") - expected).abs().max() > 1e-5
    own = kernel.gram(tests).diagonal()
    joined = torch.cat([tests, points[:1]])
    near = kernel.neighbours(joined, k=2)
    assert near.indices[2, 0] == 0
    assert abs(near.similarity[2, 0] - 1.0) < 1e-12
    value = kernel.gram(tests, points) / (own[:, None] * expected.diagonal()).sqrt()
    assert (near.similarity[:2, 0] - value.amax(1)).abs().max() < 1e-12
    distances = (tests[:, None] - points).norm(dim=2)
    assert torch.equal(near.pixel_indices[:2, 0], distances.argmin(1))


@pytest.mark.parametrize("integral", ["secant", "breakpoints", Midpoint(3)])
def test_the_symmetric_kernel_is_positive_semi_definite(integral, tmp_path):
    recording, points, labels = trained(tmp_path, shallow)
    kernel = PathKernel(recording, points, labels, integral=integral)
    matrix = kernel.gram(torch.cat([points[:5], inputs((4,), 7, seed=7)]))
    assert (matrix - matrix.T).abs().max() < 1e-13 * matrix.abs().max()
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12 * matrix.trace()


@pytest.mark.slow
def test_the_asymmetry_vanishes_with_the_step(tmp_path):
    tests = inputs((4,), 6, seed=7)
    sizes = []
    for rate in (0.4, 0.04, 0.004):
        recording, points, labels = trained(tmp_path / str(rate), shallow, learning_rate=rate)
        sizes.append(PathKernel(recording, points, labels).asymmetry(tests))
    assert sizes[1] < 0.2 * sizes[0]
    assert sizes[2] < 0.2 * sizes[1]


def test_signs_are_constant_for_cross_entropy_only(tmp_path):
    one, points, labels = trained(tmp_path / "a")
    signs = PathKernel(one, points, labels).is_kernel()
    assert signs.is_kernel
    assert signs.violations == 0.0
    other, *_ = trained(tmp_path / "b", loss="squared_error", steps=40, learning_rate=0.3)
    signs = PathKernel(other, points, labels).is_kernel()
    assert not signs.is_kernel
    assert signs.violations == pytest.approx(float(signs.per_point.mean()))


class Odd(nn.Module):
    """A network with a function that has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.softmax(self.first(x), 1))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_unknown_layer_goes_by_samples_and_says_so(optimizer, tmp_path):
    recording, points, labels = trained(tmp_path, Odd, **OPTIMIZERS[optimizer])
    with pytest.warns(LevelSetWarning, match="has the function `softmax`, which has no secant"):
        kernel = PathKernel(recording, points, labels)
    tests = inputs((4,), 3, seed=7)
    assert kernel.predict(tests).identity_error < 1e-12
    assert kernel.contributions(tests).identity_error < 1e-12
    assert kernel.integral == GaussLegendre(8)


@pytest.mark.parametrize("half", [False, True])
def test_a_part_of_the_path_says_how_exact_it_is(half, tmp_path):
    kept = {"precision": "half"} if half else {"every": 2, "learning_rate": 0.05}
    recording, points, labels = trained(tmp_path, **kept)
    prediction = PathKernel(recording, points, labels).predict(inputs((4,), 3, seed=7))
    assert 1e-9 < prediction.identity_error < 0.05


def test_no_points_and_one_point(tmp_path):
    recording, points, labels = trained(tmp_path)
    kernel = PathKernel(recording, points, labels)
    none = points[:0]
    assert kernel.predict(none).logits.shape == (0, 3)
    assert kernel.predict(none).identity_error == 0.0
    assert kernel.contributions(none).shares.shape == (0, 3, 12)
    assert kernel.contributions(none, top=2).indices.shape == (0, 3, 4)
    assert kernel.gram(none, points).shape == (0, 12)
    assert kernel.neighbours(none, k=2).indices.shape == (0, 2)
    assert kernel.contributions(points[:1]).identity_error < 1e-12


def test_what_does_not_belong_together_is_refused(tmp_path):
    recording, points, labels = trained(tmp_path)
    with pytest.raises(ParameterError, match="must be those of the recording, in its order"):
        PathKernel(recording, points, (labels + 1) % 3)
    with pytest.raises(
        ParameterError, match="must be the 12 training points of the recording, got 5"
    ):
        PathKernel(recording, points[:5], labels[:5])
    kernel = PathKernel(recording, points, labels)
    with pytest.raises(
        ShapeError, match=r"the shape of the training points \(n, 4\), got \(2, 5\)"
    ):
        kernel.predict(torch.zeros(2, 5))
    with torch.no_grad():
        recording.model[0].weight.add_(0.1)
    with pytest.raises(ParameterError, match="must be those at the end of its path"):
        PathKernel(recording, points, labels)
    Recording.read(tmp_path, recording.model)
    next(recording.folder.glob("shard-*")).unlink()
    with pytest.raises(DataError, match="steps 0 to 7 are missing"):
        kernel.predict(points)


def test_the_model_is_left_as_it_was(tmp_path, left_as_found):
    recording, points, labels = trained(tmp_path, Residual, (1, 6, 6), steps=2)
    recording.model.train()
    with left_as_found(recording.model, points, labels):
        kernel = PathKernel(recording, points, labels)
        kernel.predict(points[:2])
        kernel.contributions(points[:2])
        kernel.neighbours(points[:2], k=1)


def test_rules_refuse_what_they_do_not_know():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * (x.sum() > 0)

    model = Gate().double()
    state = {n: p.detach() for n, p in model.named_parameters()}
    with warnings.catch_warnings(), pytest.raises(UnknownLayerError, match="function"):
        run(model, state, state, inputs((4,), 2))


def test_first_and_last_layers_are_told_by_their_factors():
    model, points = settle(mlp()), inputs((4,), 2)
    state = {n: p.detach() for n, p in model.named_parameters()}
    blocks = run(model, state, state, points).each()
    assert all(isinstance(block, Outer) for block in blocks)
    assert [block.is_fixed for block in blocks] == [True, False, False]
    assert [block.is_unit for block in blocks] == [False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
@pytest.mark.parametrize("name", ["mlp", "pooled"])
def test_own_shares_are_the_diagonal_of_the_contributions(name, optimizer, batch_size, tmp_path):
    make, shape = NETWORKS[name]
    options = OPTIMIZERS[optimizer] | {"batch_size": batch_size, "steps": 4}
    recording, points, labels = trained(tmp_path, make, shape, n=8, **options)
    kernel = PathKernel(recording, points, labels)
    expected = kernel.contributions(points).shares.diagonal(dim1=0, dim2=2).T
    assert (kernel.own_shares() - expected).abs().max() < 1e-12
    scarce = PathKernel(recording, points, labels, memory=3000)
    assert (scarce.own_shares() - expected).abs().max() < 1e-12


def outputs_of_weighted(recording: Recording, start: nn.Module, weighted: Tensor, data, test):
    """Return the outputs after training again with weights on the points' losses, by torch."""
    points, labels = data
    plan = recording.plan
    optimizer = plan.rule.build(list(start.parameters()), 1.0)
    (shard,) = recording.shards()
    for number in range(plan.steps):
        batch = shard.batch(number)
        rows = torch.arange(len(points)) if batch is None else batch
        optimizer.param_groups[0]["lr"] = shard.rate(number)
        optimizer.zero_grad()
        each = functional.cross_entropy(start(points[rows]), labels[rows], reduction="none")
        (weighted[rows] * each).mean().backward()
        optimizer.step()
    return start(test).detach()


@pytest.mark.parametrize("batch_size", [None, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_effects_are_the_derivatives_of_the_training(optimizer, batch_size, tmp_path):
    def smooth() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    recording, points, labels = trained(
        tmp_path, smooth, batch_size=batch_size, **OPTIMIZERS[optimizer]
    )
    tests, classes = inputs((4,), 3, seed=7), torch.tensor([0, 2, 1])
    kernel = PathKernel(recording, points, labels)
    result = effects(kernel, tests, classes)
    assert result.shape == (3, 12)
    for i in (0, 7):
        ends = []
        for sign in (1.0, -1.0):
            weighted = torch.ones(12).double()
            weighted[i] += sign * 1e-5
            ends.append(
                outputs_of_weighted(recording, settle(smooth()), weighted, (points, labels), tests)
            )
        slope = (ends[0] - ends[1]) / 2e-5
        assert (result[:, i] - slope.gather(1, classes[:, None])[:, 0]).abs().max() < 1e-9
    scarce = PathKernel(recording, points, labels, memory=1000)
    assert (effects(scarce, tests, classes) - result).abs().max() < 1e-13
    largest = kernel.outputs(tests).argmax(1)
    assert torch.equal(effects(kernel, tests), effects(kernel, tests, largest))
    assert effects(kernel, tests[:0]).shape == (0, 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pooled", "residual", "sequence"])
def test_effects_go_through_convolutions_and_pooling(name, tmp_path):
    make, shape = NETWORKS[name]
    recording, points, labels = trained(
        tmp_path, make, shape, n=6, steps=4, learning_rate=0.05, batch_size=4
    )
    kernel, tests = PathKernel(recording, points, labels), inputs(shape, 2, seed=7)
    classes = torch.tensor([2, 0])
    ends = []
    for sign in (1.0, -1.0):
        weighted = torch.ones(6).double()
        weighted[3] += sign * 1e-6
        start = settle(make()).eval()
        ends.append(outputs_of_weighted(recording, start, weighted, (points, labels), tests))
    slope = ((ends[0] - ends[1]) / 2e-6).gather(1, classes[:, None])[:, 0]
    assert slope.abs().min() > 1e-6
    assert (effects(kernel, tests, classes)[:, 3] - slope).abs().max() < 1e-7


def test_effects_of_adam_and_of_no_class_are_refused(tmp_path):
    recording, points, labels = trained(tmp_path, **OPTIMIZERS["adam"])
    kernel = PathKernel(recording, points, labels)
    with pytest.raises(ParameterError, match="must be of a training by 'sgd', got 'adam'"):
        effects(kernel, points)
    recording, points, labels = trained(tmp_path / "sgd")
    kernel = PathKernel(recording, points, labels)
    with pytest.raises(ParameterError, match="`classes` must lie in 0 to 2, got 3"):
        effects(kernel, points[:1], torch.tensor([3]))


def blobs(n: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % 3
    centres = torch.eye(3, 4).double() * 3.0
    return centres[labels] + 0.3 * torch.randn(n, 4, generator=seeded(seed)).double(), labels


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> tuple[PathKernel, Tensor]:
    """Three clusters with two wrong labels, and the kernel of a network that fits them."""
    points, labels = blobs(36)
    labels[[4, 20]] = (labels[[4, 20]] + 1) % 3
    model = settle(mlp(), 3)
    folder = tmp_path_factory.mktemp("clusters")
    recording = record(model, points, labels, steps=60, learning_rate=0.2, folder=folder)
    return PathKernel(recording, points, labels), labels


def test_wrong_labels_are_the_first_suspects(clusters):
    kernel, labels = clusters
    result = suspects(kernel)
    assert set(result.indices[:2].tolist()) == {4, 20}
    assert (result.opposition[:2] > 0).all()
    assert (result.opposition.diff() <= 0).all()
    assert torch.equal(result.labels, labels[result.indices])
    assert torch.equal(result.others[:2], (result.labels[:2] - 1) % 3)
    left = kernel.outputs(kernel.points) - kernel.own_shares()
    row = int(result.indices[0])
    own = left[row, labels[row]]
    best = left[row].clone().index_fill(0, labels[row : row + 1], -torch.inf).max()
    assert abs(float(best - own) - float(result.opposition[0])) < 1e-12
    assert "contradicted=" in repr(result)


def test_a_network_with_one_output_has_no_suspects(tmp_path):
    points, labels = blobs(8)
    model = settle(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)))
    recording = record(
        model, points, labels % 2, steps=3, learning_rate=0.1, folder=tmp_path,
        loss="binary_cross_entropy",
    )  # fmt: skip
    kernel = PathKernel(recording, points, labels % 2)
    assert kernel.predict(points).identity_error < 1e-13
    assert kernel.is_kernel().is_kernel
    with pytest.raises(ParameterError, match="must have two outputs at least, got one"):
        suspects(kernel)


def test_the_gaussian_process_is_that_of_the_textbook(clusters):
    kernel, labels = clusters
    tests = blobs(6, seed=8)[0]
    process = GaussianProcess(kernel, noise=0.1, stride=6)
    matrix = kernel.gram(kernel.points, stride=6)
    cross = kernel.gram(tests, kernel.points, stride=6)
    sizes, own = matrix.diagonal().sqrt(), kernel.gram(tests, stride=6).diagonal().sqrt()
    matrix, cross = matrix / sizes / sizes[:, None], cross / sizes / own[:, None]
    inverse = torch.linalg.inv(matrix + 0.1 * torch.eye(36).double())
    targets = functional.one_hot(labels, 3).double() - 1 / 3
    mean, variance = process.predict(tests)
    assert (mean - cross @ inverse @ targets).abs().max() < 1e-9
    assert (variance - (1.0 - (cross @ inverse * cross).sum(1))).abs().max() < 1e-9
    assert torch.equal(mean.argmax(1), torch.arange(6) % 3)
    none = process.predict(tests[:0])
    assert none[0].shape == (0, 3)
    assert none[1].shape == (0,)


def test_points_of_another_kind_are_more_novel(clusters):
    kernel, _ = clusters
    process = GaussianProcess(kernel, stride=6)
    outside = torch.tensor([[-3.0, -3.0, -3.0, 9.0], [0, 0, 0, 8.0]])
    for score in ("residual", "variance", "nearest"):
        inside = novelty(process, blobs(9, seed=8)[0], score=score)
        assert novelty(process, outside, score=score).min() > inside.max()


def test_a_kernel_stands_for_its_gaussian_process(tmp_path):
    recording, points, labels = trained(tmp_path, steps=2)
    kernel, tests = PathKernel(recording, points, labels), inputs((4,), 3, seed=7)
    variance = GaussianProcess(kernel).predict(tests)[1]
    assert torch.equal(novelty(kernel, tests, score="variance"), variance)
    own = kernel.gram(tests).diagonal()
    assert (novelty(kernel, tests) - own * variance).abs().max() < 1e-9 * own.max()


def test_the_sum_of_the_kernel_is_a_score_too(clusters):
    kernel, _ = clusters
    process = GaussianProcess(kernel, count=12, stride=10)
    tests = blobs(3, seed=8)[0]
    expected = -process.similarities(tests).mean(1)
    assert torch.equal(novelty(process, tests, score="sum"), expected)


def test_a_classifier_is_read_through_to_its_network(tmp_path):
    def build() -> Classifier:
        return Classifier(settle(pooled()), mean=(0.5,), std=(0.25,))

    points = torch.rand(12, 1, 8, 8, generator=seeded()).double()
    labels = torch.randint(3, (12,), generator=seeded())
    recording = record(build(), points, labels, steps=3, learning_rate=0.1, folder=tmp_path)
    for one in (recording, Recording.read(tmp_path, build())):
        prediction = PathKernel(one, points, labels).predict(points[:4])
        assert prediction.identity_error < 1e-14


def test_many_points_are_explained_in_pieces_the_same_by_any_number_of_workers(
    clusters, monkeypatch
):
    kernel, _ = clusters
    process, tests = GaussianProcess(kernel, stride=20), blobs(7, seed=8)[0]
    options = {"top": 3, "process": process, "stride": 20}
    whole = explain(kernel, tests, **options)
    monkeypatch.setattr("levelset.kernels._explain._PIECE", 4)
    heard = []
    one, two = (
        explain(
            kernel, tests, workers=workers, **options,
            progress=lambda done, total: heard.append((done, total)),
        )
        for workers in (1, 2)
    )  # fmt: skip
    assert heard[:2] == [(4, 7), (7, 7)]
    for name, values in vars(one).items():
        assert torch.equal(values, getattr(two, name)), name
        torch.testing.assert_close(values, getattr(whole, name), rtol=1e-9, atol=1e-12)
    # Shares that would not fit into a quarter of the memory come in smaller pieces.
    kernel.memory, memory = 4 * 36 * 3 * 8 * 2, kernel.memory
    try:
        assert [part.stop for part in explain_pieces(kernel, tests)] == [2, 4, 6, 7]
    finally:
        kernel.memory = memory
    assert len(explain(kernel, tests[:0], process=process)) == 0
