"""Which operators compute."""

import pytest
import torch

from levelset.datasets._operators import (
    INTERNAL,
    PYTHON,
    WORDED,
    computes_in_python,
    computes_in_script,
)

COMPUTE = """abs.default add.Tensor addmm.default bmm.default cat.default conv2d.default
    conv2d.padding cumsum.default div.Tensor_mode einsum.default embedding_bag.default
    expand.default
    gather.default gelu.default gru.input index.Tensor index_put.default item.default
    layer_norm.default linalg_norm.ord_str lstm.input masked_fill.Scalar
    max_pool2d_with_indices.default native_layer_norm.default nonzero.default pad.default
    quantile.default rnn_tanh.input scaled_dot_product_attention.default scatter_reduce.two
    slice.Tensor square.default squeeze.dim sym_size.int topk.default view.default where.self
    _softmax.default _native_batch_norm_legit_no_training.default _to_copy.default
    _unsafe_view.default as_strided.default grid_sampler.default rms_norm.default
    unfold.default""".split()
OTHERS = """from_file.default from_file.out save.default set_.source_Storage set_.source_Tensor
    set_data.default resize_.default resize_as_.default record_stream.default pin_memory.default
    requires_grad_.default sparse_coo_tensor.size _sparse_coo_tensor_unsafe.default
    to_sparse.default fbgemm_linear_fp16_weight.default quantize_per_tensor.default
    mkldnn_convolution.default cudnn_convolution.default segment_reduce.default _print.default
    _pin_memory.default _nested_view_from_buffer.default split.str add.nothing nothing.default
    _cudnn_rnn_flatten_weight.default _resize_output_.default""".split()


@pytest.mark.parametrize("name", COMPUTE)
def test_what_computes(name):
    assert computes_in_python(f"torch.ops.aten.{name}")


@pytest.mark.parametrize("name", OTHERS)
def test_what_does_more(name):
    assert not computes_in_python(f"torch.ops.aten.{name}")


@pytest.mark.parametrize(
    "target",
    [
        "torch.load", "torch.ops.aten.relu", "torch.ops.aten.relu.default.__class__", "os.system",
        "_operator.attrgetter", "_operator.methodcaller", "math.comb", "aten.relu.default", "",
        "torch.ops.aten.relu.default\n", "torch.ops.prims.copy_to.default", "torch.sym_not.x",
        "torch.ops.higher_order.triton_kernel_wrapper_mutation", "torch._C._set_grad_enabled",
    ],
)  # fmt: skip
def test_targets_of_other_kinds(target):
    assert not computes_in_python(target)


def test_every_operator_by_name_is_there():
    for name in WORDED | INTERNAL:
        assert torch._C._jit_get_schemas_for_operator(f"aten::{name}"), name
    for target in PYTHON:
        space, _, name = target.rpartition(".")
        owner = {"_operator": "operator"}.get(space, space)
        if not owner.startswith("torch.ops"):
            assert hasattr(__import__(owner), name)


@pytest.mark.parametrize(
    ("kind", "overload", "fine"),
    [
        ("aten::relu", "", True), ("aten::__getitem__", "t", True), ("aten::append", "t", True),
        ("prim::If", "", True), ("prim::Print", "", False), ("prim::CallMethod", "", False),
        ("prim::PythonOp", "", False), ("prim::fork", "", False), ("aten::save", "", False),
        ("aten::from_file", "", False), ("aten::manual_seed", "", False), ("aten::seed", "", False),
        ("quantized::linear", "", False), ("rpc::rpc_sync", "", False), ("aten::wait", "", False),
    ],
)  # fmt: skip
def test_nodes_of_scripts(kind, overload, fine):
    assert computes_in_script(kind, overload) is fine


def test_no_public_operator_that_takes_a_word_or_a_storage_slips_through():
    for schema in torch._C._jit_get_all_schemas():
        name = schema.name.removeprefix("aten::")
        types = " ".join(str(part.type) for part in schema.arguments)
        if schema.name.startswith("aten::") and ("Storage" in types or "Stream" in types):
            target = f"torch.ops.aten.{name}.{schema.overload_name or 'default'}"
            assert not computes_in_python(target)
        if "str" in types and name not in WORDED:
            assert not computes_in_python(f"torch.ops.aten.{name}.{schema.overload_name}")
