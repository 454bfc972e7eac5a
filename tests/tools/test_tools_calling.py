"""Models that other people wrote: what they need is found out, and what cannot be done is said."""

import functools
import warnings

import pytest
import torch
from torch import Tensor, nn

from levelset import Classifier, Margin, attach, check_field, project, suggest_batch_size
from levelset._tools.calling import Caller, plain_copy, swift_copy
from levelset.boundary import distance, persistence, stability
from levelset.errors import FieldError, LevelSetError, LevelSetWarning

UNBOUNDED = (-torch.inf, torch.inf)


class Viewing(nn.Module):
    """Flattens by `view`, which activations in channels-last strides refuse."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(64, 3)

    def forward(self, points: Tensor) -> Tensor:
        out = torch.relu(self.convolution(points))
        return self.head(out.view(len(out), -1))


class Permuting(Viewing):
    """Takes images with their channels last, as other frameworks do."""

    def forward(self, points: Tensor) -> Tensor:
        plain = points.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        return super().forward(plain)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(3, 5, num_layers=2, batch_first=True, dropout=0.5)
        self.head = nn.Linear(5, 3)

    def forward(self, points: Tensor) -> Tensor:
        return self.head(self.layer(points)[0][:, -1])


class Fixed(nn.Module):
    """Takes batches of one size, and says so in numbers only."""

    def __init__(self, model: nn.Module, rows: int) -> None:
        super().__init__()
        self.model, self.rows = model, rows

    def forward(self, points: Tensor) -> Tensor:
        return self.model(points.view(self.rows, -1).view(self.rows, *points.shape[1:]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(settled, dtype=torch.float32) -> nn.Module:
    return settled(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)), dtype=dtype)


# Layout


@pytest.mark.parametrize("channels", [1, 3])
def test_models_that_view_their_activations_are_asked_in_ordinary_strides(settled, channels):
    points = torch.rand(3, channels, 6, 6, generator=seeded())
    model = settled(Viewing(channels))

    def flat(x: Tensor) -> Tensor:
        return model.head(torch.relu(model.convolution(x)).flatten(1))

    for function in (
        functools.partial(persistence, tolerance=0.2),
        functools.partial(stability, sigma=0.5, gamma=None, draws=100),
    ):
        found = function(model, points, generator=seeded(1))
        expected = function(flat, points, generator=seeded(1))
        for name in ("sigma", "share"):
            if hasattr(found, name) and isinstance(getattr(found, name), Tensor):
                torch.testing.assert_close(getattr(found, name), getattr(expected, name))
        assert torch.equal(found.classes, expected.classes)


def test_models_that_take_channels_last_are_measured_alike(settled):
    points = torch.rand(4, 1, 6, 6, generator=seeded())
    model, other = settled(Viewing()), settled(Permuting())
    here = distance(model, points, effort="quick").distance
    there = distance(other, points.permute(0, 2, 3, 1), effort="quick").distance
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-5)


def test_copies_have_the_strides_they_promise():
    points = torch.rand(2, 1, 3, 4)
    assert swift_copy(points).stride() == (12, 1, 4, 1)
    assert plain_copy(swift_copy(points)).stride() == (12, 12, 4, 1)
    assert swift_copy(torch.rand(3, 4).T).stride() == (3, 1)
    leaf = points.clone().requires_grad_()
    for copy in (swift_copy(leaf), plain_copy(leaf)):
        assert torch.equal(torch.autograd.grad(copy.sum(), leaf)[0], torch.ones_like(points))


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wrap", [lambda m: m, Classifier, lambda m: nn.Sequential(m)])
def test_models_of_another_precision_are_measured_in_it(settled, dtype, wrap):
    points = torch.rand(20, 4, generator=seeded())
    model = wrap(dense(settled).to(dtype))
    exact = distance(dense(settled).double(), points.double(), bounds=UNBOUNDED, effort="quick")
    found = distance(model, points, bounds=UNBOUNDED, effort="quick")
    assert found.distance.dtype == found.points.dtype == torch.float32
    slack = 64 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    error = (found.distance - exact.distance.float()).abs()
    assert (error <= slack * (1.0 + exact.distance.float())).all()
    kept = persistence(model, points[:2], tolerance=0.1, generator=seeded())
    true = persistence(dense(settled), points[:2], tolerance=0.1, generator=seeded())
    torch.testing.assert_close(kept.sigma, true.sigma, rtol=0.05, atol=0.0)
    labels = torch.zeros(20, dtype=torch.long)
    assert project(Margin(model), points, labels=labels, tol=0.1).points.dtype == torch.float32


def test_the_default_dtype_changes_nothing(settled):
    points = torch.rand(6, 4, generator=seeded())
    model = dense(settled)
    expected = distance(model, points, bounds=UNBOUNDED, effort="quick")
    shares = persistence(model, points[:2], tolerance=0.1, generator=seeded())
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        found = distance(model, points, bounds=UNBOUNDED, effort="quick")
        torch.testing.assert_close(found.distance, expected.distance, rtol=1e-4, atol=1e-6)
        again = persistence(model, points[:2], tolerance=0.1, generator=seeded())
        torch.testing.assert_close(again.sigma, shares.sigma, rtol=1e-4, atol=1e-6)
    finally:
        torch.set_default_dtype(before)


# Recurrent layers


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_models_are_measured_and_left_as_found(settled, kind, left_as_found):
    model = settled(Recurrent(kind), dtype=torch.float64).train()
    model.head.bias.data.zero_()
    points = torch.randn(4, 6, 3, generator=seeded(), dtype=torch.float64)
    with left_as_found(model, points):
        found = distance(model, points, bounds=UNBOUNDED, effort="quick")
        kept = persistence(model, points[:2], tolerance=0.2, generator=seeded())
    assert found.distance.isfinite().any()
    assert (kept.sigma > 0).all()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_models_have_gradients_on_a_device(settled, kind):
    model = settled(Recurrent(kind)).cuda().train()
    points = torch.rand(4, 6, 3, generator=seeded()).cuda()
    here = distance(settled(Recurrent(kind)), points.cpu(), bounds=UNBOUNDED, effort="quick")
    there = distance(model, points, bounds=UNBOUNDED, effort="quick")
    torch.testing.assert_close(there.distance.cpu(), here.distance, rtol=1e-2, atol=1e-4)
    assert torch.backends.cudnn.enabled


# Batches of one size


def exported(model: nn.Module, rows: int) -> nn.Module:
    return torch.export.export(model.eval(), (torch.rand(rows, 4),)).module()


def traced(model: nn.Module, rows: int) -> nn.Module:
    return torch.jit.trace(Fixed(model, rows), torch.rand(rows, 4))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("build", [Fixed, exported, traced])
@pytest.mark.parametrize("rows", [3, 7])
def test_models_of_one_batch_size_are_run_at_it_and_said(settled, build, rows):
    free = dense(settled)
    model = build(free, rows)
    points = torch.rand(10, 4, generator=seeded())
    expected = distance(free, points, bounds=UNBOUNDED, effort="quick")
    with pytest.warns(LevelSetWarning, match=rf"`model` takes batches of {rows} rows only"):
        found = distance(model, points, bounds=UNBOUNDED, effort="quick")
    torch.testing.assert_close(found.distance, expected.distance, rtol=1e-3, atol=1e-5)
    with pytest.warns(LevelSetWarning, match=f"batches of {rows} rows only"):
        kept = persistence(model, points[:2], tolerance=0.2, generator=seeded())
    plain = persistence(free, points[:2], tolerance=0.2, generator=seeded())
    torch.testing.assert_close(kept.sigma, plain.sigma, rtol=0.01, atol=0.0)
    labels = torch.zeros(10, dtype=torch.long)
    with pytest.warns(LevelSetWarning, match=f"batches of {rows} rows only"):
        moved = project(Margin(model), points, labels=labels)
    torch.testing.assert_close(moved.points, project(Margin(free), points, labels=labels).points)


def test_a_model_that_fails_is_not_taken_for_one_of_one_batch_size():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FieldError, match="mat1 and mat2 shapes cannot be multiplied"):
            distance(nn.Linear(3, 2), torch.rand(4, 5))


# Wrappers and callables


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: functools.partial(m), lambda m: lambda x: m(x), lambda m: m.forward,
        nn.DataParallel,
    ],
    ids=["partial", "lambda", "method", "DataParallel"],
)  # fmt: skip
def test_callables_hold_the_modules_behind_them_still(wrap, left_as_found):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    model[1].running_mean.data.normal_(generator=seeded())
    model.train()
    points = torch.rand(12, 4, generator=seeded())
    still = nn.Sequential(*model).eval()
    expected = distance(still, points, bounds=UNBOUNDED, effort="quick")
    kept = persistence(still, points[:2], tolerance=0.2, generator=seeded())
    model.train()
    with left_as_found(model, points):
        found = distance(wrap(model), points, bounds=UNBOUNDED, effort="quick")
        again = persistence(wrap(model), points[:2], tolerance=0.2, generator=seeded())
    assert torch.equal(found.distance, expected.distance)
    assert torch.equal(again.sigma, kept.sigma)


@pytest.mark.parametrize("build", ["hook", "pre-hook"])
def test_hooks_run_and_stay(build, left_as_found):
    model, points = nn.Linear(4, 3), torch.rand(5, 4, generator=seeded())
    if build == "hook":
        model.register_forward_hook(lambda m, given, out: 2.0 * out)
    else:
        model.register_forward_pre_hook(lambda m, given: (given[0] - 0.5,))
    with left_as_found(model):
        found = distance(model, points, bounds=UNBOUNDED, effort="quick")
    assert len(model._forward_hooks) + len(model._forward_pre_hooks) == 1
    labels = model(points).argmax(1)
    moved = torch.where(found.distance.unsqueeze(1).isfinite(), found.points, points)
    assert ((Margin(model)(moved, labels)).abs() < 1e-3).all()


# What cannot be done, and what to do instead


class Masked(nn.Linear):
    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        return super().forward(points * mask)


class Keyed(nn.Linear):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["pixel_values"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2)),
         r"`model` begins with an Embedding, which takes integers\. Measure the vectors"),
        (Masked(4, 2), r"missing 1 required positional argument: 'mask'\. It is called with the "
         r"points alone: wrap it, as in `lambda x: model\(x, mask\)`"),
        (Keyed(4, 2), r"takes a dict, wrap it, as in `lambda x: model\(\{'pixel_values'"),
        (nn.Linear(4, 2, device="meta"), r"weights of `model` are on the meta device: load them"),
        (nn.Linear(5, 2), r"parameters on cpu of torch\.float32 failed on points of shape \(3, "),
    ],
    ids=["embedding", "keyword", "dict", "meta", "shape"],
)  # fmt: skip
@pytest.mark.parametrize(
    "function", [distance, persistence, functools.partial(stability, sigma=1.0)]
)
def test_what_a_model_needs_is_said(function, model, message):
    with pytest.raises(FieldError, match=message):
        function(model, torch.rand(3, 4))


def test_inference_mode_is_named():
    points = torch.rand(3, 4, generator=seeded())
    model = nn.Linear(4, 2)
    with torch.inference_mode():
        with pytest.raises(LevelSetError, match=r"torch\.inference_mode\(\)"):
            distance(model, points)
        assert persistence(model, points, tolerance=0.5).found.all()
        made, given = nn.Linear(4, 2), torch.rand(3, 4)
    with pytest.raises(LevelSetError, match=r"torch\.inference_mode\(\)"):
        distance(made, points)
    assert distance(model, given).distance.shape == (3,)


class Third(nn.Module):
    """Fails at its third call."""

    def __init__(self, model: nn.Module, error: type[Exception]) -> None:
        super().__init__()
        self.model, self.error, self.calls = model, error, 0

    def forward(self, points: Tensor) -> Tensor:
        self.calls += 1
        if self.calls >= 3:
            raise self.error("the third call")
        return self.model(points)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, KeyError, AttributeError, Exception])
def test_a_failure_on_the_way_leaves_the_model_as_found(settled, error, left_as_found):
    model = Third(dense(settled), error).train()
    points = torch.rand(6, 4, generator=seeded())
    raised = Exception if error is Exception else FieldError
    for function in (distance, functools.partial(persistence, generator=seeded())):
        model.calls = 0
        with left_as_found(model.model, points), pytest.raises(raised, match="the third call"):
            function(model, points)


# Fields


class Writing(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model(points.sub_(0.25))[:, 0]


def test_fields_that_write_into_their_input_are_attached_and_sized(settled):
    model = dense(settled, torch.float64)
    points = torch.rand(5, 4, generator=seeded(), dtype=torch.float64)
    before = points.clone()
    field, twin = Writing(model), lambda x: model(x - 0.25)[:, 0]
    here, there = project(field, points), project(twin, points)
    torch.testing.assert_close(here.points, there.points)
    grads = []
    for one, moved in ((field, here), (twin, there)):
        attach(one, moved).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)
    assert suggest_batch_size(field, points, memory=100_000) >= 1
    assert check_field(field, points).problems == ()
    assert torch.equal(points, before)


def test_what_works_is_remembered(settled):
    calls = []

    def fussy(x: Tensor) -> Tensor:
        calls.append(len(x))
        if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
            raise RuntimeError("no")
        return x.flatten(1)[:, 0]

    caller = Caller("test", fussy)
    points = torch.rand(4, 3, 5, 5)
    for _ in range(3):
        assert torch.equal(caller(points), points.flatten(1)[:, 0])
    assert len(calls) == 4
