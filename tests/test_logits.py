"""What a model returns: one output or several, logits or probabilities, and how it is said."""

import copy
import math
import pickle
import warnings
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from levelset import Classifier, LogitDifference, Margin
from levelset._logits import AsLogits, Reader, as_logits
from levelset.attacks import pgd
from levelset.boundary import class_frequencies, distance, persistence
from levelset.datasets import load_model
from levelset.errors import FieldError, LevelSetWarning, ParameterError

UNBOUNDED = (-math.inf, math.inf)
# The persistence of a half-space at distance 1 for gamma 0.7: 1 / quantile(0.7).
QUANTILE = 0.5244005127080407


class Two(nn.Module):
    """The logits (0, f) of a model with one output f."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        f = self.model(points)
        return torch.cat([torch.zeros_like(f), f], dim=1)


class Own(nn.Module):
    """A sigmoid that torch has no name for, `(n,)`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return 1.0 / (1.0 + torch.exp(-self.model(points)[:, 0]))


class OwnSoftmax(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        e = torch.exp(self.model(points))
        return e / e.sum(1, keepdim=True)


FORMS = {
    "(n, 1) logits": (lambda f: f, None),
    "(n,) logits": (lambda f: nn.Sequential(f, nn.Flatten(0)), None),
    "(0, f)": (Two, None),
    "sigmoid": (lambda f: nn.Sequential(f, nn.Sigmoid()), "probability"),
    "(n,) sigmoid": (lambda f: nn.Sequential(f, nn.Sigmoid(), nn.Flatten(0)), "probability"),
    "sigmoid by hand": (Own, "probability"),
    "scripted sigmoid": (lambda f: torch.jit.script(nn.Sequential(f, nn.Sigmoid())), "probability"),
    "softmax": (lambda f: nn.Sequential(Two(f), nn.Softmax(dim=1)), "probabilities"),
    "softmax by hand": (lambda f: OwnSoftmax(Two(f)), "probabilities"),
    "log softmax": (lambda f: nn.Sequential(Two(f), nn.LogSoftmax(dim=-1)), None),
}
needs_script = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def linear(dtype: torch.dtype) -> nn.Linear:
    generator = torch.Generator().manual_seed(4)
    f = nn.Linear(6, 1, dtype=dtype)
    f.weight.data = torch.randn(1, 6, generator=generator, dtype=torch.float64).to(dtype)
    f.bias.data.fill_(0.25)
    return f


def inputs(dtype: torch.dtype, n: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, 6, generator=generator, dtype=torch.float64).to(dtype)


def quiet(model: nn.Module, kind: str | None) -> nn.Module:
    return model if kind is None else Classifier(model, outputs=kind, bounds=UNBOUNDED)


@needs_script
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_binary_model_is_as_far_as_its_hyperplane(form, dtype):
    build, kind = FORMS[form]
    f, points = linear(dtype), inputs(dtype)
    model = quiet(build(f), kind)
    exact = (f(points).squeeze(1) / f.weight.norm()).abs().detach()
    found = distance(model, points, bounds=UNBOUNDED, effort="quick")
    torch.testing.assert_close(found.distance, exact, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.classes, (f(points).squeeze(1) <= 0).long())
    margin = Margin(model)(points, torch.ones(len(points), dtype=torch.long))
    torch.testing.assert_close(margin, f(points).squeeze(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(LogitDifference(model, 1, 0)(points), margin)


@needs_script
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_binary_model_persists_alike(form):
    build, kind = FORMS[form]
    f, points = linear(torch.float64), inputs(torch.float64, 4)
    generator = torch.Generator().manual_seed(1)
    found = persistence(quiet(build(f), kind), points, generator=generator)
    exact = (f(points).squeeze(1) / f.weight.norm()).abs().detach() / QUANTILE
    assert ((found.sigma / exact - 1.0).abs() < 0.1).all()
    assert torch.equal(found.classes, (f(points).squeeze(1) > 0).long())
    plain = persistence(Two(f), points, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found.sigma, plain.sigma, rtol=1e-9, atol=0.0)


@needs_script
@pytest.mark.parametrize("form", [name for name, (_, kind) in FORMS.items() if kind])
def test_probabilities_are_detected_and_said(form):
    build, kind = FORMS[form]
    points = inputs(torch.float32)
    with pytest.warns(LevelSetWarning, match=rf"distance: `model` returns .* `Classifier\(model, "
                      rf"outputs='{kind}'\)` to say so"):  # fmt: skip
        found = distance(build(linear(torch.float32)), points, bounds=UNBOUNDED)
    said = distance(quiet(build(linear(torch.float32)), kind), points, bounds=UNBOUNDED)
    assert torch.equal(found.distance, said.distance)


@pytest.mark.parametrize("form", ["(n, 1) logits", "(n,) logits", "(0, f)", "log softmax"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_logits_are_taken_as_they_are_without_a_word(form, scale):
    f = linear(torch.float64)
    f.weight.data *= scale
    points = inputs(torch.float64)
    logits = as_logits("test", FORMS[form][0](f), points)(points)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], f(points).squeeze(1))


def test_logits_that_happen_to_look_like_probabilities_are_not_taken_for_them():
    points = torch.tensor([[0.7, 0.3], [1.0, 0.0]])  # the identity on points of a simplex
    model = nn.Identity()
    assert as_logits("test", model, points) is model
    single = torch.tensor([[0.3], [0.9]])
    assert torch.equal(as_logits("test", model, single)(single)[:, 1], single[:, 0])


def test_what_a_model_returns_does_not_depend_on_which_points_come_first(noise):
    model, points = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), noise(40, 3, dtype=torch.float32)
    for rows in (points[:1], points[7:9], 100.0 * points):
        with pytest.warns(LevelSetWarning, match="one probability a point"):
            assert as_logits("test", model, rows).reader.outputs == "probability"


def test_a_saturated_sigmoid_or_softmax_keeps_its_gradient():
    f = linear(torch.float32)
    f.weight.data *= 100.0
    points = inputs(torch.float32)
    for form in ("sigmoid", "softmax", "(n,) sigmoid"):
        build, kind = FORMS[form]
        model = build(f)
        assert (model(points).frac() == 0).any()  # certain to the last bit
        found = distance(quiet(model, kind), points, bounds=UNBOUNDED, effort="quick")
        exact = (f(points).squeeze(1) / f.weight.norm()).abs().detach()
        torch.testing.assert_close(found.distance, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_probabilities_have_finite_logits_and_gradients(dtype):
    p = torch.tensor([0.0, 1e-30, 0.5, 1.0 - 1e-6, 1.0], dtype=dtype).requires_grad_()
    logits = Reader("probability")("test", lambda x: x[:, 0], p.unsqueeze(1))
    assert logits.isfinite().all()
    assert (logits[:, 1].diff() > 0).all()
    assert logits[2].tolist() == [0.0, 0.0]
    exact = (p.double() / (1 - p.double())).log()[1:4].to(dtype)
    torch.testing.assert_close(logits[1:4, 1], exact)
    (gradient,) = torch.autograd.grad(logits.sum(), p)
    assert gradient.isfinite().all()
    rows = torch.stack([p, 1 - p], 1).detach().requires_grad_()
    logits = Reader("probabilities")("test", lambda x: x, rows)
    assert logits.isfinite().all()
    assert torch.autograd.grad(logits.sum(), rows)[0].isfinite().all()


@pytest.mark.slow
def test_softmax_of_a_network_is_measured_as_the_network(digits):
    model, points = digits
    labels = model(points).argmax(1)
    generator = torch.Generator().manual_seed(0)
    for outer in (nn.Softmax(dim=1), OwnSoftmax(nn.Identity())):
        soft = Classifier(nn.Sequential(model, outer), outputs="probabilities")
        for norm in (2.0, math.inf):
            f, p = (distance(m, points, norm=norm, effort="quick") for m in (model, soft))
            assert ((p.distance / f.distance - 1.0).abs() < 0.02).all()
        f, p = (pgd(m, points, labels, radius=0.1, generator=generator.manual_seed(0))
                for m in (model, soft))  # fmt: skip
        assert (f.success == p.success).double().mean() >= 0.98
        f, p = (persistence(m, points[:4], generator=generator.manual_seed(0))
                for m in (model, soft))  # fmt: skip
        torch.testing.assert_close(p.sigma, f.sigma, rtol=0.02, atol=0.0)


@pytest.fixture
def digits() -> tuple[nn.Module, Tensor]:
    from levelset.datasets import read_images

    return load_model("digits"), read_images("digits").points[:24]


def test_masked_classes_and_k_sigmoids_are_classifiers(noise):
    points = noise(10, 4)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    plain = distance(lambda x: x @ weight, points, bounds=UNBOUNDED)
    masked = distance(
        lambda x: torch.cat([x @ weight, x.new_full((len(x), 1), -50.0)], 1), points,
        bounds=UNBOUNDED,
    )  # fmt: skip
    torch.testing.assert_close(masked.distance, plain.distance, rtol=1e-6, atol=0.0)
    with pytest.warns(LevelSetWarning, match="its last function is a sigmoid or a softmax"):
        many = distance(lambda x: torch.sigmoid(x @ weight), points, bounds=UNBOUNDED)
    torch.testing.assert_close(many.distance, plain.distance, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize(
    "activation",
    [
        torch.sigmoid, Tensor.sigmoid, functional.sigmoid, torch.special.expit, torch.sigmoid_,
        Tensor.sigmoid_, nn.Sigmoid(), torch.ops.aten.sigmoid.default,
    ],
)  # fmt: skip
def test_every_sigmoid_of_torch_is_known(activation, noise):
    points = 60.0 * noise(6, 3, dtype=torch.float32)
    reader = Reader("probability")
    for _ in range(2):
        logits = reader("test", lambda x: activation(x[:, :1] * 1.0), points)
        assert torch.equal(logits[:, 1], points[:, 0])


@pytest.mark.parametrize(
    "activation",
    [
        partial(torch.softmax, dim=1), partial(Tensor.softmax, dim=-1), nn.Softmax(dim=1),
        partial(functional.softmax, dim=1), partial(torch.special.softmax, dim=1),
        lambda x: x.softmax(1), lambda x: x[:, :, None, None].softmax(1).flatten(1),
        lambda x: torch.ops.aten.softmax.int(x, 1),
    ],
)  # fmt: skip
def test_every_softmax_of_torch_is_known(activation, noise):
    points = 300.0 * noise(6, 3, dtype=torch.float32)
    reader = Reader("probabilities")
    for _ in range(2):
        assert torch.equal(reader("test", activation, points), points)


@pytest.mark.parametrize(
    "model",
    [
        lambda x: torch.softmax(x, dim=0),  # over the rows
        lambda x: torch.sigmoid(x) * 2.0,
        lambda x: torch.sigmoid(x).flip(1),
        lambda x: torch.sigmoid(x) + x,
    ],
)
def test_an_activation_that_is_not_the_last_is_left_in_place(model, noise):
    points = noise(6, 3, dtype=torch.float32)
    assert torch.equal(Reader("logits")("test", model, points), model(points))
    assert torch.equal(as_logits("test", model, points)(points), model(points))


def test_one_column_of_a_softmax_is_a_probability(noise):
    points = noise(6, 2)
    with pytest.warns(LevelSetWarning, match="one probability a point"):
        model = as_logits("test", lambda x: x.softmax(1)[:, 1], points)
    torch.testing.assert_close(model(points)[:, 1], points[:, 1] - points[:, 0])


def test_the_class_of_a_tie_is_the_first():
    for model in (
        lambda x: x[:, 0],
        Classifier(lambda x: x[:, 0].sigmoid(), outputs="probability"),
    ):
        read = as_logits("test", model, torch.tensor([[5.0], [0.0]]))
        assert read(torch.tensor([[0.0], [1.0], [-1.0]])).argmax(1).tolist() == [0, 1, 0]


def test_shares_of_a_binary_model_have_two_columns():
    shares = class_frequencies(
        lambda x: x[:, 0] - 9.0, torch.zeros(2), torch.tensor([0.0, 0.1]), draws=10
    )
    assert shares.tolist() == [[1.0, 0.0], [1.0, 0.0]]


# What is said, and refused


@pytest.mark.parametrize(
    ("outputs", "returned", "message"),
    [
        ("logit", torch.rand(3, 2), r"`outputs` 'logit' means \(n,\) or \(n, 1\), got \(3, 2\)"),
        ("probability", torch.rand(3, 2), r"'probability' means \(n,\) or \(n, 1\), got"),
        ("logits", torch.rand(3, 1), r"'logits' means \(n, k\) with k of at least 2, got \(3, 1\)"),
        ("probabilities", torch.rand(3), r"'probabilities' means \(n, k\) with k of at least 2"),
        ("probability", torch.full((3,), 1.5), r"numbers from 0 to 1, got 1\.5 to 1\.5\. Say `outp"
         r"uts='logit'`"),
        ("probabilities", torch.full((3, 2), -1.0), r"from 0 to 1, got -1 to -1\..*'logits'"),
        ("logits", torch.ones(3, 2, dtype=torch.long), r"must return floating-point logits, got"),
    ],
)  # fmt: skip
def test_outputs_that_are_not_what_is_said_are_refused(outputs, returned, message):
    with pytest.raises(FieldError, match="distance: .*" + message):
        distance(Classifier(lambda x: returned[: len(x)], outputs=outputs), torch.rand(3, 4))


def test_unknown_outputs_are_refused():
    with pytest.raises(ParameterError, match="`outputs` must be one of logits, logit, probab"):
        Classifier(nn.Linear(2, 2), outputs="scores")


def test_one_number_between_0_and_1_that_cannot_be_tried_elsewhere_is_refused():
    def narrow(x: Tensor) -> Tensor:
        if x.abs().max() > 1.0:
            raise ValueError("outside of its domain")
        return x[:, 0].square()

    points = torch.tensor([[0.5], [0.25]])
    message = (
        r"may be a logit or a probability: all 2 lie .* `Classifier\(model, outputs='logit'\)`"
    )
    with pytest.raises(FieldError, match=message):
        distance(narrow, points)
    assert Reader("logit")("test", narrow, points)[:, 1].tolist() == [0.25, 0.0625]


def test_what_is_said_holds_against_what_is_seen(noise):
    f = linear(torch.float64)
    points = inputs(torch.float64)
    model = nn.Sequential(f, nn.Sigmoid())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits = Classifier(model, outputs="logit")(points)
    assert torch.equal(logits[:, 1], model(points).squeeze(1))


# Objects, labels and copies


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: {"logits": z, "loss": z.sum()},
        lambda z: SimpleNamespace(logits=z, hidden=z[:, :1]),
        lambda z: (z,),
        lambda z: (None, z),
        lambda z: (z.sum(), z, torch.zeros(len(z), 3, 4)),
        lambda z: {"scores": z},
    ],
)
def test_logits_are_taken_from_what_holds_them(wrap):
    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = inputs(torch.float64)
    plain = distance(lambda x: x @ weight, points, bounds=UNBOUNDED)
    found = distance(lambda x: wrap(x @ weight), points, bounds=UNBOUNDED)
    assert torch.equal(found.distance, plain.distance)
    kept = [persistence(m, points[:2], generator=torch.Generator().manual_seed(0)).sigma
            for m in (lambda x: x @ weight, lambda x: wrap(x @ weight))]  # fmt: skip
    assert torch.equal(*kept)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda z: (z, z), r"got tuple of 2\. Say which one, as in `lambda x: model\(x\)\[0\]`"),
        (
            lambda z: {"a": z, "b": z},
            r"got dict with the keys a, b\. Say which one: `lambda x: mod",
        ),
        (lambda z: None, r"must return a tensor, got NoneType\."),
        (lambda z: nn.Linear(2, 2), r"got Linear, a module\. Call it first"),
    ],
)
@pytest.mark.parametrize("function", [distance, partial(persistence, tolerance=0.5)])
def test_outputs_of_which_none_is_the_logits_are_refused(function, wrap, message):
    with pytest.raises(FieldError, match=message):
        function(lambda x: wrap(x), torch.rand(3, 4))


def test_labels_are_refused_but_where_they_will_do():
    points = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FieldError, match=r"must return floating-point logits \(n, k\), got \(3,\)"):
        distance(lambda x: x.argmax(1), points, bounds=UNBOUNDED)
    with pytest.raises(FieldError, match=r"Margin: .*floating-point logits, got torch\.int64"):
        Margin(lambda x: x.argmax(1))(points, torch.zeros(5, dtype=torch.long))
    assert torch.equal(persistence(lambda x: x.argmax(1), points).classes, points.argmax(1))


def test_a_plain_model_is_handed_on_as_it_is():
    points = torch.rand(5, 3)
    for model in (nn.Linear(3, 2), lambda x: x[:, :2] - 3.0):
        assert as_logits("test", model, points) is model
    wrapped = AsLogits(nn.Linear(3, 1))
    assert as_logits("test", wrapped, points) is wrapped
    assert as_logits("test", wrapped, points[:0]) is wrapped


def test_what_a_field_has_settled_survives_copies_and_leaves_its_state_alone():
    points = torch.rand(5, 3)
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
    field = Margin(Classifier(model, outputs="probability"))
    names = set(field.state_dict())
    values = field(points, torch.ones(5, dtype=torch.long))
    for copied in (copy.deepcopy(field), pickle.loads(pickle.dumps(field))):
        assert torch.equal(copied(points, torch.ones(5, dtype=torch.long)), values)
        assert set(copied.state_dict()) == names == {f"model.model.{n}" for n in model.state_dict()}


def test_a_margin_in_training_mode_makes_no_extra_passes():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model.train()
    Margin(model)(torch.rand(5, 3), torch.zeros(5, dtype=torch.long))
    assert int(model[1].num_batches_tracked) == 1
