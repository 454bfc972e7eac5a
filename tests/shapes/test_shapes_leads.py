"""The largest of linear functions along segments, against dense samples."""

import torch

from levelset.shapes._leads import leads


def test_leads_are_those_of_dense_samples():
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 200, 9, generator=generator, dtype=torch.float64)
    along = leads(start, end)
    share = torch.linspace(0, 1, 1_001, dtype=torch.float64).reshape(1, -1, 1)
    dense = (start.unsqueeze(1) + share * (end - start).unsqueeze(1)).argmax(2)
    assert torch.equal(along.first, dense[:, 0])
    assert torch.equal(along.last, dense[:, -1])
    for row in range(0, 200, 7):
        mine = along.rows == row
        marks = torch.tensor([0, *along.shares[mine].tolist(), 1])
        leaders = torch.cat([along.first[row : row + 1], along.after[mine]])
        middles = ((marks[1:] + marks[:-1]) / 2 * 1_000).round().long()
        wide = marks.diff() > 2e-3
        assert torch.equal(dense[row, middles][wide], leaders[wide])


def test_equals_at_the_start_and_parallel_functions():
    start = torch.tensor([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0]])
    end = torch.tensor([[1.0, 2.0, 0.0], [3.0, 3.0, 2.0]])
    along = leads(start, end)
    assert along.first.tolist() == [1, 0]
    assert len(along.rows) == 0
