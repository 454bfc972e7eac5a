import json

import pytest
import torch
from torch import nn

from levelset.attacks import pgd
from levelset.boundary import CentralDifference, GaussianSmoothing, SoftplusSurrogate, detect
from levelset.datasets import load_model, read_images
from levelset.errors import DataError, ParameterError, ShapeError

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


def test_smooth_networks_go_without_the_surrogate(settled, setting):
    smooth = settled(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)))
    found = fit((smooth, *setting[1:]), scales=None)
    assert not any(isinstance(scale, SoftplusSurrogate) for scale in found.scales)
    rectified = fit(setting, scales=None)
    assert any(isinstance(scale, SoftplusSurrogate) for scale in rectified.scales)


@pytest.mark.messages
def test_bad_input_is_refused(setting, tmp_path):
    model, natural, perturbed = setting
    for changed, error, words in (
        ({"scores": ("depth",)}, ParameterError, "`scores` must be among curvature"),
        ({"scores": ()}, ParameterError, "`scores` must be among"),
        ({"scales": ()}, ParameterError, "`scales` must be CentralDifference"),
        ({"false_alarms": 1.0}, ParameterError, "`false_alarms` must lie between 0 and 1"),
        ({"originals": model(perturbed).argmax(1)}, DataError, "`originals` must differ"),
        ({"originals": torch.full((30,), 4)}, ParameterError, "`labels` must lie in 0 to 3"),
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


def test_a_damaged_file_is_refused(setting, tmp_path):
    fit(setting).save(tmp_path)
    words = json.loads((tmp_path / "detector.json").read_text())
    words["scales"][0]["kind"] = "Anything"
    (tmp_path / "detector.json").write_text(json.dumps(words))
    with pytest.raises(DataError, match=r"as Detector\.save wrote them"):
        detect.load(tmp_path, setting[0])


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
