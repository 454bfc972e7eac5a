"""A valid, small call of every public function, class and method that takes arguments.

Arguments that a call leaves out have their defaults; those are replaced too.
"""

import importlib
import inspect
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import levelset
from levelset import (
    attacks,
    boundary,
    datasets,
    kernels,
    losses,
    networks,
    plots,
    reconstruction,
    report,
    shapes,
    training,
)
from levelset.auditing import Audit
from levelset.boundary import detect
from levelset.boundary._second_order._smoothing import smoothings

MODULES = (
    "levelset", "levelset.attacks", "levelset.auditing", "levelset.boundary",
    "levelset.boundary.detect", "levelset.datasets", "levelset.fields", "levelset.kernels",
    "levelset.losses",
    "levelset.networks", "levelset.plots", "levelset.reconstruction", "levelset.report",
    "levelset.shapes", "levelset.training",
)  # fmt: skip

# What the library builds and the caller reads; records without checks of their own.
RESULTS = {
    "Attack", "Audit", "Checkpoint", "Contributions", "Crossings", "CrossSection", "Curvature",
    "Curve", "CurveField", "Detection", "Detector", "Diagnostics", "Distance", "DistanceLikeness",
    "Epoch", "ExactSection", "Explanation", "FieldCheck", "Health", "History", "LossCurvature",
    "Metrics", "Nearest", "Neighbours", "PathPersistence", "Persistence", "Polygons", "Prediction",
    "Projection", "RandomDirections", "Recording", "RobustAccuracy", "RobustnessCurve", "Roc",
    "Section", "Signs", "Stability", "Step", "Surface", "Suspects", "Transfer", "Universal",
    "ClassesNearby", "Convexity", "DecisionLevel", "Link", "Normality", "Planarity", "Skewness",
    "Spectrum", "SubspacePersistence", "PolytopeNetwork", "ClassChanges",
}  # fmt: skip
# Names of types, and functions that take anything.
NOT_CALLED = {"RECIPES", "Effort", "Examples", "Schedule", "Watch", "ATTACKS", "detect", "frozen"}
# Methods of results that take tensors the library made.
INTERNAL = {
    "Newton.move", "GradientDescent.move", "Detector.score", "Classifier.read", "Recording.named",
    "Recording.shards", "GaussianProcess.similarities", "GaussianProcess.prior",
    "Classifier.normalised",
}  # fmt: skip
# What a smoothing answers when the package asks it, with arguments that it has checked.
HOOKS = {"parts", "operator", "second_derivatives", "numbers", "refuse", "solve"}


def model() -> nn.Module:
    """Return a small smooth classifier of three classes in training mode, the same every time."""
    generator = torch.Generator().manual_seed(5)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(2.0 * torch.randn(parameter.shape, generator=generator))
    return net


def points(n: int = 4) -> Tensor:
    """Return inputs in the unit box."""
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(1))


def labels() -> Tensor:
    """Return what the model answers."""
    with levelset.frozen(net := model()), torch.no_grad():
        return net(points()).argmax(1)


def images() -> datasets.Images:
    """Return the inputs as a data set."""
    return datasets.Images(points(), torch.tensor([0, 1, 2, 0]), ("a", "b", "c"), "x")


@cache
def audited() -> Audit:
    """Return a small audit."""
    return levelset.audit(model(), points(), labels(), effort="quick")


@cache
def audited_folder() -> Path:
    """Return the folder of a small audit."""
    levelset.audit(model(), points(), labels(), effort="quick", out=(out := scratch("audit")))
    return out


@cache
def trained_folder() -> Path:
    """Return the folder of a small training."""
    training.train(model(), images(), epochs=1, out=(out := scratch("training")))
    return out


@cache
def fitted() -> detect.Detector:
    """Return a detector fitted on few points."""
    scale = boundary.CentralDifference(0.1)
    return detect.fit(model(), points(6), points(6) + 0.2, scales=(scale,), draws=5)


@cache
def saved_detector() -> Path:
    """Return the folder of a detector."""
    folder = Path(tempfile.mkdtemp())
    fitted().save(folder / "detector")
    return folder / "detector"


@cache
def cube() -> reconstruction.Mesh:
    """Return a coarse sphere."""
    return reconstruction.extract_mesh(
        shapes.Sphere(radius=0.5), bounds=[[-1.0] * 3, [1.0] * 3], resolution=6
    )


def scratch(name: str) -> Path:
    """Return a path in a new folder."""
    return Path(tempfile.mkdtemp()) / name


@cache
def curved() -> Any:
    """Return the curvature at some points."""
    return boundary.curvature(levelset.Margin(model()), points(), labels=labels(), level=None)


@cache
def persistent() -> Any:
    """Return the persistence of some points."""
    return boundary.persistence(model(), points(), tolerance=0.2)


@cache
def along() -> Any:
    """Return the persistence along a segment."""
    return boundary.persistence_along(model(), *points(2), steps=3, tolerance=0.2)


@cache
def section() -> Any:
    """Return a section through a sphere."""
    sides = torch.zeros(1, 3), torch.tensor([[1.5, 0.4, 0.1]])
    field = shapes.Ellipsoid((1.0, 0.7, 0.5))
    return boundary.cross_section(field, *sides, resolution=4)


def bent() -> nn.Module:
    """Return the model with ReLUs in the place of what is smooth."""
    net = model()
    return nn.Sequential(net[0], nn.ReLU(), *net[2:])


def plane() -> dict[str, Any]:
    """Return a plane of the inputs."""
    origin, *axes = torch.eye(3)
    return {"origin": origin, "u": axes[0], "v": axes[1], "extent": 1.0}


@cache
def recorded() -> training.Recording:
    """Return a short recording."""
    return training.record(
        model(), points(), labels(), steps=2, learning_rate=0.1, folder=scratch("recording")
    )


@cache
def path_kernel() -> kernels.PathKernel:
    """Return the path kernel of a short recording."""
    return kernels.PathKernel(recorded(), points(), labels())


@cache
def explained() -> kernels.Explanation:
    """Return what the predictions of some points are made of."""
    return kernels.explain(path_kernel(), points())


def adam(net: nn.Module) -> torch.optim.Optimizer:
    """Return an optimiser of a model."""
    return torch.optim.Adam(net.parameters())


def checkpoint(net: nn.Module) -> training.Checkpoint:
    """Return the state of a model before any step."""
    return training.Checkpoint.of(net, adam(net), settings={}, seed=0)


def saved_checkpoint(net: nn.Module) -> Path:
    """Return the file of a checkpoint."""
    path = scratch("checkpoint.safetensors")
    checkpoint(net).write(path)
    return path


def classifier_calls() -> Iterator[tuple[str, Callable[[], tuple[Any, dict[str, Any]]]]]:
    """Yield a call of each attack and each loss of a classifier, told by its signature."""
    small = {"radius": 0.1, "steps": 4, "searches": 2, "draws": 2, "candidates": 2, "restarts": 1}
    for package in (attacks, losses):
        for name in package.__all__:
            function = getattr(package, name)
            if not inspect.isfunction(function):
                continue
            takes = list(inspect.signature(function).parameters)
            if takes[:3] == ["model", "points", "labels"]:
                more = {key: value for key, value in small.items() if key in takes}

                def call(function: Any = function, more: dict[str, Any] = more) -> Any:
                    return function, dict(model=model(), points=points(), labels=labels(), **more)

                yield f"{package.__name__.removeprefix('levelset.')}.{name}", call


def smoothing_calls() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Return a call of each smoothing, by its first option."""
    kinds = [kind for kind in smoothings().values() if hasattr(boundary, kind.__name__)]
    return {
        f"boundary.{kind.__name__}": lambda kind=kind: (kind, {fields(kind)[0].name: 0.1})
        for kind in kinds
    }


def region_calls() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Return calls of what measures the shape of class regions."""
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
        net[1].bias.zero_()
    ends = {"start": -torch.ones(3), "end": torch.ones(3)}
    sphere = shapes.Sphere()
    on_sphere = points() / points().norm(dim=1, keepdim=True)
    here, draws = {"field": sphere, "points": on_sphere}, {"draws": 5}
    segments = {"start": torch.zeros(2, 3), "end": torch.full((2, 3), 1.5)}
    return {
        "sample_level_set": lambda: (
            levelset.sample_level_set, {"field": sphere, "points": points(), "n": 4}
        ),
        "boundary.angles": lambda: (
            boundary.angles, {"points": points(), "others": points() + 0.1}
        ),
        "boundary.classes_nearby": lambda: (
            boundary.classes_nearby, {"model": model(), "points": points(), "radius": 0.1, **draws}
        ),
        "boundary.connect": lambda: (
            boundary.connect, {"model": net, "start": -points(), "end": -points() - 0.1}
        ),
        "boundary.convexity": lambda: (boundary.convexity, {"model": net, "points": points()}),
        "boundary.decision_dimension": lambda: (
            boundary.decision_dimension, {"model": net, "point": torch.zeros(3), "radius": 0.1}
        ),
        "boundary.decision_level": lambda: (
            boundary.decision_level, {"model": model(), "points": points()}
        ),
        "boundary.dimension": lambda: (boundary.dimension, {"points": points(12)}),
        "boundary.dropout_crossings": lambda: (
            boundary.dropout_crossings, {"model": net, **ends, **draws}
        ),
        "boundary.incidence": lambda: (boundary.incidence, {"field": sphere, **segments}),
        "boundary.normality": lambda: (boundary.normality, {"values": points(), **draws}),
        "boundary.normals": lambda: (boundary.normals, {**here}),
        "boundary.planarity": lambda: (boundary.planarity, {**here, "radii": (0.1, 0.2), **draws}),
        "boundary.sample": lambda: (boundary.sample, {"model": net, **ends, **draws}),
        "boundary.shared_directions": lambda: (boundary.shared_directions, {**here}),
        "boundary.skewness": lambda: (boundary.skewness, {**here, "radius": 0.1, **draws}),
        "boundary.Spectrum.share": lambda: (
            boundary.dimension(points(12)).share, {"points": points(), "count": 2}
        ),
        "boundary.subspace_persistence": lambda: (
            boundary.subspace_persistence,
            {"model": net, "points": points(), "directions": torch.eye(3)[:1], **draws},
        ),
        "boundary.walk": lambda: (
            boundary.walk,
            {"field": sphere, "point": on_sphere[0], "steps": 2, "step": 0.1},
        ),
        "plots.convexity": lambda: (
            plots.convexity, {"results": boundary.convexity(net, points(), draws=5)}
        ),
        "plots.crossings": lambda: (
            plots.crossings, {"values": boundary.dropout_crossings(net, *ends.values(), draws=9)}
        ),
        "plots.links": lambda: (
            plots.links, {"results": boundary.connect(net, -points(), -points() - 0.1)}
        ),
        "plots.planarity": lambda: (
            plots.planarity,
            {"result": boundary.planarity(sphere, on_sphere, radii=(0.1, 0.2), draws=3)},
        ),
        "plots.simplex": lambda: (
            plots.simplex, {"result": boundary.decision_level(model(), points())}
        ),
        "plots.skewness": lambda: (
            plots.skewness, {"results": boundary.skewness(sphere, on_sphere, radius=0.1, draws=5)}
        ),
        "plots.spectrum": lambda: (plots.spectrum, {"results": boundary.dimension(points(12))}),
    }  # fmt: skip


def model_calls() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Return calls of what measures a model or field."""

    def margin() -> nn.Module:
        return levelset.Margin(model())

    net = model().eval()

    ends = {"start": torch.zeros(2, 3), "end": torch.full((2, 3), 1.5)}
    draws = {"draws": 8}
    return {
        "Classifier": lambda: (levelset.Classifier, {"model": model()}),
        "Classifier.forward": lambda: (
            levelset.Classifier(net).eval().forward, {"points": points()}
        ),
        "Component": lambda: (levelset.Component, {"model": model(), "k": 1}),
        "Component.forward": lambda: (
            levelset.Component(net, 1).eval().forward, {"points": points()}
        ),
        "LogitDifference": lambda: (levelset.LogitDifference, {"model": model()}),
        "LogitDifference.forward": lambda: (
            levelset.LogitDifference(model(), 0).eval().forward,
            {"points": points(), "labels": labels()},
        ),
        "Margin": lambda: (levelset.Margin, {"model": model()}),
        "Margin.forward": lambda: (
            margin().eval().forward, {"points": points(), "labels": labels()}
        ),
        "Newton": lambda: (levelset.Newton, {}),
        "GradientDescent": lambda: (levelset.GradientDescent, {}),
        "Projection.at": lambda: (
            levelset.Projection.at,
            {"field": margin(), "points": points(), "labels": labels()},
        ),
        "attach": lambda: (
            levelset.attach,
            {"field": (f := margin().eval()),
             "projection": levelset.Projection.at(f, points(), labels())},
        ),
        "audit": lambda: (
            levelset.audit,
            {"model": model(), "points": points(2), "labels": labels()[:2], "effort": "quick"},
        ),
        "check_field": lambda: (
            levelset.check_field, {"field": margin(), "points": points(), "labels": labels()}
        ),
        "cite": lambda: (levelset.cite, {"names": "project"}),
        "intersect": lambda: (levelset.intersect, {"field": shapes.Sphere(), **ends}),
        "project": lambda: (
            levelset.project, {"field": margin(), "points": points(), "labels": labels()}
        ),
        "suggest_batch_size": lambda: (
            levelset.suggest_batch_size,
            {"field": margin(), "points": points(), "memory": 10_000, "labels": labels()},
        ),
        "attacks.distortion": lambda: (
            attacks.distortion, {"points": points(), "perturbed": points() + 0.1}
        ),
        "attacks.transfer": lambda: (
            attacks.transfer,
            {"models": {"a": model(), "b": model()}, "points": points(), "labels": labels(),
             "attack": attacks.deepfool},
        ),
        "attacks.Universal.perturb": lambda: (
            attacks.universal(model(), points(), steps=2).perturb, {"points": points()}
        ),
        "boundary.class_curvatures": lambda: (
            boundary.class_curvatures,
            {"model": model(), "points": points(), "smoothing": boundary.CentralDifference(0.1)},
        ),
        "boundary.class_frequencies": lambda: (
            boundary.class_frequencies,
            {"model": model(), "point": points()[0], "sigmas": torch.tensor([0.1, 0.2]), **draws},
        ),
        "boundary.cross_section": lambda: (
            boundary.cross_section,
            {"field": shapes.Ellipsoid((1.0, 0.7, 0.5)), "start": torch.zeros(1, 3),
             "perturbed": torch.tensor([[1.5, 0.4, 0.1]]), "resolution": 4},
        ),
        "boundary.curvature": lambda: (
            boundary.curvature,
            {"field": margin(), "points": points(), "labels": labels(), "level": None},
        ),
        "boundary.certified_radius": lambda: (
            boundary.certified_radius,
            {"model": model(), "points": points(), "labels": labels()},
        ),
        "boundary.distance": lambda: (
            boundary.distance,
            {"model": model(), "points": points(2), "labels": labels()[:2], "effort": "quick"},
        ),
        "boundary.exact_crossings": lambda: (
            boundary.exact_crossings,
            {"model": bent(), "start": points()[0], "end": points()[1]},
        ),
        "boundary.section": lambda: (
            boundary.section, {"model": model(), **plane(), "resolution": 3}
        ),
        "boundary.exact_section": lambda: (
            boundary.exact_section, {"model": bent(), **plane()}
        ),
        "boundary.ExactSection.raster": lambda: (
            boundary.exact_section(bent(), **plane()).raster, {"resolution": 3}
        ),
        "boundary.loss_curvature": lambda: (
            boundary.loss_curvature, {"model": model(), "points": points(), "labels": labels()}
        ),
        "boundary.normal_curvature": lambda: (
            boundary.normal_curvature,
            {"field": margin(), "points": points(), "tangents": points().roll(1, 0),
             "labels": labels()},
        ),
        "boundary.persistence": lambda: (
            boundary.persistence, {"model": model(), "points": points(2), "tolerance": 0.2}
        ),
        "boundary.persistence_along": lambda: (
            boundary.persistence_along,
            {"model": model(), "start": points()[0], "end": points()[1], "steps": 2,
             "tolerance": 0.2},
        ),
        "boundary.robust_accuracy": lambda: (
            boundary.robust_accuracy,
            {"model": model(), "points": points(2), "labels": labels()[:2], "radius": 0.1,
             "effort": "quick"},
        ),
        **region_calls(),
        "boundary.stability": lambda: (
            boundary.stability, {"model": model(), "points": points(), "sigma": 0.1, **draws}
        ),
        **smoothing_calls(),
        "boundary.Exact": lambda: (boundary.Exact, {}),
        "boundary.Lanczos": lambda: (boundary.Lanczos, {}),
        "boundary.Detection.rank": lambda: (
            fitted()(points()).rank, {"classes": torch.zeros(4, dtype=torch.int64)}
        ),
        "boundary.Detector": lambda: (fitted(), {"points": points()}),
        "boundary.Detector.evaluate": lambda: (
            fitted().evaluate, {"natural": points(), "perturbed": points() + 0.1, "draws": 5}
        ),
        "boundary.Detector.save": lambda: (fitted().save, {"folder": scratch("detector")}),
        "boundary.detect.Roc.of": lambda: (
            detect.Roc.of, {"natural": points()[:, 0], "perturbed": points()[:, 1], "draws": 5}
        ),
        "boundary.detect.fit": lambda: (
            detect.fit,
            {"model": model(), "natural": points(), "perturbed": points() + 0.2, "draws": 5,
             "scales": (boundary.CentralDifference(0.1),)},
        ),
        "boundary.detect.load": lambda: (
            detect.load, {"folder": saved_detector(), "model": model()}
        ),
        "kernels.GaussLegendre": lambda: (kernels.GaussLegendre, {"nodes": 2}),
        "kernels.Midpoint": lambda: (kernels.Midpoint, {"nodes": 2}),
        "kernels.PathKernel": lambda: (
            kernels.PathKernel,
            {"recording": recorded(), "points": points(), "labels": labels()},
        ),
        "kernels.GaussianProcess": lambda: (kernels.GaussianProcess, {"kernel": path_kernel()}),
        "kernels.GaussianProcess.predict": lambda: (
            kernels.GaussianProcess(path_kernel()).predict, {"points": points()}
        ),
        "kernels.PathKernel.diagonal": lambda: (path_kernel().diagonal, {"points": points()}),
        "kernels.PathKernel.outputs": lambda: (path_kernel().outputs, {"points": points()}),
        "kernels.novelty": lambda: (
            kernels.novelty, {"kernel": path_kernel(), "points": points()}
        ),
        "kernels.explain": lambda: (
            kernels.explain, {"kernel": path_kernel(), "points": points()}
        ),
        "kernels.effects": lambda: (
            kernels.effects, {"kernel": path_kernel(), "points": points()}
        ),
        "kernels.suspects": lambda: (kernels.suspects, {"kernel": path_kernel()}),
        "kernels.PathKernel.asymmetry": lambda: (path_kernel().asymmetry, {"points": points()}),
        "kernels.PathKernel.contributions": lambda: (
            path_kernel().contributions, {"points": points()}
        ),
        "kernels.PathKernel.gram": lambda: (path_kernel().gram, {"a": points()}),
        "kernels.PathKernel.neighbours": lambda: (
            path_kernel().neighbours, {"points": points(), "k": 2}
        ),
        "kernels.PathKernel.predict": lambda: (path_kernel().predict, {"points": points()}),
        "losses.reconstruction": lambda: (
            losses.reconstruction,
            {"field": shapes.Sphere(), "attached": points(), "levels": torch.zeros(4),
             "cloud": reconstruction.PointTree(points()), "on_data": points(), "weight": 1.0},
        ),
        "reconstruction.PointTree": lambda: (reconstruction.PointTree, {"points": points()}),
        "reconstruction.PointTree.distances": lambda: (
            reconstruction.PointTree(points()).distances, {"points": points()}
        ),
        "training.Checkpoint.of": lambda: (
            training.Checkpoint.of,
            {"model": net, "optimizer": adam(net), "settings": {"epochs": 1}, "seed": 0,
             "epochs": ({"loss": 1.0},), "more": {"turn": torch.tensor(1)}},
        ),
        "training.Checkpoint.restore": lambda: (
            checkpoint(net).restore, {"model": net, "optimizer": adam(net)}
        ),
        "training.Checkpoint.write": lambda: (
            checkpoint(net).write, {"path": scratch("checkpoint.safetensors")}
        ),
        "training.Checkpoint.read": lambda: (
            training.Checkpoint.read, {"path": saved_checkpoint(net)}
        ),
        "training.cross_entropy": lambda: (
            training.cross_entropy, {"model": model(), "points": points(), "labels": labels()}
        ),
        "training.initialise": lambda: (
            training.initialise, {"model": model(), "generator": torch.Generator()}
        ),
        "training.Recording.read": lambda: (
            training.Recording.read, {"folder": recorded().folder, "model": model()}
        ),
        "training.record": lambda: (
            training.record,
            {"model": model(), "points": points(), "labels": labels(), "steps": 1,
             "learning_rate": 0.1, "folder": scratch("recording")},
        ),
        "training.train": lambda: (
            training.train,
            {"model": model(), "data": images(), "epochs": 1,
             "generator": torch.Generator().manual_seed(0)},
        ),
        "training.History.of": lambda: (
            training.History.of, {"epochs": [training.Epoch(loss=1.0, accuracy=0.5, seconds=0.1)]}
        ),
    }  # fmt: skip


def shape_calls() -> Iterator[tuple[str, Callable[[], tuple[Any, dict[str, Any]]]]]:
    """Yield calls of every shape and of its methods."""
    options: dict[str, dict[str, Any]] = {
        "Circle": {}, "Sphere": {}, "Torus": {}, "Ellipsoid": {"axes": (1.0, 2.0, 3.0)},
        "Orthant": {"k": 2, "d": 3}, "Plane": {"normal": (1.0, 0.0, 0.0)},
        "Wedge": {"angles": (1.0,), "d": 3},
    }  # fmt: skip
    for name, given in options.items():
        kind = getattr(shapes, name)
        yield f"shapes.{name}", lambda kind=kind, given=given: (kind, dict(given))
        for method in ("__call__", "project", "distance", "contains"):
            yield (
                f"shapes.{name}.{method}",
                lambda kind=kind, given=given, method=method: (
                    getattr(kind(**given), method), {"points": points()}
                ),
            )  # fmt: skip
    wedge, places = shapes.Wedge((1.0,), 3), {"positions": torch.rand(4)}
    both = {"start": points(), "end": points() + 0.1}
    yield "shapes.Wedge.centerline", lambda: (wedge.centerline, dict(places))
    yield "shapes.Wedge.parallel", lambda: (wedge.parallel, {**places, "offset": 0.1})
    yield "shapes.Wedge.crossings", lambda: (wedge.crossings, dict(both))
    yield "shapes.Wedge.stability", lambda: (wedge.stability, {"points": points(), "sigma": 0.5})
    yield "shapes.Wedge.persistence", lambda: (
        wedge.persistence, {"points": points(), "gamma": 0.7}
    )  # fmt: skip
    corners = torch.tensor([[-9.0, -9, -9], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    for name in ("VoronoiClassifier", "DelaunayClassifier"):
        given = {"points": corners, "labels": torch.tensor([0, 1, 2, 0])}
        made = getattr(shapes, name)(**given)
        yield f"shapes.{name}", lambda name=name, given=given: (getattr(shapes, name), dict(given))
        yield f"shapes.{name}.__call__", lambda made=made: (made, {"points": points()})
        yield f"shapes.{name}.crossings", lambda made=made: (made.crossings, dict(both))
    cube = (torch.cat([torch.eye(3), -torch.eye(3)]), torch.ones(6))
    yield "shapes.polytope_network", lambda: (shapes.polytope_network, {"solid": cube})
    network = shapes.polytope_network(cube)
    yield "shapes.PolytopeNetwork.forward", lambda: (network.forward, {"points": points()})
    yield "shapes.PolytopeNetwork.sequential", lambda: (network.sequential, {"max_weights": 1_000})
    noise = {"distance": 1.0, "sigma": 0.5}
    yield "shapes.Orthant.stability", lambda: (shapes.Orthant(2, 3).stability, dict(noise))
    yield (
        "shapes.Orthant.persistence",
        lambda: (shapes.Orthant(2, 3).persistence, {"distance": 1.0, "gamma": 0.7}),
    )


def other_calls() -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Return calls of what reads, builds, reconstructs and draws."""
    box = [[-1.0] * 3, [1.0] * 3]
    line = torch.rand(5, 3, generator=torch.Generator().manual_seed(2))
    return {
        **{
            f"auditing.Audit.{name}": lambda name=name: (getattr(audited(), name), {"norm": 2.0})
            for name in ("distance", "nearest_class", "robustness", "borders")
        },
        "datasets.Images": lambda: (
            datasets.Images,
            {"points": points(), "labels": labels(), "classes": ("a", "b", "c"), "name": "x"},
        ),
        "datasets.Images.to": lambda: (
            datasets.Images(points(), labels(), ("a", "b", "c"), "x").to, {"device": "cpu"}
        ),
        "datasets.PointCloud": lambda: (
            datasets.PointCloud, {"points": points(), "normals": None, "name": "x"}
        ),
        "training.History.read": lambda: (training.History.read, {"folder": trained_folder()}),
        "training.Objective": lambda: (training.Objective, {"terms": training.cross_entropy}),
        "training.Objective.at": lambda: (
            training.build_loss("ramp({0: 1, 5: 2}) * hinge").at, {"epoch": 1, "epochs": 5}
        ),
        "training.Objective.__call__": lambda: (
            training.build_loss("hinge"),
            {"model": model(), "points": points(), "labels": labels()},
        ),
        "training.Objective.of": lambda: (training.Objective.of, {"loss": losses.hinge}),
        "training.Objective.scheduled": lambda: (
            training.build_loss("ramp({0: 1, 5: 2}) * hinge").scheduled, {"epoch": 1, "epochs": 5}
        ),
        "training.Term.at": lambda: (
            training.Term(losses.hinge, weight=training.Ramp({0: 1})).at, {"epoch": 1, "epochs": 5}
        ),
        "training.Augmentation": lambda: (training.Augmentation, {"shift": 2, "flip": True}),
        "training.Ramp": lambda: (training.Ramp, {"knots": {0: 0.1, 5: 1.0}}),
        "training.Steps": lambda: (training.Steps, {"knots": {5: 0.1}}),
        "training.Term": lambda: (training.Term, {"loss": losses.hinge}),
        "training.Recipe": lambda: (
            training.Recipe,
            {"name": "a", "source": "b", "network": "digits", "loss": "hinge",
             "learning_rate": 0.1, "epochs": 1, "batch_size": 2},
        ),
        "training.recipe": lambda: (training.recipe, {"name": "mnist-madry"}),
        "training.build_schedule": lambda: (training.build_schedule, {"spec": "cosine"}),
        "training.build_loss": lambda: (training.build_loss, {"spec": "hinge(margin=2.0)"}),
        "datasets.build_network": lambda: (datasets.build_network, {"spec": "fc_1"}),
        "datasets.load_model": lambda: (datasets.load_model, {"spec": "digits"}),
        "datasets.read_images": lambda: (datasets.read_images, {"spec": "digits", "limit": 3}),
        "datasets.read_points": lambda: (datasets.read_points, {"path": scratch("none.ply")}),
        "networks.SplineGrid": lambda: (networks.SplineGrid, {"cells": 3}),
        "networks.SplineGrid.forward": lambda: (
            networks.SplineGrid(3).forward, {"points": points()}
        ),
        "networks.bell_cnn": lambda: (networks.bell_cnn, {"channels": 2}),
        "networks.convnet_2a": lambda: (networks.convnet_2a, {}),
        "networks.convnet_2b": lambda: (networks.convnet_2b, {}),
        "networks.convnet_4a": lambda: (networks.convnet_4a, {}),
        "networks.convnet_4b": lambda: (networks.convnet_4b, {}),
        "networks.fc": lambda: (networks.fc, {"widths": (3, 2)}),
        "networks.fc_1": lambda: (networks.fc_1, {}),
        "networks.fc_2": lambda: (networks.fc_2, {}),
        "networks.lenet": lambda: (networks.lenet, {}),
        "networks.resnet18_cifar": lambda: (networks.resnet18_cifar, {}),
        "networks.squeezenet1_0": lambda: (networks.squeezenet1_0, {}),
        "plots.attack": lambda: (
            plots.attack,
            {"result": attacks.deepfool(
                nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(2, 4, 4)
            )},
        ),
        "plots.borders": lambda: (plots.borders, {"result": audited()}),
        "plots.class_frequencies": lambda: (
            plots.class_frequencies,
            {"frequencies": torch.tensor([[0.5, 0.5], [0.4, 0.6]]),
             "sigmas": torch.tensor([0.1, 0.2])},
        ),
        "plots.cross_section": lambda: (plots.cross_section, {"result": section()}),
        "plots.section": lambda: (
            plots.section, {"result": boundary.exact_section(bent(), **plane())}
        ),
        "plots.curvature": lambda: (plots.curvature, {"results": curved()}),
        "plots.distances": lambda: (plots.distances, {"results": audited()}),
        "plots.mean_curvatures": lambda: (plots.mean_curvatures, {"results": curved()}),
        "plots.persistence": lambda: (plots.persistence, {"results": persistent()}),
        "plots.persistence_along": lambda: (plots.persistence_along, {"result": along()}),
        "plots.ranks": lambda: (plots.ranks, {"places": torch.tensor([0, 1, 1])}),
        "plots.robustness": lambda: (plots.robustness, {"results": audited()}),
        "plots.roc": lambda: (plots.roc, {"result": fitted().roc}),
        "plots.transfer": lambda: (
            plots.transfer,
            {"result": attacks.transfer(
                {"a": model()}, points(), labels(), attack=attacks.deepfool
            )},
        ),
        "reconstruction.Fast": lambda: (reconstruction.Fast, {}),
        "reconstruction.Paper": lambda: (reconstruction.Paper, {}),
        "reconstruction.Paper.weight_at": lambda: (
            reconstruction.Paper().weight_at, {"epoch": 3}
        ),
        "reconstruction.Paper.rate_at": lambda: (reconstruction.Paper().rate_at, {"epoch": 3}),
        "reconstruction.Mesh": lambda: (
            reconstruction.Mesh, {"vertices": cube().vertices, "faces": cube().faces}
        ),
        "reconstruction.Mesh.with_scalars": lambda: (
            cube().with_scalars, {"points": points(), "scalars": {"height": points()[:, 2]}}
        ),
        "reconstruction.Mesh.coloured": lambda: (
            cube().coloured, {"points": points(), "colours": points() / 10.0}
        ),
        "reconstruction.Mesh.save": lambda: (cube().save, {"path": scratch("mesh.ply")}),
        "reconstruction.Mesh.read": lambda: (
            reconstruction.Mesh.read, {"path": cube().save(scratch("mesh.ply"))}
        ),
        "reconstruction.Polylines": lambda: (
            reconstruction.Polylines, {"lines": (line,), "closed": (True,)}
        ),
        "reconstruction.Polylines.save": lambda: (
            reconstruction.Polylines((line,), (True,)).save, {"path": scratch("line.obj")}
        ),
        "reconstruction.distance_likeness": lambda: (
            reconstruction.distance_likeness,
            {"field": shapes.Sphere(radius=0.5), "truth": cube(), "draws": 20},
        ),
        "reconstruction.exact_mesh": lambda: (
            reconstruction.exact_mesh,
            {"field": levelset.Component(bent(), 1), "bounds": box, "seeds": 4},
        ),
        "reconstruction.extract_mesh": lambda: (
            reconstruction.extract_mesh,
            {"field": shapes.Sphere(radius=0.5), "bounds": box, "resolution": 6},
        ),
        "reconstruction.metrics": lambda: (
            reconstruction.metrics,
            {"mesh": cube(), "truth": cube(), "draws": 20, "exact_draws": 20},
        ),
        "reconstruction.sample_surface": lambda: (
            reconstruction.sample_surface, {"mesh": cube(), "draws": 5}
        ),
        "reconstruction.trace_curve": lambda: (
            reconstruction.trace_curve,
            {"field": shapes.Sphere(radius=0.5), "bounds": [[-1.0] * 2, [1.0] * 2],
             "resolution": 6},
        ),
        "reconstruction.train_paper": lambda: (
            reconstruction.train_paper,
            {"points": 0.5 * points(12), "settings": reconstruction.Paper(epochs=1, batch_size=4),
             "network": nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))},
        ),
        "report.explanation": lambda: (
            report.explanation,
            {"result": explained(), "points": points(), "labels": labels()},
        ),
        "report.mislabelled": lambda: (
            report.mislabelled, {"result": kernels.suspects(path_kernel()), "points": points()}
        ),
        "report.Html": lambda: (report.Html, {"markup": "<p>"}),
        "report.Section": lambda: (report.Section, {"title": "x"}),
        "report.about": lambda: (report.about, {"runs": {"a": scratch("run")}}),
        "report.subtitle": lambda: (report.subtitle, {"folder": scratch("run")}),
        "auditing.read": lambda: (levelset.auditing.read, {"folder": audited_folder()}),
        "report.comparison": lambda: (report.comparison, {"audits": [audited()]}),
        "report.trainings": lambda: (
            report.trainings, {"histories": {"a": training.History.read(trained_folder())}}
        ),
        "report.audit": lambda: (report.audit, {"audits": audited()}),
        "report.class_frequencies": lambda: (
            report.class_frequencies,
            {"frequencies": torch.tensor([[0.5, 0.5], [0.4, 0.6]]),
             "sigmas": torch.tensor([0.1, 0.2])},
        ),
        "report.curvature": lambda: (report.curvature, {"results": curved()}),
        "report.detection": lambda: (report.detection, {"roc": fitted().roc}),
        "report.persistence": lambda: (report.persistence, {"results": persistent()}),
        "report.spectrum": lambda: (
            report.spectrum, {"result": boundary.dimension(torch.randn(50, 3))}
        ),
        "report.section": lambda: (
            report.section, {"result": boundary.exact_section(bent(), **plane())}
        ),
        "report.write": lambda: (
            report.write, {"path": scratch("x.html"), "sections": [("a", "b", None)], "title": "x"}
        ),
    }  # fmt: skip


# Minutes of work even at their smallest; their arguments have tests of their own.
LONG = {
    "plots.cut", "plots.witnesses", "reconstruction.Curve.to_world", "reconstruction.curve",
    "reconstruction.surface", "reconstruction.Surface.to_world", "reconstruction.Surface.values",
    "report.Table", "report.surface", "networks.digits", "reconstruction.CurveField.forward",
}  # fmt: skip

CALLS = {**model_calls(), **dict(classifier_calls()), **dict(shape_calls()), **other_calls()}


def public_names() -> set[str]:
    """Return every public callable that takes arguments, by the first module that has it."""
    names: dict[int, set[str]] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        prefix = module_name.removeprefix("levelset").lstrip(".")
        for name in set(module.__all__) - NOT_CALLED:
            thing = getattr(module, name)
            key = f"{prefix}.{name}".lstrip(".")
            if inspect.isclass(thing) and not issubclass(thing, Exception):
                own = set() if name in RESULTS else {key}
                names.setdefault(id(thing), own | set(_methods(key, thing)))
            elif inspect.isfunction(thing):
                names.setdefault(id(thing), {key})
    return set().union(*names.values())


def _methods(key: str, kind: type) -> Iterator[str]:
    for name, value in vars(kind).items():
        function = getattr(value, "__func__", value)
        public = (not name.startswith("_") or name == "__call__") and name not in HOOKS
        if not public or not inspect.isfunction(function):
            continue
        if len(inspect.signature(function).parameters) > 1:
            short = (
                f"{key}.{name}".removesuffix(".__call__") if "Detector" in key else f"{key}.{name}"
            )
            if ".".join(short.split(".")[-2:]) not in INTERNAL:
                yield short
