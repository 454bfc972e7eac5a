"""TorchScript of ordinary networks; what is refused is in `test_datasets_hostile.py`."""

import warnings

import pytest
import torch
from torch import nn
from zoo import zoo

from levelset.datasets._exported import load_torchscript
from levelset.errors import DataError


def saved(module, file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(module, file)
        return torch.jit.load(file)


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(model)


NETWORKS = zoo()


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("branches", "weight norm")])
def test_ordinary_networks_compute_the_same(tmp_path, name, how):
    model, points, _ = NETWORKS[name]
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = (
                torch.jit.script(model)
                if how == "script"
                else torch.jit.trace(model, points, check_trace=False, strict=False)
            )
        except Exception as error:
            pytest.skip(f"PyTorch cannot {how} it: {error!s:.60}")
    expected = saved(module, tmp_path / "m.pt")
    loaded = load_torchscript(tmp_path / "m.pt").eval()
    for batch in (points, points[:1]):
        torch.testing.assert_close(loaded(batch), expected(batch), rtol=0, atol=0)
    assert loaded.state_dict().keys() == expected.state_dict().keys()


def test_constants_defaults_and_texts_survive(tmp_path):
    class Fussy(nn.Module):
        scale: float

        def __init__(self):
            super().__init__()
            self.scale, self.names = float("inf"), ["é", 'a"b', "c'd", "e\\n#f"]

        def forward(self, x, low: float = -1e-30, high: float = float("inf"), k: int = -3):
            if x.shape[0] > 100:
                raise ValueError("too many: {} # points".format(x.shape[0]))  # noqa: UP032
            assert x.dim() == 2, "two axes"
            y = [x.clamp(low, high) * 0.1]
            for i in range(2):
                y.append(y[i] * self.scale if k > i else y[i] + 1e300)
            return torch.stack(y), {"a": len(self.names[3]), "b": -(2**62)}

    module = scripted(Fussy())
    expected, loaded = saved(module, tmp_path / "m.pt"), load_torchscript(tmp_path / "m.pt")
    points = torch.randn(3, 4)
    assert loaded(points)[1] == expected(points)[1]
    assert torch.equal(loaded(points)[0], expected(points)[0])
    with pytest.raises(torch.jit.Error, match="too many: 101 # points"):
        loaded(torch.zeros(101, 1))


def test_quantised_scripts_are_refused(tmp_path):
    class Rounded(nn.Module):
        def forward(self, x):
            return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize()

    saved(scripted(Rounded()), tmp_path / "m.pt")
    with pytest.raises(DataError, match=r"refused: it uses aten::quantize_per_tensor.*torch\.expo"):
        load_torchscript(tmp_path / "m.pt")
