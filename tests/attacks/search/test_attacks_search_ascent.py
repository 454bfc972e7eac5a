"""What all attacks of fixed radius share: the ball, the box, the books, the messages."""

import functools
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from levelset import Classifier
from levelset.attacks import Attack, fab, fgsm, igsm, mi_fgsm, pgd, r_fgsm, random_direction, square
from levelset.errors import FieldError, ParameterError

Method = Callable[..., Attack]

WITH_RADIUS: dict[str, Method] = {
    "fgsm": fgsm,
    "fgsm, L2": functools.partial(fgsm, norm=2.0),
    "r_fgsm": r_fgsm,
    "igsm": igsm,
    "igsm, L2": functools.partial(igsm, norm=2.0),
    "mi_fgsm": mi_fgsm,
    "mi_fgsm, L2": functools.partial(mi_fgsm, norm=2.0),
    "pgd": functools.partial(pgd, steps=10),
    "pgd, L2": functools.partial(pgd, steps=10, norm=2.0),
    "pgd, L1": functools.partial(pgd, steps=10, norm=1.0),
    "pgd, fixed": functools.partial(pgd, steps=10, step_size=0.1),
    "pgd, L1, fixed": functools.partial(pgd, steps=10, step_size=0.8, norm=1.0),
    "pgd, margin": functools.partial(pgd, steps=10, loss="margin"),
    "pgd, ratio": functools.partial(pgd, steps=10, loss="ratio"),
    "pgd, best": functools.partial(pgd, steps=10, keep="best", restarts=2),
    "pgd, last": functools.partial(pgd, steps=10, keep="last"),
    "fab": functools.partial(fab, steps=10),
    "fab, L2, restarts": functools.partial(fab, steps=10, norm=2.0, restarts=3),
    "fab, L1": functools.partial(fab, steps=10, norm=1.0),
    "square": functools.partial(square, steps=80),
}
EVERY = {**WITH_RADIUS, "random_direction": functools.partial(random_direction, draws=3)}
DRAWING = {"r_fgsm", "square", "random_direction"}


def options(name: str, radius: float | None = None, seed: int = 0) -> dict[str, object]:
    """Return the radius and the generator, for those that take them."""
    if radius is None:
        radius = 2.0 if "L1" in name else 0.8 if "L2" in name else 0.3
    found: dict[str, object] = {} if name == "random_direction" else {"radius": radius}
    if name in DRAWING or name.startswith(("pgd", "fab")):
        found["generator"] = torch.Generator().manual_seed(seed)
    return found


@pytest.fixture
def network(settled: Callable[..., nn.Module]) -> nn.Module:
    layers = nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5)
    return settled(nn.Sequential(*layers), seed=3, dtype=torch.float64)


@pytest.fixture
def images(noise: Callable[..., Tensor]) -> Tensor:
    """Return points of which many entries lie on the sides of the box."""
    return (0.5 + 0.4 * noise(40, 1, 3, 4, seed=5)).clamp(0.0, 1.0)


@pytest.mark.parametrize("name", WITH_RADIUS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [0.03, 0.3, 3.0])
def test_radius_and_box_hold_exactly(
    name: str, dtype: torch.dtype, radius: float, network: nn.Module, images: Tensor
) -> None:
    points = images.to(dtype)
    found = WITH_RADIUS[name](network.to(dtype), points, **options(name, radius))
    assert found.points.dtype == dtype
    assert (found.points >= 0).all()
    assert (found.points <= 1).all()
    length = torch.linalg.vector_norm((found.points - points).flatten(1), found.norm, 1)
    assert (length <= radius).all()
    assert torch.equal(found.distance[found.success], length[found.success])
    assert found.distance[~found.success].isinf().all()


@pytest.mark.parametrize("name", EVERY)
def test_success_is_what_the_model_says(name: str, network: nn.Module, images: Tensor) -> None:
    labels = (network(images).argmax(1) + (torch.arange(40) % 4 == 0)) % 5
    found = EVERY[name](network, images, labels, **options(name))
    changed = network(found.points).argmax(1) != labels
    assert torch.equal(found.success, changed)
    wrong = network(images).argmax(1) != labels
    assert wrong.sum() == 10
    assert torch.equal(found.distance == 0, wrong)
    assert torch.equal(found.points[wrong], images[wrong])
    assert (found.success & ~wrong).sum() > 0, "the test must see an attack succeed"
    summary = found.summary()
    assert summary["already_misclassified"] == 10
    moved = (found.points - images)[found.success & ~wrong].flatten(1)
    expected = torch.linalg.vector_norm(moved, 2.0, 1).quantile(0.5)
    assert summary["distance_2_median"] == pytest.approx(float(expected))
    assert summary["distortion_median"] == pytest.approx(float(expected) / math.sqrt(12))
    assert summary["distance_0_median"] == float((moved != 0).sum(1).double().quantile(0.5))


@pytest.mark.parametrize("name", EVERY)
def test_targets_are_reached(name: str, network: nn.Module, images: Tensor) -> None:
    labels = network(images).argmax(1)
    targets = (labels + 1 + torch.arange(40) % 4) % 5
    found = EVERY[name](
        network, images, labels, targets=targets, **options(name, 6.0 if "L1" in name else 1.0)
    )
    assert torch.equal(found.success, network(found.points).argmax(1) == targets)
    assert found.success.any()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_batches_change_nothing(
    name: str, batch_size: int, network: nn.Module, images: Tensor
) -> None:
    whole = EVERY[name](network, images, **options(name))
    parts = EVERY[name](network, images, batch_size=batch_size, **options(name))
    # Where an attack fails, its schedule may turn on a loss that stands still but for rounding.
    through = whole.success
    assert torch.equal(through, parts.success)
    torch.testing.assert_close(whole.points[through], parts.points[through], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_neighbours_change_nothing(name: str, network: nn.Module, images: Tensor) -> None:
    whole = EVERY[name](network, images, **options(name))
    few = EVERY[name](network, images[:9], **options(name))
    through = few.success
    assert torch.equal(whole.success[:9], through)
    torch.testing.assert_close(whole.points[:9][through], few.points[through], rtol=0, atol=1e-9)
    assert torch.equal(whole.gradients[:9], few.gradients)


@pytest.mark.parametrize("name", EVERY)
def test_one_generator_one_result(
    name: str,
    network: nn.Module,
    images: Tensor,
    left_as_found: Callable[..., object],
    same_bits: Callable[[Tensor, Tensor], bool],
) -> None:
    network.train()
    with left_as_found(network, images):  # type: ignore[attr-defined]
        first = EVERY[name](network, images, **options(name))
    again = EVERY[name](network, images, **options(name))
    assert same_bits(first.points, again.points)
    if name in DRAWING:
        other = EVERY[name](network, images, **options(name, seed=1))
        assert not same_bits(first.points, other.points)


@pytest.mark.parametrize("name", EVERY)
def test_no_inputs_one_input_and_a_pickle(name: str, network: nn.Module, images: Tensor) -> None:
    assert len(EVERY[name](network, images[:0], **options(name))) == 0
    found = EVERY[name](network, images[:1], **options(name))
    assert len(found) == 1
    back = pickle.loads(pickle.dumps(found))
    assert torch.equal(back.points, found.points)
    assert back.summary() == found.summary()


@pytest.mark.parametrize("name", WITH_RADIUS)
@pytest.mark.parametrize("radius", [0.0, -0.1, math.nan])
def test_a_radius_must_be_positive(
    name: str, radius: float, network: nn.Module, images: Tensor
) -> None:
    with pytest.raises(ParameterError, match="`radius` must be positive, got"):
        WITH_RADIUS[name](network, images, **options(name, radius))


@pytest.mark.parametrize("name", EVERY)
def test_bounds_must_hold_the_input(name: str, network: nn.Module, images: Tensor) -> None:
    with pytest.raises(ParameterError, match=r"must lie within the bounds 0 to 0\.5"):
        EVERY[name](network, images, bounds=(0.0, 0.5), **options(name))


@pytest.mark.parametrize("name", EVERY)
def test_a_target_is_not_the_label(name: str, network: nn.Module, images: Tensor) -> None:
    labels = network(images).argmax(1)
    with pytest.raises(ParameterError, match="`targets` must differ from the labels, but 40"):
        EVERY[name](network, images, labels, targets=labels, **options(name))


class Steps(nn.Module):
    """Logits that depend on the input by rounding only, so that every gradient is zero."""

    def forward(self, points: Tensor) -> Tensor:
        total = points.flatten(1).sum(1)
        return torch.stack(
            [(4 * total).round() + 0 * total, 25 + 0 * total, 0 * total, 0 * total], 1
        )


@pytest.mark.parametrize("name", [n for n in WITH_RADIUS if n != "square"])
def test_a_flat_model_is_named(name: str, images: Tensor) -> None:
    with pytest.raises(FieldError, match=r"zero for all \d+ inputs.*gradient-free `square`"):
        WITH_RADIUS[name](Steps(), images, **options(name, 0.1))


def test_square_needs_no_gradient(images: Tensor) -> None:
    model = Steps()
    near = images[(model(images)[:, 0] - 25).abs() <= 4]
    found = WITH_RADIUS["square"](model, near, **options("square", 0.2))
    assert found.success.double().mean() > 0.8
    assert (found.gradients == 0).all()


class Broken(nn.Module):
    """A linear model whose gradient is NaN for inputs with an entry of exactly 0.5."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        first = points.flatten(1)[:, :1]
        # The root has an infinite slope at 0, and 0 times infinity is NaN.
        return self.model(points) + 0.0 * (first - 0.5).abs().sqrt()


@pytest.mark.parametrize("name", ["fgsm", "igsm", "mi_fgsm", "fab"])
def test_broken_gradients_fail_alone(name: str, network: nn.Module, images: Tensor) -> None:
    points = images.clone()
    points[::4, 0, 0, 0] = 0.5
    model, bad = Broken(network), torch.arange(40) % 4 == 0
    found = WITH_RADIUS[name](model, points, **options(name))
    sound = WITH_RADIUS[name](network, points, **options(name))
    assert not found.success[bad].any()
    assert torch.equal(found.points[bad], points[bad])
    assert torch.equal(found.success[~bad], sound.success[~bad])
    assert found.success.any()


def test_a_classifier_brings_its_own_box(network: nn.Module, images: Tensor) -> None:
    model = Classifier(network, bounds=(0.0, 2.0))
    found = fgsm(model, images, radius=0.5)
    assert found.points.max() > 1.0
    assert found.points.max() <= 2.0


def test_progress_reaches_its_end(network: nn.Module, images: Tensor) -> None:
    told: list[tuple[int, int]] = []
    pgd(network, images, radius=3.0, steps=5, restarts=2, progress=lambda *n: told.append(n))
    assert told == [(i, 10) for i in range(1, 11)]


@pytest.mark.messages
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"restarts": 0}, "`restarts` must be at least 1, got 0"),
        ({"step_size": 0.0}, "`step_size` must be positive, got 0.0"),
        ({"keep": "all"}, "`keep` must be one of first, best, last, got 'all'"),
        ({"loss": "hinge"}, "`loss` must be one of cross_entropy, margin, ratio, got 'hinge'"),
        ({"norm": 0.0}, "`norm` must be one of inf, 2, 1, got 0.0"),
    ],
)
def test_options_out_of_range(
    given: dict[str, object], text: str, network: nn.Module, images: Tensor
) -> None:
    with pytest.raises(ParameterError, match=text):
        pgd(network, images, radius=0.1, **given)  # type: ignore[arg-type]
