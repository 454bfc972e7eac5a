"""How many threads an audit takes, and how they wait."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from levelset.cli._threads import choose_threads, wait_passively
from levelset.networks import digits, resnet18_cifar


@pytest.fixture(autouse=True)
def _threads_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_small_networks_take_one_thread_and_large_ones_all() -> None:
    small = choose_threads(nn.Linear(64, 10), torch.rand(500, 64), None)
    assert torch.get_num_threads() == 1
    assert small.startswith("1 processor thread of 4, for 0.")
    torch.set_num_threads(4)
    large = choose_threads(resnet18_cifar(), torch.rand(20, 3, 32, 32), None)
    assert torch.get_num_threads() == 4
    assert large.startswith("4 processor threads of 4, for 1.33e+04 million operations a batch")


def test_the_user_decides() -> None:
    torch.set_num_threads(3)
    assert choose_threads(digits(), torch.rand(5, 1, 8, 8), 3).startswith("3 processor threads, as")
    assert torch.get_num_threads() == 3


def test_waiting_threads_sleep_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_command_line_chooses_before_torch_is_imported() -> None:
    program = (
        "import sys, os, levelset.cli as c; "
        "c._parse = lambda *a: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules); "
        "c.main(['audit', '--model', 'digits'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["PASSIVE", "False"]
