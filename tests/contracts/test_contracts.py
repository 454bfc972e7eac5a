"""What every public function owes its caller, whichever it is."""

import inspect
import io
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import levelset
from levelset import attacks, boundary
from levelset._tools.results import Rows
from levelset.auditing import Audit

# Functions that measure no model, and so owe it nothing.
NO_MEASUREMENT = {"levelset.cite", "levelset.frozen"}


def options(case, seed: int = 0, **more) -> dict[str, object]:
    return more | ({"generator": torch.Generator().manual_seed(seed)} if case.draws else {})


def test_every_public_function_is_in_the_table(cases):
    public = {
        f"{module.__name__}.{name}"
        for module in (levelset, attacks, boundary)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    }
    missing = public - set(cases) - NO_MEASUREMENT
    assert not missing, f"add these to the table in tests/contracts/conftest.py: {sorted(missing)}"


@pytest.mark.same_shapes
def test_model_arguments_and_the_world_are_left_bit_for_bit(
    case, make_model, points, labels, left_as_found
):
    model = make_model(case)
    with left_as_found(model, points, labels):
        case.call(model, points, labels, **options(case))


@pytest.mark.same_shapes
def test_a_failure_half_way_leaves_all_bit_for_bit(case, make_model, points, labels, left_as_found):
    model = make_model(case)
    calls = 0
    healthy = model[-1].forward

    def fail_later(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt
        return healthy(x)

    case.call(make_model(case), points, labels, **options(case))  # not counted: lazy imports
    model[-1].forward = fail_later
    with left_as_found(model, points, labels):
        try:
            case.call(model, points, labels, **options(case))
        except KeyboardInterrupt:
            assert calls == 2
        else:
            assert calls <= 1


@pytest.mark.same_shapes
def test_points_that_carry_a_graph_get_no_gradient_and_pass_none_on(
    case, make_model, points, labels, leaves
):
    model = make_model(case)
    leaf = points.clone().requires_grad_()
    result = case.call(model, leaf * 1.0, labels, **options(case))
    assert leaf.grad is None
    for name, value in leaves(result).items():
        if isinstance(value, Tensor) and not case.differentiable:
            assert not value.requires_grad, name
            assert value.grad_fn is None, name


@pytest.mark.same_shapes
def test_gradients_may_be_switched_off_around_it(case, make_model, points, labels, assert_close):
    model = make_model(case)
    expected = case.call(model, points, labels, **options(case))
    with torch.no_grad():
        found = case.call(model, points, labels, **options(case))
    if not case.differentiable:
        assert_close(found, expected)


@pytest.mark.same_shapes
def test_the_global_random_state_is_neither_used_nor_moved(
    case, make_model, points, labels, assert_close
):
    model, results = make_model(case), []
    state, other = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            before = torch.get_rng_state()
            results.append(case.call(model, points, labels, **options(case)))
            assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_rng_state(state)
        np.random.set_state(other)  # noqa: NPY002
    assert_close(results[0], results[1])


def test_no_points_are_no_crash(case, make_model, points, labels, leaves):
    model = make_model(case)
    if case.empty is not None:
        with pytest.raises(case.empty, match=r"at least one|must hold"):
            case.call(model, points[:0], labels[:0], **options(case))
        return
    result = case.call(model, points[:0], labels[:0], **options(case))
    for name, value in leaves(result).items():
        if isinstance(value, Tensor):
            assert value.shape[0] == 0 or not case.rows or not isinstance(result, Rows), name
            assert not value.isnan().any(), name
    if hasattr(result, "summary"):
        assert repr(result)
        assert all(isinstance(value, int | float) for value in result.summary().values())


def test_one_point_is_enough(case, make_model, points, labels):
    model = make_model(case)
    result = case.call(model, points[:1], labels[:1], **options(case))
    if hasattr(result, "summary"):
        assert not isinstance(result, Rows) or not case.rows or len(result) == 1
        assert repr(result).count("\n") == 0


@pytest.mark.same_shapes
def test_strides_change_nothing_but_rounding(case, make_model, points, labels, assert_close):
    model = make_model(case)
    expected = case.call(model, points, labels, **options(case))
    odd = torch.stack([points.transpose(2, 3), points.transpose(2, 3)], -1)[..., 1].transpose(2, 3)
    stepped = torch.stack([labels, -labels], 1)[:, 0]
    assert not odd.is_contiguous()
    assert not stepped.is_contiguous()
    assert_close(case.call(model, odd, stepped, **options(case)), expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_follow_the_dtype_of_the_points(case, make_model, points, labels, leaves, dtype):
    model = make_model(case, dtype)
    result = case.call(model, points.to(dtype), labels, **options(case))
    statistics = (torch.float64,)  # of all points together
    for name, value in leaves(result).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            per_point = value.shape in (points.shape, points.shape[:1])
            assert value.dtype == dtype or (not per_point and value.dtype in statistics), name
        elif isinstance(value, Tensor):
            assert value.dtype in (torch.bool, torch.int64), name


@pytest.mark.parametrize("size", [1, 4])
def test_the_batch_size_changes_nothing_but_rounding(
    batching_case, make_model, points, labels, assert_close, size
):
    model = make_model(batching_case)
    whole = batching_case.call(model, points, labels, **options(batching_case))
    parts = batching_case.call(model, points, labels, **options(batching_case, batch_size=size))
    assert_close(parts, whole, atol=1e-9)


@pytest.mark.same_shapes
def test_the_same_generator_gives_the_same_result_and_another_may_not(
    drawing_case, make_model, points, labels, assert_close
):
    model = make_model(drawing_case)
    one = drawing_case.call(model, points, labels, **options(drawing_case, seed=1))
    assert_close(drawing_case.call(model, points, labels, **options(drawing_case, seed=1)), one)


@pytest.mark.same_shapes
def test_without_a_generator_the_global_one_is_drawn_from(
    drawing_case, make_model, points, labels, assert_close
):
    model = make_model(drawing_case)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(5)
        one = drawing_case.call(model, points, labels)
        torch.manual_seed(5)
        assert_close(drawing_case.call(model, points, labels), one)
    finally:
        torch.set_rng_state(state)


@pytest.mark.same_shapes
def test_results_survive_pickle_and_torch_save(case, make_model, points, labels, assert_close):
    result = case.call(make_model(case), points, labels, **options(case))
    if isinstance(result, Tensor):
        result = result.detach()
    assert_close(pickle.loads(pickle.dumps(result)), result)
    file = io.BytesIO()
    torch.save(result, file)
    file.seek(0)
    assert_close(torch.load(file, weights_only=False), result)


@pytest.mark.same_shapes
def test_results_share_no_memory_with_the_arguments_but_for_the_inputs_they_keep(
    case, make_model, points, labels, leaves
):
    result = case.call(make_model(case), points, labels, **options(case))
    places = {points.untyped_storage().data_ptr()}
    for name, value in leaves(result).items():
        kept = name == "result.inputs" or (name == "result.points" and isinstance(result, Audit))
        if isinstance(value, Tensor) and not kept:
            assert value.untyped_storage().data_ptr() not in places, name


@pytest.mark.gpu
def test_results_stay_on_the_device_of_the_points(case, make_model, points, labels, leaves):
    model = make_model(case, torch.float32).cuda()
    result = case.call(model, points.float().cuda(), labels.cuda(), **options(case))
    for name, value in leaves(result).items():
        if isinstance(value, Tensor):
            assert value.device.type == "cuda", name


@pytest.mark.gpu
def test_a_device_gives_what_the_processor_gives(case, make_model, points, labels, leaves):
    here = leaves(case.call(make_model(case), points, labels, **options(case)))
    there = leaves(
        case.call(make_model(case).cuda(), points.cuda(), labels.cuda(), **options(case))
    )
    for name, value in here.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            torch.testing.assert_close(
                there[name].cpu(), value, rtol=1e-6, atol=1e-6, equal_nan=True
            )


@pytest.mark.gpu
def test_a_generator_of_the_device_is_taken(drawing_case, make_model, points, labels, leaves):
    model = make_model(drawing_case).cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    result = drawing_case.call(model, points.cuda(), labels.cuda(), generator=generator)
    for name, value in leaves(result).items():
        if isinstance(value, Tensor):
            assert value.device.type == "cuda", name


class Writes(nn.Module):
    """A model that begins by writing into its input."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, points: Tensor) -> Tensor:
        return self.model(points.sub_(0.25).mul_(1.5))


class Reads(Writes):
    """Its twin, that does not."""

    def forward(self, points: Tensor) -> Tensor:
        return self.model((points - 0.25) * 1.5)


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "stepped", "one row expanded"])
@pytest.mark.same_shapes
def test_a_model_that_writes_into_its_input_changes_nothing(
    case, make_model, points, labels, assert_close, layout
):
    if layout == "channels last":
        points = points.expand(-1, 2, -1, -1).contiguous(memory_format=torch.channels_last)[:, :1]
    elif layout == "stepped":
        points = torch.stack([points, points], -1)[..., 1]
    elif layout == "one row expanded":
        points = points[:1].expand(len(points), -1, -1, -1)
    before = points.clone()
    expected = case.call(Reads(make_model(case)), points, labels, **options(case))
    found = case.call(Writes(make_model(case)), points, labels, **options(case))
    assert torch.equal(points, before)
    assert_close(found, expected, atol=1e-9)
