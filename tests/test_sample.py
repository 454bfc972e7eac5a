"""`attach`: the value to the bit, and the gradient with which a projected point really moves."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from levelset import Component, Margin, Newton, Projection, attach, intersect, project
from levelset.errors import FieldError, ModeWarning
from levelset.shapes import Sphere

DOUBLE = torch.float64


class Offset(nn.Module):
    """A field less the level that comes with each point."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor, levels: Tensor) -> Tensor:
        return self.model(points).view_as(levels) - levels


def mlp(equations: int, *, softplus: bool = False) -> nn.Module:
    smooth = nn.Softplus if softplus else nn.Tanh
    return nn.Sequential(
        nn.Linear(4, 5), smooth(), nn.Linear(5, 4), smooth(), nn.Linear(4, equations)
    )


def convnet(equations: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Softplus(), nn.AvgPool2d(2),
        nn.Conv2d(3, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(3, equations),
    )  # fmt: skip


def moved_by_reprojection(field, sample: Projection, parameter: Tensor, entry: int, step: float):
    """Return how the points move with one entry of a parameter, by Newton from the points."""
    ends = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            parameter.view(-1)[entry] += sign * step
        found = project(
            field, sample.points, labels=sample.labels, tol=2e-14, method=Newton(max_iter=10)
        )
        with torch.no_grad():
            parameter.view(-1)[entry] -= sign * step
        ends.append(found.points)
    return (ends[0] - ends[1]) / (2.0 * step)


MODELS = [
    ("mlp tanh, one equation", lambda: mlp(1), (4,), 1),
    ("mlp softplus, one equation", lambda: mlp(1, softplus=True), (4,), 1),
    ("mlp tanh, two equations", lambda: mlp(2), (4,), 2),
    ("convnet, one equation", lambda: convnet(1), (2, 4, 4), 1),
    ("convnet, two equations", lambda: convnet(2), (2, 4, 4), 2),
]
models = pytest.mark.parametrize(
    ("make", "shape", "equations"), [m[1:] for m in MODELS], ids=[m[0] for m in MODELS]
)


def on_the_level_set(settled, noise, make, shape) -> tuple[nn.Module, Projection]:
    """Return a field and three points on its zero set, with the levels that make it so."""
    model = settled(make(), seed=5, dtype=DOUBLE)
    points = noise(3, *shape, seed=6)
    with torch.no_grad():
        levels = model(points)
    field = Offset(model)
    sample = Projection.at(field, points, levels)
    return field, sample


@models
def test_the_gradient_is_that_of_reprojection(settled, noise, make, shape, equations):
    """Eq. 8 against a central difference.

    The equality that holds: Newton from the sample itself, after a parameter has moved by h, ends
    at p + h dp/dtheta + O(h^2), as its first step is taken with the Jacobian at p, up to O(h),
    from a residual that is O(h); the further steps cancel a residual that is O(h^2).
    """
    field, sample = on_the_level_set(settled, noise, make, shape)
    direction = noise(3, *shape, seed=7)
    parameters = dict(field.named_parameters())
    attached = attach(field, sample)
    gradients = torch.autograd.grad(
        (attached * direction).sum(), list(parameters.values()), allow_unused=False
    )
    scale = max(float(g.abs().max()) for g in gradients)
    worst = 0.0
    for parameter, gradient in zip(parameters.values(), gradients, strict=True):
        entries = range(0, parameter.numel(), max(1, parameter.numel() // 7))
        for entry in entries:
            moved = moved_by_reprojection(field, sample, parameter, entry, 2e-5)
            expected = float((moved * direction).sum())
            worst = max(worst, abs(float(gradient.view(-1)[entry]) - expected) / scale)
    assert worst < 1e-6
    assert scale > 1e-3


@models
def test_the_sample_does_not_move_along_the_level_set(settled, noise, make, shape, equations):
    field, sample = on_the_level_set(settled, noise, make, shape)
    leaf = sample.points.clone().requires_grad_()
    values = field(leaf, sample.labels).view(3, equations)
    rows = [torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in values.unbind(1)]
    normals = torch.stack(rows, 1).flatten(2)
    basis, _ = torch.linalg.qr(normals.transpose(1, 2))
    direction = noise(3, *shape, seed=8).flatten(1).unsqueeze(2)
    tangent = (direction - basis @ (basis.transpose(1, 2) @ direction)).view(3, *shape)
    assert tangent.abs().max() > 0.1
    attached = attach(field, sample)
    for parameter in field.parameters():
        (along,) = torch.autograd.grad((attached * tangent).sum(), parameter, retain_graph=True)
        (across,) = torch.autograd.grad(
            (attached * rows[0].detach()).sum(), parameter, retain_graph=True
        )
        assert along.abs().max() <= 1e-12 * max(1.0, float(across.abs().max()))


@pytest.mark.parametrize("equations", [1, 2, 3])
def test_an_affine_field_moves_by_the_pseudo_inverse(noise, equations):
    matrix, offset = noise(equations, 5, seed=1), noise(equations, seed=2).requires_grad_()
    field = lambda x: x @ matrix.T + offset  # noqa: E731
    sample = project(field, noise(4, 5), tol=1e-12)
    attached = attach(field, sample)
    direction = noise(4, 5, seed=3)
    (gradient,) = torch.autograd.grad((attached * direction).sum(), offset)
    expected = -(direction @ torch.linalg.pinv(matrix)).sum(0)
    assert (gradient - expected).abs().max() < 1e-12


def test_a_sphere_whose_radius_is_learnt_grows_outwards(noise):
    radius = torch.tensor(1.3, dtype=DOUBLE, requires_grad=True)
    field = lambda x: x.norm(dim=1) - radius  # noqa: E731
    sample = project(field, noise(20, 3), tol=1e-12)
    attached = attach(field, sample)
    (gradient,) = torch.autograd.grad(attached.norm(dim=1).sum(), radius)
    assert gradient.item() == pytest.approx(20.0, rel=1e-12)


def test_points_from_intersect_are_attached_too(noise):
    bias = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    normal = torch.tensor([3.0, 4.0], dtype=DOUBLE)
    field = lambda x: x @ normal - bias  # noqa: E731
    sample = intersect(field, -noise(5, 2).abs(), noise(5, 2, seed=1).abs())
    (gradient,) = torch.autograd.grad((attach(field, sample) @ normal).sum(), bias)
    assert gradient.item() == pytest.approx(5.0, rel=1e-12)


def test_points_that_missed_are_served_on_the_level_they_have(settled, noise):
    model = settled(mlp(1), seed=5, dtype=DOUBLE)
    missed = project(model, noise(3, 4), level=100.0, method=Newton(max_iter=2, max_step=0.1))
    assert not missed.converged.any()
    direction, bias = noise(3, 4, seed=2), model[-1].bias
    (gradient,) = torch.autograd.grad((attach(model, missed) * direction).sum(), bias)
    with torch.no_grad():
        levels = model(missed.points).squeeze(1)
    riding = Projection.at(Offset(model), missed.points, levels)
    moved = moved_by_reprojection(Offset(model), riding, bias, 0, 2e-5)
    assert float(gradient) == pytest.approx(float((moved * direction).sum()), rel=1e-6)


# The value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("equations", [1, 2, 3])
def test_the_value_is_that_of_the_points_to_the_bit(settled, noise, same_bits, equations, dtype):
    model = settled(mlp(equations), dtype=dtype)
    sample = project(model, noise(50, 4, dtype=dtype))
    attached = attach(model, sample)
    assert attached.requires_grad
    assert same_bits(attached, sample.points)


@pytest.mark.parametrize("equations", [1, 2])
def test_negative_zeros_keep_their_sign(same_bits, equations):
    linear = nn.Linear(3, equations)
    points = torch.tensor([[-0.0, 0.0, -0.0], [1.0, -0.0, 2.0], [-1e-45, 1e38, -1e38]])
    sample = Projection.at(linear, points)
    assert same_bits(attach(linear, sample), points)


class Restless(nn.Module):
    """Batch statistics and dropout, in vectors or images."""

    def __init__(self, *, images: bool, equations: int = 1) -> None:
        super().__init__()
        first = nn.Conv2d(2, 4, 3, padding=1) if images else nn.Linear(4, 64)
        norm = nn.BatchNorm2d(4) if images else nn.BatchNorm1d(64)
        self.layers = nn.Sequential(
            first, norm, nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, equations)
        )

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(points)


@pytest.mark.parametrize("equations", [1, 2])
@pytest.mark.parametrize("images", [False, True])
def test_training_mode_warns_and_leaves_every_bit(
    settled, noise, same_bits, hooked, images, equations
):
    model = settled(Restless(images=images, equations=equations)).train()
    shape = (2, 4, 4) if images else (4,)
    sample = project(model, noise(30, *shape, dtype=torch.float32), method=Newton(max_step=0.5))
    with pytest.warns(
        ModeWarning,
        match=r"attach: BatchNorm.d `layers\.1` is in training mode, so the gradient belongs to an",
    ) as caught:
        attached = attach(model, sample)
    assert hooked or caught[0].filename == __file__
    assert same_bits(attached, sample.points)
    gradients = torch.autograd.grad(attached.square().sum(), list(model.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[-1].abs().sum() > 0
    assert gradients[0].abs().sum() > 0
    assert all(module.training for module in model.modules())


def test_dropout_alone_is_named_and_evaluation_mode_is_silent(settled, noise):
    model = settled(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(), nn.Linear(8, 1)))
    sample = project(model, noise(4, 4, dtype=torch.float32))
    with pytest.warns(ModeWarning, match=r"attach: Dropout `2` is in training mode"):
        attach(model, sample)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(model.eval(), sample)
        attach(nn.Linear(4, 1).train(), sample)


def test_labels_reach_the_field(settled, noise, same_bits):
    model = settled(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)))
    labels = torch.tensor([0, 1, 2, 0, 1])
    sample = project(Margin(model), noise(5, 4, dtype=torch.float32), labels=labels)
    attached = attach(Margin(model), sample)
    assert same_bits(attached, sample.points)
    (gradient,) = torch.autograd.grad(attached.sum(), model[-1].bias)
    assert gradient.abs().sum() > 0
    assert gradient.sum().abs() < 1e-5  # a margin does not feel a shift of all logits


# Where there is no gradient


@pytest.mark.parametrize("equations", [1, 2])
def test_a_point_without_a_gradient_in_x_gets_none_and_no_nan(same_bits, equations):
    radius = torch.ones((), requires_grad=True)

    def field(x: Tensor) -> Tensor:
        value = x.norm(dim=1) - radius
        return value if equations == 1 else torch.stack([value, 2.0 * value], 1)

    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    attached = attach(field, Projection.at(field, points))
    assert same_bits(attached, points)
    (gradient,) = torch.autograd.grad(attached[0].sum(), radius, retain_graph=True)
    assert gradient.item() == 0.0
    (gradient,) = torch.autograd.grad(attached.norm(dim=1).sum(), radius)
    assert gradient.item() == pytest.approx(1.0)


@pytest.mark.parametrize("equations", [1, 2])
def test_points_where_nothing_is_finite_stay_where_they_are(same_bits, equations):
    scale = torch.ones((), requires_grad=True)

    def field(x: Tensor) -> Tensor:
        value = scale * (x[:, 0].log() + x[:, 1].sqrt())
        return value if equations == 1 else torch.stack([value, x[:, 1]], 1)

    points = torch.tensor([[-1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [2.0, 3.0]])
    assert same_bits(attach(field, Projection.at(field, points)), points)
    # The third has a finite value and an infinite slope.
    attached = attach(field, Projection.at(field, points[2:]))
    (gradient,) = torch.autograd.grad(attached[0].sum(), scale, retain_graph=True)
    assert gradient == 0
    (gradient,) = torch.autograd.grad(attached.sum(), scale)
    assert gradient.isfinite()
    assert gradient != 0


def test_no_points_give_no_points(settled):
    model = settled(mlp(1))
    attached = attach(model, project(model, torch.empty(0, 4)))
    assert attached.shape == (0, 4)
    (gradient,) = torch.autograd.grad(attached.sum(), model[0].weight, allow_unused=True)
    assert gradient is None or gradient.abs().sum() == 0


def test_writing_to_the_points_afterwards_does_not_reach_the_projection(noise):
    linear = nn.Linear(3, 1).double()
    sample = project(linear, noise(4, 3))
    kept = sample.points.clone()
    with torch.no_grad():
        attach(linear, sample).detach().zero_()
    assert torch.equal(sample.points, kept)


def test_one_optimiser_step_moves_the_level_set_as_the_gradient_says(settled, noise):
    """Descend on the distance of the set from the origin, and see it come nearer."""
    field = Component(settled(mlp(1), seed=5, dtype=DOUBLE), 0)
    start = noise(30, 4)
    before = project(field, start, tol=1e-10, method=Newton(max_iter=50, max_step=0.5))
    before = before[before.converged]
    loss = attach(field, before).square().sum(1).mean()
    parameters = list(field.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    rate = 1e-5
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= rate * gradient
    after = project(field, before.points, tol=1e-12)
    expected = -rate * sum(float(g.square().sum()) for g in gradients)
    change = float(after.points.square().sum(1).mean() - loss.detach())
    assert change < 0
    assert change == pytest.approx(expected, rel=1e-2)


# Messages


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            lambda x: x.detach().sum(1),
            r"attach: `field` must be differentiable in its points, but its",
        ),
        (lambda x: x.sum(), r"attach: `field` must return \(n,\) or \(n, l\), got \(\)\."),
        (lambda x: x.unsqueeze(2), r"must return \(n,\) or \(n, l\), got \(2, 3, 1\)\."),
        (lambda x: x[:1, 0], r"must return \(n,\) or \(n, l\), got \(1,\)\."),
    ],
)
def test_callables_that_are_no_fields_are_refused(field, message):
    sample = project(Sphere(1.0), torch.ones(2, 3))
    with pytest.raises(FieldError, match=message):
        attach(field, sample)


@pytest.mark.messages
def test_a_field_that_returns_no_tensor_is_refused():
    sample = project(Sphere(1.0), torch.ones(2, 3))
    with pytest.raises(FieldError, match=r"attach: `field` must return a tensor, got float\."):
        attach(lambda x: math.pi, sample)
