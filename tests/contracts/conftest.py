"""Every public function that measures, as one table, and a model that is easily disturbed."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import levelset
from levelset import attacks, boundary
from levelset.errors import DataError, NotConvergedError, ParameterError, ShapeError


class Pair(nn.Module):
    """The two leading differences of three logits: a field of two equations."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        logits = self.model(points)
        return logits[:, :2] - logits[:, 1:]


class Lead(nn.Module):
    """The first logit less a level that comes with each point."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor, levels: Tensor) -> Tensor:
        return self.model(points)[:, 0] - levels


class Case(NamedTuple):
    """How a public function is called: `call(model, points, labels, **options)`.

    Attributes:
        call: The function, with all that it needs beside these.
        draws: Whether it takes a `generator`.
        batches: Whether it takes a `batch_size`.
        differentiable: Whether the result carries a graph, and the model keeps its mode.
        empty: What it raises for no points; `None` if it returns nothing for nothing.
        rows: Whether the rows of the result are the points.
    """

    call: Callable[..., Any]
    draws: bool = False
    batches: bool = True
    differentiable: bool = False
    empty: type[Exception] | None = None
    rows: bool = True


def _short(max_iter: int = 8) -> levelset.Newton:
    return levelset.Newton(max_iter=max_iter, max_step=0.5)


def _project(model, points, labels, **options):
    field = levelset.Margin(model)
    return levelset.project(field, points, labels=labels, method=_short(), **options)


def _project_pair(model, points, labels, **options):
    return levelset.project(Pair(model), points, method=_short(), **options)


def _descend(model, points, labels, **options):
    method = levelset.GradientDescent(max_iter=5, step=1e-2)
    return levelset.project(levelset.Component(model, 1), points, method=method, **options)


def _intersect(model, points, labels, **options):
    ends = points.detach().roll(1, 0) + 0.3
    with levelset.frozen(model), torch.no_grad():
        levels = (model(points.clone())[:, 0] + model(ends.clone())[:, 0]) / 2
    return levelset.intersect(Lead(model), points, ends, labels=levels, tol=1e-6, **options)


def _at(model, points, labels):
    return levelset.Projection.at(levelset.Margin(model), points, labels)


def _attach(model, points, labels):
    field = levelset.Margin(model)
    return levelset.attach(field, levelset.Projection.at(field, points, labels))


def _check(model, points, labels):
    return levelset.check_field(levelset.Margin(model), points, labels)


def _suggest(model, points, labels):
    field = levelset.Margin(model)
    return levelset.suggest_batch_size(field, points, memory=100_000, labels=labels)


def _audit(model, points, labels, **options):
    more = {"norms": (2.0,), "effort": "quick", "bounds": (-1.0, 2.0)}
    return levelset.audit(model, points, labels, **more, **options)


def _distance(model, points, labels, **options):
    return boundary.distance(model, points, labels, effort="quick", bounds=(-1.0, 2.0), **options)


def _persistence(model, points, labels, **options):
    return boundary.persistence(model, points, tolerance=0.2, **options)


def _persistence_along(model, points, labels, **options):
    ends = (points[0], points[-1]) if len(points) else (torch.zeros(1, 5, 5).to(points),) * 2
    more = {"steps": 3, "tolerance": 0.2}
    return boundary.persistence_along(model, *ends, **more, **options)


def _stability(model, points, labels, **options):
    return boundary.stability(model, points, sigma=0.3, gamma=None, draws=20, **options)


def _class_frequencies(model, points, labels, **options):
    point = points[0] if len(points) else torch.zeros(1, 5, 5).to(points)
    sigmas = torch.linspace(0.0, 1.0, len(points))
    return boundary.class_frequencies(model, point, sigmas, draws=20, **options)


class _Shifted(nn.Module):
    def __init__(self, field: nn.Module, level: float) -> None:
        super().__init__()
        self.field, self.level = field, level

    def forward(self, points: Tensor) -> Tensor:
        return self.field(points) - self.level


def _curvature(model, points, labels, **options):
    # Off the level set on purpose: the contract is about the call, not about the number. Without
    # directions, whose sign is free.
    field, more = levelset.Margin(model), {"level": None, "directions": False}
    return boundary.curvature(field, points, labels=labels, **more, **options)


def _normal_curvature(model, points, labels, **options):
    tangents = points.detach().roll(1, 0)
    field = levelset.Margin(model)
    return boundary.normal_curvature(field, points, tangents, labels=labels, **options)


def _cross_section(model, points, labels):
    field = levelset.Component(model, 1)
    start, end = points[:1], points.detach()[-1:] + 0.3
    level = 0.0
    if len(points):
        with levelset.frozen(model), torch.no_grad():
            level = float((field(start.detach()) + field(end)) / 2)
    return boundary.cross_section(_Shifted(field, level), start, end, resolution=5)


@contextlib.contextmanager
def _bent(model: nn.Module) -> Iterator[None]:
    """Put ReLUs in the place of what is smooth, for a while."""
    smooth = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Softplus | nn.Tanh)
    ]
    try:
        for parent, name, _ in smooth:
            parent._modules[name] = nn.ReLU()
        yield
    finally:
        for parent, name, child in smooth:
            parent._modules[name] = child


def _plane(points):
    origin = points[0] if len(points) else torch.zeros(1, 5, 5).to(points)
    return origin, torch.ones_like(origin), torch.eye(5).to(origin).expand_as(origin)


def _exact_section(model, points, labels):
    with _bent(model):
        return boundary.exact_section(model, *_plane(points), extent=0.5)


def _section(model, points, labels, **options):
    return boundary.section(model, *_plane(points), extent=0.5, resolution=5, **options)


def _exact_crossings(model, points, labels, **options):
    start = _plane(points)[0]
    with _bent(model):
        return boundary.exact_crossings(model, start, start.flip(1) + 0.3)


def _class_curvatures(model, points, labels, **options):
    smoothing = boundary.GaussianSmoothing(sigma=0.1, draws=6)
    return boundary.class_curvatures(model, points, smoothing=smoothing, **options)


def _few(points):
    """Return some points, where there are none too."""
    return points.detach() if len(points) else torch.rand(2, 1, 5, 5).to(points)


class _Halved(nn.Module):
    """Two classes of a model of several: where its first logit is above a level, and below."""

    def __init__(self, model: nn.Module, level: float) -> None:
        super().__init__()
        self.model, self.level = model, level

    def forward(self, points: Tensor) -> Tensor:
        first = self.model(points)[:, :1]
        return torch.cat([first, torch.full_like(first, self.level)], dim=1)


def _halved(model, points):
    """Return a classifier of two classes, and two points of which each has one."""
    points = _few(points)
    ends = torch.stack([points[0], points[-1] + 0.5])
    with levelset.frozen(model), torch.no_grad():
        level = float(model(ends.clone())[:, 0].mean())
    return _Halved(model, level), *ends


def _sample(model, points, labels, **options):
    return boundary.sample(*_halved(model, points), draws=6, tol=1e-4, **options)


def _walk_along(model, points, labels, **options):
    field = levelset.Component(model, 1)
    with levelset.frozen(model), torch.no_grad():
        level = float(field(_few(points)[:1])[0])
    more = {"steps": 3, "step": 0.1, "level": level, "chains": 2}
    return boundary.walk(field, _few(points)[0], **more, **options)


def _sample_level_set(model, points, labels, **options):
    field = levelset.Component(model, 1)
    more = {"n": 4, "level": 0.1, "bounds": (-3.0, 3.0), "tol": 1e-4}
    return levelset.sample_level_set(field, points, **more, **options)


def _normals(model, points, labels, **options):
    field = levelset.Component(model, 1)
    return boundary.normals(field, points, method="displacement", radius=0.2, draws=4, **options)


def _planarity(model, points, labels, **options):
    more = {"radii": (0.1, 0.2), "draws": 4}
    return boundary.planarity(levelset.Component(model, 1), points, **more, **options)


def _skewness(model, points, labels, **options):
    return boundary.skewness(levelset.Component(model, 1), points, radius=0.2, draws=4, **options)


def _incidence(model, points, labels, **options):
    ends = points.detach().roll(1, 0) + 0.3
    with levelset.frozen(model), torch.no_grad():
        levels = (model(points.clone())[:, 0] + model(ends.clone())[:, 0]) / 2
    return boundary.incidence(Lead(model), points, ends, labels=levels, tol=1e-6, **options)


def _angles(model, points, labels):
    return boundary.angles(points, points.detach().roll(1, 0))


def _dimension(model, points, labels, **options):
    both = torch.cat([points, points.detach() * 0.9, points.detach() * 0.7])
    return boundary.dimension(both, of="differences", **options)


def _shared_directions(model, points, labels, **options):
    field = levelset.Component(nn.Sequential(model, nn.Tanh()), 1)
    both = torch.cat([points, points.detach() * 0.9])
    return boundary.shared_directions(field, both, tol=10.0, **options)


def _subspace_persistence(model, points, labels, **options):
    directions = torch.eye(25)[:3].to(points).view(3, 1, 5, 5)
    return boundary.subspace_persistence(model, points, directions, draws=10, **options)


def _connect(model, points, labels, **options):
    return boundary.connect(model, points, points.detach() * 0.999 + 0.0004, checks=5, **options)


def _convexity(model, points, labels, **options):
    both = torch.cat([points, points.detach() * 0.999])
    return boundary.convexity(model, both, draws=8, **options)


def _decision_dimension(model, points, labels, **options):
    model, start, end = _halved(model, points)
    sides = start.unsqueeze(0), end.unsqueeze(0)
    field = levelset.LogitDifference(model, 0, 1)
    point = levelset.intersect(field, *sides, tol=1e-4).points[0]
    more = {"radius": 1e-3, "tol": 1e-3, "draws": 40}
    return boundary.decision_dimension(model, point, **more, **options)


def _dropout_crossings(model, points, labels, **options):
    found = boundary.dropout_crossings(*_halved(model, points), draws=5, steps=9, **options)
    return found.nan_to_num(2.0)  # rows are filled up with NaN


def _normality(model, points, labels, **options):
    return boundary.normality(points, draws=20, **options)


def _distortion(model, points, labels):
    return attacks.distortion(points, points.detach().roll(1, 0))


def _transfer(model, points, labels, **options):
    attack = functools.partial(attacks.fgsm, radius=0.2, bounds=(-1.0, 2.0))
    models = {"one": model, "pair": nn.Sequential(model, nn.LogSoftmax(1))}
    return attacks.transfer(models, points, labels, attack=attack, **options)


WRITTEN = {
    "levelset.project": Case(_project),
    "levelset.project (two equations)": Case(_project_pair),
    "levelset.project (gradient descent)": Case(_descend),
    "levelset.intersect": Case(_intersect),
    "levelset.Projection.at": Case(_at, batches=False),
    "levelset.attach": Case(_attach, batches=False, differentiable=True),
    "levelset.check_field": Case(_check, batches=False),
    "levelset.suggest_batch_size": Case(_suggest, batches=False, empty=ShapeError),
    "levelset.audit": Case(_audit, empty=DataError),
    "levelset.boundary.class_frequencies": Case(_class_frequencies, draws=True),
    "levelset.boundary.persistence": Case(_persistence, draws=True),
    "levelset.boundary.persistence_along": Case(_persistence_along, draws=True, rows=False),
    "levelset.boundary.stability": Case(_stability, draws=True),
    "levelset.boundary.distance": Case(_distance),
    "levelset.boundary.curvature": Case(_curvature),
    "levelset.boundary.normal_curvature": Case(_normal_curvature),
    "levelset.boundary.class_curvatures": Case(_class_curvatures, draws=True),
    "levelset.boundary.cross_section": Case(_cross_section, batches=False, empty=ShapeError),
    "levelset.boundary.exact_section": Case(_exact_section, batches=False, rows=False),
    "levelset.boundary.exact_crossings": Case(_exact_crossings, batches=False, rows=False),
    "levelset.boundary.section": Case(_section, rows=False),
    "levelset.sample_level_set": Case(_sample_level_set, draws=True, empty=DataError, rows=False),
    "levelset.boundary.sample": Case(_sample, draws=True, rows=False),
    "levelset.boundary.walk": Case(_walk_along, draws=True, rows=False),
    "levelset.boundary.normals": Case(_normals, draws=True),
    "levelset.boundary.planarity": Case(_planarity, draws=True, rows=False),
    "levelset.boundary.skewness": Case(_skewness, draws=True),
    "levelset.boundary.incidence": Case(_incidence),
    "levelset.boundary.angles": Case(_angles, batches=False),
    "levelset.boundary.dimension": Case(_dimension, draws=True, batches=False, empty=DataError),
    "levelset.boundary.shared_directions": Case(_shared_directions, empty=NotConvergedError),
    "levelset.boundary.subspace_persistence": Case(_subspace_persistence, draws=True),
    "levelset.boundary.connect": Case(_connect),
    "levelset.boundary.convexity": Case(_convexity, draws=True, empty=DataError),
    "levelset.boundary.decision_dimension": Case(_decision_dimension, draws=True, rows=False),
    "levelset.boundary.dropout_crossings": Case(_dropout_crossings, draws=True, rows=False),
    "levelset.boundary.normality": Case(_normality, draws=True, batches=False, empty=DataError),
    "levelset.attacks.distortion": Case(_distortion, batches=False, differentiable=True),
    "levelset.attacks.transfer": Case(_transfer, empty=ParameterError),
}


# What automatic cases are called with, where a function takes it.
FIXED = {
    "radius": 0.2, "sigma": 0.05, "steps": 5, "draws": 5, "searches": 2, "bounds": (-1.0, 2.0),
    "effort": "quick",
}  # fmt: skip
EMPTY = {"levelset.attacks.universal": ParameterError}


def _automatic(name: str, function: Callable[..., Any]) -> Case | None:
    """Return a case for a function of `(model, points[, labels])`, if no more has to be known."""
    takes = inspect.signature(function).parameters
    labelled = list(takes)[:3] == ["model", "points", "labels"]
    if list(takes)[:2] != ["model", "points"]:
        return None
    fixed = {key: value for key, value in FIXED.items() if key in takes}
    given = {"model", "points", *fixed, *(["labels"] if labelled else [])}
    if any(p.default is p.empty and key not in given for key, p in takes.items()):
        return None

    def call(model, points, labels, **options):
        arguments = (model, points, labels) if labelled else (model, points)
        return function(*arguments, **fixed, **options)

    return Case(call, "generator" in takes, "batch_size" in takes, empty=EMPTY.get(name))


def _cases() -> dict[str, Case]:
    found = dict(WRITTEN)
    for module in (attacks, boundary):
        for name in module.__all__:
            function, key = getattr(module, name), f"{module.__name__}.{name}"
            case = _automatic(key, function) if inspect.isfunction(function) else None
            if case is not None:
                found.setdefault(key, case)
    return found


CASES = _cases()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `case` once for each function of the table it is about."""
    kinds = {"case": None, "batching_case": "batches", "drawing_case": "draws"}
    for name, kind in kinds.items():
        if name in metafunc.fixturenames:
            chosen = {k: c for k, c in CASES.items() if kind is None or getattr(c, kind)}
            metafunc.parametrize(name, list(chosen.values()), ids=list(chosen))


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES


@pytest.fixture
def make_model(settled) -> Callable[..., nn.Module]:
    """Return a function that builds a classifier of three classes with every kind of state.

    Batch statistics, dropout, a part in evaluation mode, a parameter that is held, gradients that
    somebody has gathered.
    """

    def build(case: Case, dtype: torch.dtype = torch.float64) -> nn.Module:
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(27, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3),
        )  # fmt: skip
        settled(model, seed=3, dtype=dtype).train()
        model[6].eval()
        model[0].bias.requires_grad_(False)
        for parameter in (model[0].weight, model[5].weight):
            parameter.grad = torch.full_like(parameter, 0.25)
        return model.eval() if case.differentiable else model

    return build


@pytest.fixture
def points(noise) -> Tensor:
    """Six small images in the unit box."""
    return torch.sigmoid(noise(6, 1, 5, 5, seed=4))


@pytest.fixture
def labels(make_model, points) -> Tensor:
    """What the model answers, but for the last point."""
    with torch.no_grad():
        answers = make_model(Case(_attach, differentiable=True))(points).argmax(1)
    answers[-1] = (answers[-1] + 1) % 3
    return answers


def _walk(result: Any, name: str = "result") -> Iterator[tuple[str, Any]]:
    if isinstance(result, Tensor) or not (
        dataclasses.is_dataclass(result) or isinstance(result, dict | tuple)
    ):
        yield name, result
    elif isinstance(result, dict):
        for key, value in result.items():
            yield from _walk(value, f"{name}[{key!r}]")
    elif isinstance(result, tuple):
        for i, value in enumerate(result):
            yield from _walk(value, f"{name}[{i}]")
    else:
        for key, value in vars(result).items():
            yield from _walk(value, f"{name}.{key}")


@pytest.fixture
def leaves() -> Callable[[Any], dict[str, Any]]:
    """Return a function that lists all tensors and numbers of a result by their place in it."""
    return lambda result: dict(_walk(result))


@pytest.fixture
def assert_close(leaves) -> Callable[..., None]:
    """Return a comparison of two results, entry by entry, NaN and infinity included."""

    def compare(one: Any, other: Any, *, atol: float = 0.0) -> None:
        found, expected = leaves(one), leaves(other)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(
                    value, expected[name], rtol=0.0, atol=atol if value.is_floating_point() else 0,
                    equal_nan=True, msg=lambda text, n=name: f"{n}: {text}",
                )  # fmt: skip
            elif isinstance(value, float):
                assert value == pytest.approx(expected[name], abs=max(atol, 1e-300)), name
            else:
                assert value == expected[name], name

    return compare
