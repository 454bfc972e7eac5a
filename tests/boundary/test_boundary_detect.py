import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from levelset.attacks import pgd
from levelset.boundary import CentralDifference, GaussianSmoothing, detect
from levelset.datasets import load_model, read_images
from levelset.errors import DataError, FieldError, ParameterError, ShapeError

SCALES = (CentralDifference(0.3), GaussianSmoothing(0.5, 20))


@pytest.fixture
def setting(settled):
    model = settled(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)))
    points = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    return model, points[:30], points[30:] + 0.5


def fit(setting, **options):
    options = {"scales": SCALES, "draws": 50, **options}
    return detect.fit(*setting, generator=torch.Generator().manual_seed(1), **options)


def test_a_detector_is_saved_and_loaded_to_the_bit(setting, tmp_path):
    detector = fit(setting, scores=("curvature", "total_curvature"))
    detector.save(tmp_path / "kept")
    again = detect.load(tmp_path / "kept", setting[0])
    before, after = detector(setting[1]), again(setting[1])
    assert torch.equal(before.score, after.score)
    assert torch.equal(before.class_scores, after.class_scores)
    assert torch.equal(before.flagged, after.flagged)
    assert again.roc.area == detector.roc.area
    assert again.scales == SCALES
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [
        "detector.json",
        "detector.safetensors",
    ]


def test_its_answers_do_not_depend_on_the_batch_and_leave_all_as_found(setting, left_as_found):
    detector = fit(setting)
    model, natural, _ = setting
    with left_as_found(model, natural):
        whole, small = detector(natural), detector(natural, batch_size=3)
    torch.testing.assert_close(whole.score, small.score, rtol=1e-3, atol=1e-3)
    answers = model(natural).argmax(1)
    assert (whole.original_class != answers).all()
    assert (whole.class_scores[torch.arange(30), answers] == -torch.inf).all()
    assert (whole.rank(whole.original_class) == 0).all()
    assert (whole.rank(answers) == 3).all()
    assert whole.summary()["flagged"] == int(whole.flagged.sum())
    assert len(detector(natural[:0])) == 0


def test_the_rule_of_the_paper_is_the_smallest_mean_curvature(setting):
    detector = fit(setting, scores=("total_curvature",), scales=(CentralDifference(0.3),))
    from levelset.boundary import class_curvatures

    model, natural, _ = setting
    curvatures = class_curvatures(model, natural, smoothing=CentralDifference(0.3))
    found = detector(natural)
    assert torch.equal(found.original_class, curvatures.nan_to_num(torch.inf).argmin(1))
    order = curvatures.nansum(1).argsort()
    assert torch.equal(found.score[order].sort(descending=bool(detector.weights < 0)).values,
                       found.score[order])  # fmt: skip


def test_false_alarms_are_held_to_a_rank(setting):
    detector = fit(setting, false_alarms=0.1)
    assert float(detector(setting[1]).flagged.float().mean()) <= 0.1 + 1e-6


def test_what_is_told_is_told_apart(setting):
    model, natural, _ = setting
    detector = fit((model, natural, natural + 3.0))
    assert detector.roc.area > 0.9
    assert float(detector(natural + 3.0).flagged.float().mean()) > 0.8
    assert detector.evaluate(natural, natural + 3.0, draws=10).area == detector.roc.area


@pytest.mark.slow
def test_distance_and_persistence_are_scores_too(setting):
    detector = fit(setting, scores=("distance", "persistence", "curvature"))
    assert len(detector.weights) == 2 + 3 * len(SCALES)
    assert detector(setting[1]).score.isfinite().all()


def test_the_default_scales_suit_networks_without_relu_too(settled, setting):
    smooth = settled(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)))
    found = fit((smooth, *(part[:4] for part in setting[1:])), scales=None)
    assert found.scales == (
        CentralDifference(0.1),
        CentralDifference(0.03),
        GaussianSmoothing(1.0, 200),
    )
    assert found(setting[1][:2]).score.isfinite().all()


@pytest.mark.messages
def test_bad_input_is_refused(setting, tmp_path):
    model, natural, perturbed = setting
    for changed, error, words in (
        (
            {"scores": ("depth",)},
            ParameterError,
            "`scores` must be one of curvature, .* or a sequence",
        ),
        ({"scores": ()}, ParameterError, "`scores` must be among"),
        ({"scores": "depth"}, ParameterError, "`scores` must be one of .* got 'depth'"),
        ({"scales": ()}, ParameterError, "`scales` must hold at least one smoothing, got none"),
        ({"scales": (0.1,)}, ParameterError, "`scales` must be one of CentralDifference"),
        ({"draws": 0}, ParameterError, "`draws` must be an integer of at least 1, got 0"),
        ({"false_alarms": 1.0}, ParameterError, "`false_alarms` must lie between 0 and 1"),
        ({"originals": model(perturbed).argmax(1)}, DataError, "`originals` must differ"),
        ({"originals": torch.full((30,), 4)}, ParameterError, "`originals` must lie in 0 to 3"),
    ):
        with pytest.raises(error, match=words):
            fit(setting, **changed)
    with pytest.raises(DataError, match="`natural` must hold at least two inputs, got 1"):
        fit((model, natural[:1], perturbed))
    with pytest.raises(ShapeError, match="`perturbed` must have inputs of the shape"):
        fit((model, natural, torch.rand(4, 7)))
    with pytest.raises(DataError, match="`perturbed` must be finite"):
        fit((model, natural, perturbed / 0.0))
    with pytest.raises(DataError, match=r"detect.load: `folder` must hold detector.safetensors"):
        detect.load(tmp_path, model)


DAMAGES = {
    "a scale of no known kind": lambda words, tensors: words["scales"][0].update(kind="Anything"),
    "a scale that is gone": lambda words, tensors: words["scales"].pop(),
    "a score of no known name": lambda words, tensors: words.update(scores=["depth"]),
    "no threshold": lambda words, tensors: words["numbers"].pop("threshold"),
    "no area": lambda words, tensors: words["numbers"].pop("area"),
    "no shape": lambda words, tensors: words.pop("shape"),
    "an empty shape": lambda words, tensors: words.update(shape=[]),
    "no thresholds of the curve": lambda words, tensors: tensors.pop("thresholds"),
    "a centre of another length": lambda words, tensors: tensors.update(centre=torch.zeros(2)),
    "the format before": lambda words, tensors: words.pop("format"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(setting, tmp_path, damage):
    fit(setting).save(tmp_path)
    words = json.loads((tmp_path / "detector.json").read_text())
    tensors = load_file(tmp_path / "detector.safetensors")
    DAMAGES[damage](words, tensors)
    (tmp_path / "detector.json").write_text(json.dumps(words))
    save_file(tensors, tmp_path / "detector.safetensors")
    with pytest.raises(DataError, match=r"as Detector\.save wrote them"):
        detect.load(tmp_path, setting[0])


def test_a_file_that_is_no_dictionary_is_refused(setting, tmp_path):
    fit(setting).save(tmp_path)
    (tmp_path / "detector.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"as Detector\.save wrote them"):
        detect.load(tmp_path, setting[0])


@pytest.mark.messages
def test_another_model_or_other_points_are_refused(setting, tmp_path):
    fit(setting).save(tmp_path)
    fewer = detect.load(tmp_path, nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(FieldError, match=r"must return the 4 logits .* fitted on, got 3"):
        fewer(setting[1])
    with pytest.raises(ShapeError, match=r"must have the shape \(n, 6\) .* got \(5, 2, 3\)"):
        fit(setting)(torch.rand(5, 2, 3))


def test_an_answer_does_not_depend_on_the_place_in_the_batch(setting):
    detector = fit((setting[0], *(part[:6] for part in setting[1:])),
                   scores=("curvature", "persistence"))  # fmt: skip
    points = setting[1][:8]
    forth, back = detector(points), detector(points.flip(0))
    assert torch.equal(forth.original_class, back.original_class.flip(0))
    torch.testing.assert_close(forth.score, back.score.flip(0), rtol=1e-3, atol=1e-3)


def test_one_scale_and_one_score_need_no_sequence(setting):
    found = fit(setting, scores="total_curvature", scales=SCALES[1])
    assert found.scores == ("total_curvature",)
    assert found.scales == SCALES[1:]


@pytest.mark.slow
def test_on_digits_perturbed_inputs_are_told_on_other_data():
    model, data = load_model("digits"), read_images("digits")
    points = data.points[:240]
    answers = model(points).argmax(1)
    attacked = pgd(model, points[120:], answers[120:], radius=0.2, steps=10, step_size=0.03,
                   keep="last", generator=torch.Generator().manual_seed(0))  # fmt: skip
    moved = attacked.points[attacked.success]
    before = answers[120:][attacked.success]
    half = len(moved) // 2
    detector = detect.fit(
        model, points[:60], moved[:half], originals=before[:half],
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    natural, perturbed = detector(points[60:120]), detector(moved[half:])
    right = (~natural.flagged).double().mean() + perturbed.flagged.double().mean()
    assert float(right) / 2 > 0.55  # these cross by far, and 8 x 8 digits bend little
