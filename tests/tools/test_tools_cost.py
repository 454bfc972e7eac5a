"""Operations counted by hand, for layers that are counted and layers that are not."""

import subprocess
import sys

import torch
from torch import nn

from levelset._tools.cost import operations


def test_matrix_products_and_convolutions_are_counted_twice_a_weight_and_place() -> None:
    assert operations(nn.Linear(7, 5), torch.rand(9, 7)) == 2 * 7 * 5 + 2 * 5  # parameters: 40
    convolution = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    assert operations(convolution, torch.rand(2, 3, 8, 8)) == 2 * 3 * 4 * 9 * 64


def test_layers_that_are_not_counted_cost_their_parameters() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(3, 5, batch_first=True)

        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return self.cell(points)[0][:, -1]

    model = Recurrent()
    assert operations(model, torch.rand(1, 6, 3)) >= 2 * sum(p.numel() for p in model.parameters())


def test_a_model_that_fails_or_writes_into_its_input_does_no_harm() -> None:
    points = torch.full((2, 3), -1.0)
    assert operations(nn.ReLU(inplace=True), points) == 1
    assert torch.equal(points, torch.full((2, 3), -1.0))
    assert operations(nn.Linear(9, 1), points) == 20


def test_counting_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from levelset._tools.cost import operations; "
        "operations(torch.nn.Linear(3, 2), torch.rand(1, 3)); "
        "print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
