"""The result type: cutting, printing, fingerprints."""

import pickle
import subprocess
import sys

import pytest
import torch

from levelset import datasets
from levelset.datasets import Images


@pytest.fixture
def images():
    points = torch.arange(24.0).view(6, 1, 2, 2) / 24
    return Images(points, torch.tensor([0, 1, 2, 0, 1, 2]), ("a", "b", "c"), "toy")


def test_the_public_names_are_sorted_and_there():
    assert datasets.__all__ == sorted(datasets.__all__)
    assert all(hasattr(datasets, name) for name in datasets.__all__)


def test_a_cut_keeps_points_and_labels_together(images):
    for rows in (images.labels == 1, slice(1, None, 3), [1, 4]):
        cut = images[rows]
        assert len(cut) == 2
        assert torch.equal(cut.points, images.points[[1, 4]])
        assert cut.labels.tolist() == [1, 1]
        assert (cut.classes, cut.name, cut.bounds) == (images.classes, "toy", (0.0, 1.0))


def test_it_prints_on_one_line(images):
    assert repr(images) == "Images(name='toy', points=(6, 1, 2, 2), classes=3)"
    assert images.summary() == {"points": 6, "classes": 3}


def test_it_pickles(images):
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again.points, images.points)
    assert again.fingerprint() == images.fingerprint()


def test_the_fingerprint_is_of_the_content(images):
    copy = Images(
        images.points.clone().transpose(2, 3).contiguous().transpose(2, 3),
        images.labels.clone(),
        images.classes,
        "another name",
    )
    assert copy.fingerprint() == images.fingerprint()
    # pinned: a run on disk of an older version must still be recognised
    assert images.fingerprint() == "e9e939c27db58f4d"


def test_the_fingerprint_sees_every_part(images):
    nudged = images.points.clone()
    nudged[5, 0, 1, 1] = torch.nextafter(nudged[5, 0, 1, 1], torch.tensor(2.0))
    relabelled = images.labels.clone()
    relabelled[0] = 1
    others = [
        Images(nudged, images.labels, images.classes, "toy"),
        Images(images.points, relabelled, images.classes, "toy"),
        Images(images.points, images.labels, ("a", "b", "d"), "toy"),
        Images(images.points.view(6, 4), images.labels, images.classes, "toy"),
        images[[1, 0, 2, 3, 4, 5]],
        images[:5],
        images[:0],
    ]
    prints = {other.fingerprint() for other in (images, *others)}
    assert len(prints) == 8
    assert all(len(p) == 16 and int(p, 16) >= 0 for p in prints)


@pytest.mark.slow
def test_the_import_brings_no_heavy_package():
    code = (
        "import sys, levelset.datasets; "
        "assert not {'sklearn', 'pyarrow', 'rich', 'tyro', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
