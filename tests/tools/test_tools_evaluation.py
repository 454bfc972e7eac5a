"""The inner loop: right values, right derivatives, and no more work than was asked for."""

import math

import pytest
import torch
from torch import Tensor, nn

from levelset._tools.evaluation import Evaluator
from levelset.errors import FieldError, LevelSetWarning

DOUBLE = torch.float64


def exact(field, points: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return values `(n, l)` and derivatives `(n, l, e)`, one row at a time."""
    values, rows = [], []
    for i, point in enumerate(points):
        leaf = point.detach().clone().unsqueeze(0).contiguous().requires_grad_()
        out = field(leaf) if labels is None else field(leaf, labels[i : i + 1])
        value = out.reshape(-1)
        values.append(value.detach())
        gradients = [torch.autograd.grad(v, leaf, retain_graph=True)[0].flatten() for v in value]
        rows.append(torch.stack(gradients))
    return torch.stack(values), torch.stack(rows)


class Noting(nn.Module):
    """Hands on to a model, and notes what it was given and how often gradients came back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.sizes: list[int] = []
        self.strides: list[tuple[int, ...]] = []
        self.inner: list[bool] = []
        self.backwards = 0

    def forward(self, points: Tensor) -> Tensor:
        self.sizes.append(len(points))
        self.strides.append(points.stride())
        out = self.model(points)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient: Tensor) -> None:
        self.backwards += 1


def convnet(channels: int, equations: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, equations),
    )


@pytest.mark.parametrize("equations", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_images_are_evaluated_as_one_by_one(settled, noise, channels, equations, size):
    model = settled(convnet(channels, equations), dtype=DOUBLE)
    points = noise(7, channels, 6, 6)
    values, jacobian = Evaluator("test", model, size).value_and_jacobian(points)
    expected, slopes = exact(model, points)
    assert (values - expected).abs().max() < 1e-14
    assert (jacobian - slopes).abs().max() < 1e-14
    assert jacobian.is_contiguous()
    again = Evaluator("test", model, size).values(points)
    assert (again - expected).abs().max() < 1e-14
    assert not again.requires_grad
    assert not jacobian.requires_grad


@pytest.mark.parametrize("equations", [1, 2])
def test_vectors_and_labels_are_evaluated_as_one_by_one(noise, equations):
    matrix = noise(equations, 5, seed=1)
    field = lambda x, y: torch.tanh(x @ matrix.T) * y.unsqueeze(1)  # noqa: E731
    points, labels = noise(11, 5), noise(11, seed=2)
    values, jacobian = Evaluator("test", field, 4).value_and_jacobian(points, labels)
    expected, slopes = exact(field, points, labels)
    assert (values - expected).abs().max() < 1e-14
    assert (jacobian - slopes).abs().max() < 1e-14


def test_parameters_get_no_gradient_and_points_keep_theirs(settled, noise):
    model = settled(convnet(2), dtype=DOUBLE)
    points = noise(3, 2, 6, 6).requires_grad_()
    Evaluator("test", model).value_and_jacobian(points)
    assert points.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_switched_off_outside_do_not_matter(noise):
    with torch.no_grad():
        _, jacobian = Evaluator("test", lambda x: x.square().sum(1)).value_and_jacobian(noise(3, 2))
    assert torch.allclose(jacobian.squeeze(1), 2 * noise(3, 2))


# Cost


@pytest.mark.parametrize(("size", "sizes"), [(None, [10]), (4, [4, 4, 2]), (1, [1] * 10)])
def test_each_row_is_passed_once_in_batches_of_the_size_asked_for(settled, noise, size, sizes):
    model = Noting(settled(nn.Linear(3, 2), dtype=DOUBLE))
    evaluator = Evaluator("test", model, size)
    evaluator.value_and_jacobian(noise(10, 3))
    assert model.sizes == sizes
    assert model.backwards == 2 * len(sizes)
    assert (evaluator.forwards, evaluator.backwards) == (10, 20)
    evaluator.values(noise(10, 3))
    assert model.sizes == 2 * sizes
    assert (evaluator.forwards, evaluator.backwards) == (20, 20)


def test_a_batch_that_nobody_asks_for_costs_no_backward_pass(settled, noise):
    model = Noting(settled(nn.Linear(3, 1), dtype=DOUBLE))
    evaluator = Evaluator("test", model, 5)
    points = noise(15, 3)
    points[5:10] = 0.0
    level = evaluator.values(points[5:6]).item()
    before = evaluator.forwards
    _, jacobian = evaluator.value_and_jacobian(
        points, wanted=lambda values: (values != level).any(1)
    )
    assert model.backwards == 2
    assert evaluator.backwards == 10
    assert evaluator.forwards - before == 15
    assert (jacobian[5:10] == 0).all()
    assert (jacobian[:5] != 0).any(2).all()
    assert (jacobian[10:] != 0).any(2).all()


def test_nobody_wanting_any_derivative_gives_zeros_of_the_right_shape(noise):
    evaluator = Evaluator("test", lambda x: x.flatten(1)[:, :2])
    nobody = lambda values: torch.zeros(len(values), dtype=torch.bool)  # noqa: E731
    _, jacobian = evaluator.value_and_jacobian(noise(4, 2, 3), wanted=nobody)
    assert jacobian.shape == (4, 2, 6)
    assert (jacobian == 0).all()
    assert evaluator.backwards == 0


@pytest.mark.parametrize("size", [None, 5, 64])
def test_derivatives_put_off_come_back_to_their_rows(settled, noise, size):
    model = Noting(
        settled(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), dtype=DOUBLE)
    )
    evaluator = Evaluator("test", model, size)
    points = noise(40, 3)
    values, slopes = exact(model.model, points)
    # Between two values, so that the rounding of another batch decides nothing.
    level = values[:, 0].sort().values[-8:-6].mean()
    few = values[:, 0] > level  # 7 rows of 40

    def wanted(part: Tensor) -> Tensor:
        return part[:, 0] > level

    _, jacobian = evaluator.value_and_jacobian(points, wanted=wanted)
    assert (jacobian - slopes)[few].abs().max() < 1e-14
    # What nobody wanted is either right or zero, never another row's.
    rest = jacobian[~few]
    right = (rest - slopes[~few]).abs().flatten(1).amax(1) < 1e-14
    assert (right | (rest == 0).flatten(1).all(1)).all()
    assert 14 <= evaluator.backwards <= 80
    assert 40 <= evaluator.forwards <= 47
    if size is None:
        assert (evaluator.backwards, evaluator.forwards) == (14, 47)


# Layout


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("derive", [False, True])
def test_images_come_in_channels_last_strides(settled, noise, channels, derive):
    model = Noting(settled(convnet(channels)))
    points = noise(5, channels, 6, 7, dtype=torch.float32)
    model.model[-1] = settled(nn.Linear(16, 1))
    evaluator = Evaluator("test", model)
    (evaluator.value_and_jacobian if derive else evaluator.values)(points)
    assert model.strides == [(channels * 42, 1, 7 * channels, channels)]


def test_a_convolution_of_one_channel_answers_in_channels_last(settled, noise):
    seen: list[Tensor] = []
    convolution = settled(nn.Conv2d(1, 4, 3))

    def field(x: Tensor) -> Tensor:
        seen.append(convolution(x))
        return seen[-1].flatten(1).sum(1)

    Evaluator("test", field).values(noise(2, 1, 6, 6, dtype=torch.float32))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_vectors_come_contiguous(noise):
    model = Noting(nn.Linear(3, 1).double())
    Evaluator("test", model).value_and_jacobian(noise(3, 4).T)
    assert model.strides == [(3, 1)]


class Viewing(nn.Module):
    """Flattens by `view`, which channels-last activations refuse."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(64, 2)

    def forward(self, points: Tensor) -> Tensor:
        out = torch.tanh(self.convolution(points))
        return self.head(out.view(len(out), -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, 2])
def test_models_that_view_their_activations_work(settled, noise, channels, size):
    model = settled(Viewing(channels), dtype=DOUBLE)
    points = noise(5, channels, 6, 6)
    expected, slopes = exact(model, points)
    evaluator = Evaluator("test", model, size)
    values, jacobian = evaluator.value_and_jacobian(points)
    assert (values - expected).abs().max() < 1e-14
    assert (jacobian - slopes).abs().max() < 1e-14
    assert evaluator.forwards == 5
    assert (Evaluator("test", model, size).values(points) - expected).abs().max() < 1e-14
    again, _ = evaluator.value_and_jacobian(points.to(memory_format=torch.channels_last))
    assert (again - expected).abs().max() < 1e-14


def test_a_field_of_another_precision_is_brought_to_that_of_the_points(noise):
    values, jacobian = Evaluator("test", lambda x: x.float().sum(1)).value_and_jacobian(noise(4, 3))
    assert values.dtype == jacobian.dtype == DOUBLE
    assert (values.squeeze(1) - noise(4, 3).sum(1)).abs().max() < 1e-6


# No rows


@pytest.mark.parametrize(
    ("field", "equations"),
    [
        (lambda x: x.sum(1), 1),
        (lambda x: x[:, :2], 2),
        (lambda x: x.view(0, -1), 1),  # refuses no rows
        (lambda x: x.mean(0), 1),  # of another length
    ],
)
def test_no_rows_give_no_rows(field, equations):
    values, jacobian = Evaluator("test", field).value_and_jacobian(torch.empty(0, 3))
    assert values.shape == (0, equations)
    assert jacobian.shape == (0, equations, 3)


# Messages


def test_the_reason_of_a_field_that_fails_is_handed_on(noise):
    model = nn.Linear(4, 1)
    with pytest.raises(
        FieldError,
        match=r"test: `field` with parameters on cpu of torch\.float32 failed on points of shape "
        r"\(2, 3\) on cpu of torch\.float32: mat1 and mat2 shapes cannot be multiplied",
    ) as caught:
        Evaluator("test", model).values(noise(2, 3, dtype=torch.float32))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_field_that_fails_on_images_in_both_layouts_says_why(noise):
    with pytest.raises(FieldError, match=r"test: `field` failed on points of shape \(2, 3, 4, 4\)"):
        Evaluator("test", lambda x: x @ torch.ones(7, 7)).values(noise(2, 3, 4, 4))


def test_other_exceptions_of_a_field_are_its_own(noise):
    class OwnError(Exception):
        pass

    def field(x: Tensor) -> Tensor:
        raise OwnError(math.pi)

    with pytest.raises(OwnError, match=r"3\.14"):
        Evaluator("test", field).values(noise(2, 3))


class WritesIntoItsInput(torch.nn.Module):
    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return points.mul_(2.0).flatten(1).sum(1)


@pytest.mark.parametrize("shape", [(7, 3), (7, 1, 4, 4), (7, 3, 4, 4)])
def test_a_field_that_writes_into_its_input_spoils_nothing(shape: tuple[int, ...]) -> None:
    points = torch.rand(shape, dtype=torch.float64)
    before = points.clone()
    for batch_size in (None, 2):
        evaluator = Evaluator("test", WritesIntoItsInput(), batch_size)
        values, jacobian = evaluator.value_and_jacobian(points)
        torch.testing.assert_close(values[:, 0], 2 * before.flatten(1).sum(1))
        assert (jacobian == 2).all()
        assert torch.equal(evaluator.values(points), values)
    assert torch.equal(points, before)


class Narrow(torch.nn.Module):
    """A field that takes few points at once: a device with little memory."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.sizes = most, []

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(points))
        if len(points) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return points.square().sum(1)


def test_out_of_memory_halves_the_batch_once_with_a_word() -> None:
    points = torch.rand(50, 3, dtype=torch.float64)
    field = Narrow(10)
    evaluator = Evaluator("project", field, batch_size=20)
    with pytest.warns(
        LevelSetWarning, match=r"project: 20 points at once do not fit .* 10 from here on. Give "
    ):
        values, jacobian = evaluator.value_and_jacobian(points)
    assert torch.equal(values[:, 0], points.square().sum(1))
    assert torch.equal(jacobian[:, 0], 2 * points)
    assert field.sizes == [20, 10, 10, 10, 10, 10]
    evaluator.value_and_jacobian(points[:20])
    assert field.sizes[6:] == [10, 10]  # remembered
    with pytest.warns(LevelSetWarning, match="20 points at once do not fit"):
        outputs = Evaluator("project", field, batch_size=20).outputs(points)
    assert torch.equal(outputs, points.square().sum(1))


@pytest.mark.parametrize("derive", [False, True])
def test_out_of_memory_a_second_time_is_an_error_with_the_remedy(derive: bool) -> None:
    evaluator = Evaluator("project", Narrow(4), batch_size=20)
    job = evaluator.value_and_jacobian if derive else evaluator.outputs
    with pytest.warns(LevelSetWarning), pytest.raises(torch.OutOfMemoryError):
        job(torch.rand(50, 3))
