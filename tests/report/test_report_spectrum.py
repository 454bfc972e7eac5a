"""The section about singular values says how many lie outside of the band of noise."""

import torch

from levelset import report
from levelset.boundary import dimension
from levelset.shapes import Orthant


def test_the_degenerate_directions_of_an_orthant_are_marked():
    starts = torch.randn(800, 20, generator=torch.Generator().manual_seed(0))
    spectrum = dimension(Orthant(k=2, d=20).project(starts))
    section = report.spectrum(spectrum, name="a corner", text="Of an orthant.")
    assert section.title == "Singular values near a corner"
    assert section.text.startswith("Of an orthant.")
    assert "Of 20 singular values 2 lie below the band of noise, and 0 above." in section.text
    noise, samples, outside = section.content.data
    assert min(noise.y) == spectrum.low
    assert samples.y == tuple(spectrum.values.double().tolist())
    assert outside.x == (19, 20)


def test_without_a_bulk_the_band_ends_within_the_picture():
    flat = torch.zeros(30, 4)
    flat[:, 0] = torch.arange(30.0)
    noise = report.spectrum(dimension(flat)).content.data[0]
    assert max(noise.y) < float("inf")
