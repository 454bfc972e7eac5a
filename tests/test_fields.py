"""Fields made of models, and the classifier in the data's own units."""

import math

import pytest
import torch
from torch import Tensor, nn

from levelset import Classifier, Component, LogitDifference, Margin, project
from levelset.boundary import distance
from levelset.errors import FieldError, ParameterError, ShapeError
from levelset.fields import bounds_of

INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]


class Fixed(nn.Module):
    """Logits that are the points themselves."""

    def forward(self, points: Tensor) -> Tensor:
        return points.flatten(1)


LOGITS = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, -1.0], [-1.0, 5.0, 4.0], [2.0, 2.5, 9.0]])


# Margin


def test_the_margin_is_the_lead_over_the_best_rival():
    found = Margin(Fixed())(LOGITS, torch.tensor([0, 1, 0, 2]))
    assert found.tolist() == [1.0, 0.0, -6.0, 6.5]


@pytest.mark.parametrize("k", [2, 3, 10])
def test_the_margin_is_positive_exactly_where_the_model_is_right(noise, k):
    logits = noise(500, k)
    labels = torch.arange(500) % k
    margin = Margin(Fixed())(logits, labels)
    assert torch.equal(margin > 0, logits.argmax(1) == labels)
    rivals = torch.stack(
        [torch.cat([row[:y], row[y + 1 :]]) for row, y in zip(logits, labels, strict=True)]
    )
    assert torch.equal(margin, logits[torch.arange(500), labels] - rivals.amax(1))


def test_of_two_classes_the_margin_is_the_difference(noise):
    logits, labels = noise(20, 2), torch.arange(20) % 2
    pairs = torch.stack([labels, 1 - labels], 1)
    assert torch.equal(Margin(Fixed())(logits, labels), LogitDifference(Fixed())(logits, pairs))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integer_kind_will_do(noise, dtype):
    logits, labels = noise(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    assert torch.equal(Margin(Fixed())(logits, labels.to(dtype)), Margin(Fixed())(logits, labels))
    pairs = torch.stack([labels, (labels + 1) % 3], 1)
    assert torch.equal(
        LogitDifference(Fixed())(logits, pairs.to(dtype)), LogitDifference(Fixed())(logits, pairs)
    )
    found = project(Margin(Fixed()), logits, labels=labels.to(dtype), tol=1e-12)
    assert found.converged.all()


def test_a_projection_on_the_margin_is_a_tie_with_the_best_rival(settled, noise):
    model = settled(
        nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 4)), dtype=torch.float64
    )
    points = noise(40, 5)
    labels = model(points).argmax(1)
    found = project(Margin(model), points, labels=labels, tol=1e-10)
    assert found.converged.float().mean() > 0.9
    top = model(found.points).topk(2, dim=1)
    tied = found.converged
    assert (top.values[:, 0] - top.values[:, 1])[tied].abs().max() <= 1e-10
    assert ((top.indices == labels.unsqueeze(1)).any(1) | ~tied).all()


def test_no_points_have_no_margins():
    assert Margin(Fixed())(LOGITS[:0], torch.zeros(0, dtype=torch.int64)).shape == (0,)


# Differences and components


@pytest.mark.parametrize(
    ("i", "j", "labels"),
    [
        (0, 2, None),
        (0, None, torch.tensor([2, 2, 2, 2])),
        (None, 2, torch.tensor([0, 0, 0, 0])),
        (None, None, torch.tensor([[0, 2]] * 4)),
    ],
)
def test_the_difference_is_of_the_two_logits_named(i, j, labels):
    assert LogitDifference(Fixed(), i, j)(LOGITS, labels).tolist() == [1.0, 1.0, -5.0, -7.0]


def test_pairs_may_differ_from_point_to_point():
    pairs = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 2]])
    assert LogitDifference(Fixed())(LOGITS, pairs).tolist() == [2.0, -1.0, 0.0, -7.0]
    assert LogitDifference(Fixed())(LOGITS, pairs.T.contiguous().T).tolist() == [
        2.0,
        -1.0,
        0.0,
        -7.0,
    ]


@pytest.mark.parametrize(("i", "j", "shape"), [(0, 1, None), (0, None, (0,)), (None, None, (0, 2))])
def test_no_points_have_no_differences(i, j, shape):
    labels = None if shape is None else torch.zeros(shape, dtype=torch.int64)
    assert LogitDifference(Fixed(), i, j)(LOGITS[:0], labels).shape == (0,)


def test_a_component_is_one_output():
    assert Component(Fixed(), 1)(LOGITS).tolist() == [1.0, 0.0, 5.0, 2.5]
    assert Component(Fixed(), -1)(LOGITS).tolist() == [2.0, -1.0, 4.0, 9.0]


@pytest.mark.parametrize(
    ("field", "labels"),
    [
        (Margin, torch.tensor([0, 1, 2, 0])),
        (LogitDifference, torch.tensor([[0, 1]] * 4)),
        (lambda m: Component(m, 2), None),
    ],
)
def test_fields_differentiate_into_points_and_parameters(settled, noise, field, labels):
    model = settled(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3)), dtype=torch.float64)
    made = field(model)
    points = noise(4, 3).requires_grad_()
    arguments = (points,) if labels is None else (points, labels)
    assert torch.autograd.gradcheck(made, arguments)
    assert {id(p) for p in made.parameters()} == {id(p) for p in model.parameters()}


# The classifier


def test_normalisation_is_a_number_or_one_a_channel(noise):
    images = noise(5, 3, 4, 4, dtype=torch.float32)
    mean, std = (0.5, 0.25, -1.0), (0.5, 2.0, 4.0)
    by_hand = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], 1).flatten(1)
    assert torch.equal(Classifier(nn.Flatten(), mean=mean, std=std)(images), by_hand)
    tensors = Classifier(nn.Flatten(), mean=torch.tensor(mean), std=torch.tensor(std))
    assert torch.equal(tensors(images), by_hand)
    one = Classifier(nn.Flatten(), mean=0.5, std=0.25)
    assert torch.equal(one(images), ((images - 0.5) / 0.25).flatten(1))
    assert torch.equal(Classifier(nn.Flatten(), mean=0.5)(images), (images - 0.5).flatten(1))
    assert torch.equal(Classifier(nn.Flatten(), std=0.5)(images), (images / 0.5).flatten(1))
    assert torch.equal(Classifier(nn.Flatten())(images), images.flatten(1))


def test_vectors_have_one_channel_an_entry(noise):
    points = noise(5, 3, dtype=torch.float32)
    found = Classifier(nn.Identity(), mean=(1.0, 2.0, 3.0))(points)
    assert torch.equal(found, points - torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(Classifier(nn.Identity(), mean=(1.0,))(points), points - 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_come_in_the_dtype_of_points_and_model(settled, noise, dtype):
    model = settled(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), dtype=dtype)
    classifier = Classifier(model, mean=(0.1, 0.2, 0.3), std=0.5)
    points = noise(2, 3, 2, 2, dtype=dtype)
    assert classifier(points).dtype == dtype
    shift = torch.tensor([0.1, 0.2, 0.3], dtype=dtype).view(3, 1, 1)
    assert torch.allclose(classifier(points), model((points - shift) / 0.5), rtol=1e-6, atol=1e-6)


def test_what_a_classifier_remembers():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    classifier = Classifier(model, bounds=(0.0, 255.0), mean=128.0, std=64.0, classes=["a", "b"])
    assert classifier.bounds == (0.0, 255.0)
    assert classifier.classes == ("a", "b")
    # Normalisation is no weight: a state dict fits with it and without.
    assert set(classifier.state_dict()) == {f"model.{name}" for name in model.state_dict()}
    assert classifier.eval().model.training is False


@pytest.mark.gpu
def test_normalisation_moves_with_the_model():
    classifier = Classifier(nn.Flatten(), mean=(0.1, 0.2, 0.3), std=0.5).to("cuda")
    assert classifier(torch.rand(2, 3, 2, 2, device="cuda")).device.type == "cuda"


# Messages


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (0.5, 0.5), (0.0, math.nan)])
def test_bounds_in_the_wrong_order_are_refused(bounds):
    with pytest.raises(
        ParameterError, match=r"Classifier: `bounds` must be \(low, high\) with low < high, got \("
    ):
        Classifier(nn.Flatten(), bounds=bounds)


@pytest.mark.parametrize("std", [0.0, -1.0, (1.0, 0.0), math.nan])
def test_a_deviation_that_is_not_positive_is_refused(std):
    with pytest.raises(ParameterError, match=r"Classifier: `std` must be positive, got"):
        Classifier(nn.Flatten(), std=std)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_normalisation_of_another_shape_is_refused(name):
    with pytest.raises(
        ShapeError, match=rf"Classifier: `{name}` must be a number or \(c,\), got \(3, 1, 1\)\."
    ):
        Classifier(nn.Flatten(), **{name: torch.ones(3, 1, 1)})
    with pytest.raises(
        ShapeError,
        match=rf"Classifier: `{name}` must have one number a channel, got 3 for points \(2, 1",
    ):
        Classifier(nn.Flatten(), **{name: (1.0, 1.0, 1.0)})(torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (nn.Flatten(0), r"\(12,\)"),
        (nn.Unflatten(1, (3, 1)), r"\(4, 3, 1\)"),
        (nn.Unflatten(1, (3, 1, 1)), r"\(4, 3, 1, 1\)"),
    ],
)
@pytest.mark.parametrize("field", ["Margin", "LogitDifference", "Component"])
def test_models_that_are_no_classifiers_are_refused(model, got, field):
    made = {"Margin": Margin(model), "LogitDifference": LogitDifference(model, 0, 1),
            "Component": Component(model, 0)}[field]  # fmt: skip
    arguments = (LOGITS, torch.zeros(4, dtype=torch.int64)) if field == "Margin" else (LOGITS,)
    with pytest.raises(
        FieldError, match=rf"{field}: `model` must map points \(4, 3\) to \(4, k\), got {got}\."
    ):
        made(*arguments)


@pytest.mark.messages
def test_a_model_that_returns_no_tensor_is_refused():
    class Pair(nn.Module):
        def forward(self, points):
            return points, points

    with pytest.raises(
        FieldError, match=r"Component: `model` must return a tensor, got tuple of 2\."
    ):
        Component(Pair(), 0)(LOGITS)


def test_a_single_output_is_a_binary_classifier():
    f, labels = torch.tensor([[2.0], [-3.0], [0.5]]), torch.tensor([1, 1, 0])
    for points in (f, f * 1e3):
        assert torch.equal(Margin(Fixed())(points, labels), points[:, 0] * torch.tensor([1, 1, -1]))
        assert torch.equal(LogitDifference(Fixed(), 1, 0)(points), points[:, 0])
        flat = Margin(lambda x: x[:, 0])(points, labels)
        assert torch.equal(flat, Margin(Fixed())(points, labels))


def test_a_margin_needs_labels():
    with pytest.raises(
        ParameterError, match=r"Margin: `labels` must be given, one class per point"
    ):
        project(Margin(Fixed()), LOGITS)


@pytest.mark.parametrize("bad", [-1, 3])
def test_labels_out_of_range_are_refused(bad):
    labels = torch.tensor([0, 1, bad, 2])
    text = rf"`labels` must lie in 0 to 2, got {bad} \(1 of 4 rows; first: 2\)\."
    with pytest.raises(ParameterError, match="Margin: " + text):
        Margin(Fixed())(LOGITS, labels)
    with pytest.raises(ParameterError, match="LogitDifference: " + text):
        LogitDifference(Fixed(), i=0)(LOGITS, labels)
    pairs = torch.stack([labels.clamp(0, 2), labels], 1)
    with pytest.raises(ParameterError, match="LogitDifference: " + text):
        LogitDifference(Fixed())(LOGITS, pairs)


@pytest.mark.messages
def test_labels_that_are_no_integers_are_refused():
    with pytest.raises(ShapeError, match=r"Margin: `labels` must be integers, got torch\.float32"):
        Margin(Fixed())(LOGITS, torch.zeros(4))
    with pytest.raises(ShapeError, match=r"LogitDifference: `labels` must be integers"):
        LogitDifference(Fixed())(LOGITS, torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("i", "j", "labels", "message"),
    [
        (None, None, None, r"must have the shape \(4, 2\), got None\."),
        (None, None, torch.zeros(4), r"must have the shape \(4, 2\), got \(4,\)\."),
        (0, None, torch.zeros(4, 2), r"must have the shape \(4,\), got \(4, 2\)\."),
        (None, 1, torch.zeros(3), r"must have the shape \(4,\), got \(3,\)\."),
    ],
)
def test_labels_of_another_shape_are_refused(i, j, labels, message):
    with pytest.raises(ShapeError, match="LogitDifference: `labels` " + message):
        LogitDifference(Fixed(), i, j)(LOGITS, None if labels is None else labels.long())


@pytest.mark.parametrize(("i", "j", "name"), [(3, 0, "i"), (0, -1, "j"), (7, 9, "i")])
def test_classes_out_of_range_are_refused(i, j, name):
    with pytest.raises(
        ParameterError,
        match=rf"LogitDifference: `{name}` must lie in 0 to 2, got {i if name == 'i' else j}",
    ):
        LogitDifference(Fixed(), i, j)(LOGITS)


@pytest.mark.parametrize("k", [3, -4])
def test_outputs_out_of_range_are_refused(k):
    with pytest.raises(ParameterError, match=rf"Component: `k` must lie in 0 to 2, got {k}\."):
        Component(Fixed(), k)(LOGITS)


# Bounds of a classifier inside another module


class Scaled(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return 3.0 * self.model(points)


class Shifted(Scaled):
    def forward(self, points: Tensor) -> Tensor:
        return self.model((points - 0.5) / 0.25)


BOX = (0.25, 0.75)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.Sequential, Scaled, lambda c: nn.Sequential(nn.Sequential(nn.Identity(), c)),
        lambda c: lambda x: 2.0 * c(x), nn.DataParallel,
        lambda c: nn.Sequential(c, nn.LogSoftmax(1)),
    ],
)  # fmt: skip
def test_bounds_of_a_classifier_that_sees_the_points_are_those_of_its_wrapper(wrap, settled):
    classifier = Classifier(settled(nn.Linear(3, 2)), bounds=BOX)
    model = wrap(classifier)
    assert bounds_of("test", model, torch.full((4, 3), 0.5)) == BOX
    assert not classifier._forward_pre_hooks


def test_bounds_reach_the_measurement(settled):
    model = settled(nn.Linear(3, 2))
    points = 0.25 + 0.5 * torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    inside = distance(nn.Sequential(Classifier(model, bounds=BOX)), points, effort="quick")
    said = distance(model, points, bounds=BOX, effort="quick")
    assert torch.equal(inside.distance, said.distance)
    with pytest.raises(ParameterError, match=r"must lie within the bounds 0\.25 to 0\.75"):
        distance(Scaled(Classifier(model, bounds=BOX)), points - 0.5)


@pytest.mark.parametrize(
    "build",
    [
        lambda c: Shifted(c),
        lambda c: Both(c, Classifier(c.model, bounds=(0.0, 1.0))),
    ],
    ids=["normalised", "two of them"],
)
def test_bounds_in_other_units_are_refused_unless_said(build, settled):
    model = build(Classifier(settled(nn.Linear(3, 2)), bounds=BOX))
    points = torch.full((2, 3), 0.5)
    with pytest.raises(ParameterError, match=r"distance: `bounds` must be given for a model that "
                       r"has a Classifier inside .*Say `bounds=\(low, high\)`"):  # fmt: skip
        distance(model, points)
    assert distance(model, points, bounds=(0.0, 1.0), effort="quick").distance.shape == (2,)


class Both(nn.Module):
    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, points: Tensor) -> Tensor:
        return self.one(points) + self.other(points)
