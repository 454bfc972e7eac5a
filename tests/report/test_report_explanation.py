"""The page about what predictions are made of."""

import pytest
import torch
from torch import nn

from levelset import kernels, report
from levelset.errors import ShapeError
from levelset.training import record


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> kernels.PathKernel:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(12, 1, 4, 4, generator=generator)
    labels = torch.arange(12) % 3
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    folder = tmp_path_factory.mktemp("recording")
    recording = record(model, points, labels, steps=5, learning_rate=0.5, folder=folder)
    return kernels.PathKernel(recording, points, labels)


@pytest.fixture(scope="module")
def result(kernel) -> kernels.Explanation:
    return kernels.explain(kernel, kernel.points[:2] * 0.9, top=3)


def test_what_is_gathered_is_what_the_kernel_says(kernel, result):
    shares = kernel.contributions(result.points)
    chosen = shares.network_logits.argmax(1)
    assert torch.equal(result.prediction, chosen)
    own = shares.shares[torch.arange(2), chosen]
    assert torch.equal(result.shares_for, own.topk(3, 1).values)
    assert torch.equal(result.pushed_against, own.topk(3, 1, largest=False).indices)
    total = result.start[torch.arange(2), chosen] + result.toward + result.against
    assert torch.allclose(total, shares.network_logits[torch.arange(2), chosen], atol=1e-5)
    assert result.identity_error < 1e-5
    assert ((result.variance >= 0) & (result.variance <= 1)).all()
    assert len(kernels.explain(kernel, kernel.points[:0])) == 0


def test_a_page_has_a_section_an_input_that_the_first_leads_to(kernel, result, tmp_path):
    sections = report.explanation(
        result, kernel.points, kernel.labels, truth=torch.tensor([0, 0]), names=["17", "4"],
        classes=("cat", "dog", "<hen>"),
    )  # fmt: skip
    sections.append(report.mislabelled(kernels.suspects(kernel), kernel.points))
    assert [s.title for s in sections[1:]] == ["Input 17", "Input 4", "Suspect labels"]
    report.write(tmp_path / "page.html", sections, title="Why?")
    text = (tmp_path / "page.html").read_text()
    assert 'href="#input-17"' in text
    assert 'id="input-17"' in text
    # Its own picture twice, four lists of three an input, twelve suspects.
    assert text.count("<img src=") == 2 * 2 + 2 * 4 * 3 + 12
    assert "<hen>" not in text
    assert f"{float(result.shares_for[0, 0]):+.3f}" in text


def test_inputs_that_are_no_pictures_have_words_only(tmp_path):
    points, labels = torch.rand(6, 5), torch.arange(6) % 2
    model = nn.Linear(5, 2)
    recording = record(model, points, labels, steps=2, learning_rate=0.1, folder=tmp_path / "run")
    kernel = kernels.PathKernel(recording, points, labels)
    sections = report.explanation(kernels.explain(kernel, points[:1]), points, labels)
    report.write(tmp_path / "page.html", sections, title="Why?")
    assert "<img" not in (tmp_path / "page.html").read_text()


def test_names_points_and_labels_that_do_not_fit_are_refused_by_name(kernel, result):
    points, labels = kernel.points, torch.arange(12) % 3
    with pytest.raises(ShapeError, match=r"`names` must hold one name an input \(2\), got 1"):
        report.explanation(result, points, labels, names=["one"])
    with pytest.raises(ShapeError, match=r"`labels` must have one row per point \(12\)"):
        report.explanation(result, points, labels[:3])
    suspects = kernels.suspects(kernel)
    with pytest.raises(ShapeError, match="`points` must be the training points of the result"):
        report.mislabelled(suspects, points[:1])


def test_a_label_below_0_is_written_as_it_is(kernel, result):
    truth = torch.tensor([-1, -1])
    page = report.explanation(result, kernel.points, torch.arange(12) % 3, truth=truth)
    assert "wrong: it is -1" in page[0].content.markup
