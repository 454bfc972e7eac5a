"""`frozen`: everything held still, and every flag given back, whatever happens in between."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from levelset import Component, frozen, project
from levelset._tools.modes import batch_statistics, draws_or_couples, evaluating


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def flags(*modules: nn.Module) -> list[bool]:
    found = [m.training for module in modules for m in module.modules()]
    return found + [p.requires_grad for module in modules for p in module.parameters()]


def test_all_is_still_within_and_as_it_was_after(left_as_found):
    model = block().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    with left_as_found(model):
        with frozen(model):
            assert not any(flags(model))
        assert flags(model) == [True, True, False, True, True, False, True, True, True, True, True]


def test_an_exception_gives_everything_back(left_as_found):
    model = block().train()
    model[2].eval()
    with left_as_found(model), pytest.raises(KeyboardInterrupt), frozen(model):
        raise KeyboardInterrupt


def test_holding_twice_gives_back_twice(left_as_found):
    model = block().train()
    with left_as_found(model), frozen(model):
        with frozen(model, model):
            assert not any(flags(model))
        assert not any(flags(model))


def test_modules_that_share_a_part_give_it_back_as_it_was(left_as_found):
    shared = nn.Linear(3, 3)
    shared.bias.requires_grad_(False)
    one, two = nn.Sequential(shared, nn.Dropout()).train(), nn.Sequential(shared, nn.ReLU()).eval()
    shared.training = True
    with left_as_found(one, two), frozen(one, two):
        assert not any(flags(one, two))


def test_what_is_no_module_is_passed_over():
    with frozen(lambda x: x, None, 3.0, block()):
        pass


class Merging(nn.Module):
    """A low-rank adapter: `train` and `eval` write to the weights, as adapters do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.extra = nn.Parameter(torch.full((2, 2), 4.0))
        self.merged = False

    def train(self, mode: bool = True) -> "Merging":
        super().train(mode)
        if mode == self.merged:
            self.weight.data += self.extra.data if not mode else -self.extra.data
            self.merged = not mode
        return self

    def forward(self, points: Tensor) -> Tensor:
        return points @ (self.weight if self.merged else self.weight + self.extra)


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("part", [True, False])
def test_modules_whose_train_does_work_end_as_they_were(left_as_found, root, part):
    model = nn.Sequential(Merging(), Merging()).train(root)
    model[1].train(part)
    points = torch.ones(1, 2)
    before, merged = model(points), [m.merged for m in model]
    with left_as_found(model), frozen(model):
        assert [m.merged for m in model] == [True, True]
        assert torch.equal(model(points), before)
    assert [m.merged for m in model] == merged
    assert torch.equal(model(points), before)


class Stubborn(nn.Module):
    """Its normalisation stays in evaluation mode, whatever it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def train(self, mode: bool = True) -> "Stubborn":
        super().train(mode)
        self.norm.eval()
        return self


def test_modules_that_keep_a_part_in_evaluation_mode_end_as_they_were(left_as_found):
    model = nn.Sequential(Stubborn(), nn.Linear(3, 1)).train()
    assert flags(model)[:4] == [True, True, False, True]
    with left_as_found(model), frozen(model):
        assert not any(flags(model))
    model[0].norm.training = True  # against its own will: given back all the same
    with left_as_found(model), frozen(model):
        assert not any(flags(model))


@pytest.mark.parametrize("kind", ["script", "trace", "export"])
def test_compiled_models_are_measured_and_left_as_found(noise, kind):
    points = noise(4, 3, dtype=torch.float32)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still about
        if kind == "script":
            compiled = torch.jit.script(model).train()
        elif kind == "trace":
            compiled = torch.jit.trace(model, points).train()
        else:
            many = ({0: torch.export.Dim("n")},)
            compiled = torch.export.export(model, (points,), dynamic_shapes=many).module()
    before = flags(compiled)
    found = project(Component(compiled, 1), points)
    expected = project(Component(model, 1), points)
    assert flags(compiled) == before
    assert (found.points - expected.points).abs().max() < 1e-6
    assert len(project(Component(compiled, 1), points[:0])) == 0


def test_layers_that_draw_or_couple_are_found_by_name():
    model = nn.ModuleDict({"head": nn.Linear(3, 1), "body": block()})
    assert draws_or_couples(model) == "BatchNorm1d `body.1`"
    model["body"][1].eval()
    assert draws_or_couples(model) == "Dropout `body.2`"
    assert draws_or_couples(model.eval()) is None
    assert draws_or_couples(nn.Dropout2d()) == "Dropout2d"
    assert draws_or_couples(lambda x: x) is None


def test_evaluating_keeps_the_gradients_of_parameters(left_as_found):
    model = block().train()
    model[1].eval()
    with left_as_found(model):
        with evaluating(model):
            assert not any(m.training for m in model.modules())
            assert all(p.requires_grad for p in model.parameters())
        assert model.training


def network_with_statistics() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).double()
    net[1].running_mean.copy_(torch.randn(5))
    net[1].running_var.copy_(torch.rand(5) + 0.5)
    return net.train()


def test_a_graph_in_evaluation_mode_holds_its_own_statistics() -> None:
    """Training mode updates running statistics in place, unseen by autograd's version counters."""
    points = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for afterwards in (False, True):
        net = network_with_statistics()
        buffer = net[1].running_var
        with evaluating(net):
            value = net(points).square().sum()
        if afterwards:
            net(100.0 * points)
        assert net[1].running_var is buffer
        gradients.append(torch.autograd.grad(value, list(net.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_batch_statistics_are_those_of_training_mode_and_go_again() -> None:
    points = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    once, net = network_with_statistics(), network_with_statistics()
    trained = once(points)
    with batch_statistics(net, points):
        net.eval()
        torch.testing.assert_close(net(points), trained, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(net(points[:1]), trained[:1], rtol=1e-12, atol=1e-12)
        net.train()
        net(100.0 * points)  # what sees it here is not kept
    for (name, one), other in zip(
        once.state_dict().items(), net.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    net.eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with batch_statistics(net, points):  # nothing to do in evaluation mode
        pass
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
