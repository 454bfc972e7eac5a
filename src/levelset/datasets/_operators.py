"""Which operators a model from a file may use: those that compute, and no others.

An operator of `aten` computes if it takes and returns tensors, numbers and the like alone: what
names no file, storage or stream cannot reach one. Operators whose name begins with `_` are internal
and often unchecked, so each is listed; so is each that takes a string, and each to which the rule
above does not suffice. What is not allowed so is refused.
"""

import re
from functools import cache
from typing import Any

import torch

__all__ = ["computes_in_python", "computes_in_script", "named_like_what_computes"]

# The parts of types as schemas write them; `List[Optional[Tensor]]` has three.
PLAIN = frozenset(
    {
        "Device", "Generator", "List", "Optional", "Tensor", "bool", "complex", "float", "int",
        "number",
    }
)  # fmt: skip
# Operators one of whose arguments is a word for a mode, such as `rounding_mode="floor"`.
WORDED = frozenset(
    """conv1d conv2d conv3d div div_ divide divide_ einsum fft_fft fft_fft2 fft_fftn fft_hfft
    fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft
    fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn gelu gelu_ index_reduce index_reduce_
    linalg_cond linalg_eigh linalg_eigvalsh linalg_lstsq linalg_matrix_norm linalg_norm
    linalg_qr linalg_svd linalg_svdvals meshgrid nanquantile pad pad_sequence quantile scatter
    scatter_ scatter_reduce scatter_reduce_ searchsorted stft _assert_scalar _convolution_mode
    _linalg_eigh _linalg_svd""".split()
)
# Public operators on tensors and numbers that change or trust memory, state or layout of another.
TRUSTING = re.compile(
    r"from_file|record_stream|set|set_|set_data|resize.*|requires_grad_|retain_grad|pin_memory|"
    r"get_gradients|segment_reduce|int_repr|qscheme|empty_quantized|"
    r"(q|quantize|quantized|fbgemm|cudnn|miopen|mkldnn|mps|sparse|to_sparse|to_mkldnn)_?.*|"
    r".*_sparse(_.*)?"
)
NAMED_LIKE_THOSE = frozenset({"square", "square_", "quantile"})
INTERNAL = frozenset(
    """__and__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __lshift__ __or__ __rshift__
    __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _add_relu _add_relu_ _addmm_activation
    _aminmax _assert_scalar _assert_tensor_metadata _batch_norm_no_update
    _batch_norm_with_update _batch_norm_with_update_functional _cdist_forward _chunk_cat _conj
    _conj_copy _conj_physical _convolution _convolution_mode _cummax_helper _cummin_helper
    _euclidean_dist _fft_c2c _fft_c2r _fft_r2c _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_rms_norm
    _int_mm _is_all_true _is_any_true _linalg_det _linalg_eigh _linalg_slogdet _linalg_solve_ex
    _linalg_svd _local_scalar_dense _log_softmax _logcumsumexp _masked_softmax
    _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training _native_multi_head_attention _neg_view
    _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _pad_circular _pad_enum
    _pdist_forward _prelu_kernel _reshape_alias _reshape_copy _safe_softmax
    _scaled_dot_product_attention_math _scaled_dot_product_cudnn_attention
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _shape_as_tensor _softmax _stack _to_copy
    _transform_bias_rescale_qkv _transformer_encoder_layer_fwd _trilinear _unique _unique2
    _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_view _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
    _weight_norm_interface""".split()
)
# What TorchScript does with numbers, lists, dictionaries and strings of its own, as `aten`.
SCRIPT = frozenset(
    """Bool Complex ComplexImplicit Delete Float FloatImplicit Int IntImplicit ScalarImplicit Size
    __contains__ __derive_index __getitem__ __interpolate __is__ __isnot__ __not__
    __range_length __round_to_zero_floordiv __upsample __upsample_bilinear __upsample_nearest
    _infer_size _list_to_tensor _ncf_unsqueeze _ncf_view _set_item _size_if_not_equal
    _tensor_to_list _unwrap_optional acos acosh add add_ all any append as_tensor asin asinh
    atan atan2 atanh bin bitwise_not broadcast_shapes capitalize ceil center chr clear copy
    copysign cos cosh count cpu cuda degrees device dict divmod element_size endswith eq erf
    erfc exp expandtabs expm1 extend fabs factorial find floor floordiv fmod format frexp gamma
    gcd ge get get_autocast_dtype gt hash hex index insert is_autocast_cpu_enabled
    is_autocast_enabled is_grad_enabled is_scripting isalnum isalpha isdecimal isdigit isfinite
    isidentifier isinf islower isnan isnumeric isprintable isspace istitle isupper items join
    keys ldexp le len lgamma list ljust log log10 log1p lower lstrip lt mathremainder max min
    modf mul mul_ ne neg oct ord partition percentFormat pop popitem pow radians remainder
    remove replace reverse rfind rindex rjust round rpartition rsplit rstrip select
    set_grad_enabled setdefault sin sinh slice sort sorted split splitlines sqrt startswith str
    strip sub swapcase tan tanh tensor title to trunc unbind update upper values warn zfill
    __and__ __or__ __xor__ __lshift__ __rshift__""".split()
)
PRIMS = frozenset(
    """Constant ConstantChunk CreateObject DictConstruct Enter Exit GetAttr If ImplicitTensorToNum
    ListConstruct ListUnpack Loop NumToTensor RaiseException SetAttr TupleConstruct TupleIndex
    TupleSlice TupleUnpack Uninitialized abs data device dtype grad_mode id is_complex is_cpu
    is_cuda is_meta is_mps is_mkldnn is_nested is_quantized is_sparse is_xla isinstance itemsize
    layout max min ndim nbytes requires_grad shape tolist type unchecked_cast
    unchecked_unwrap_optional EnumName EnumValue AutogradZero AutogradAnyNonZero rangelist
    StringIndex name""".split()
)
PYTHON = frozenset(
    {f"_operator.{name}" for name in
     "add and_ eq floordiv ge getitem gt le lshift lt mod mul ne neg or_ pos pow rshift sub truediv"
     .split()}
    | {f"math.{name}" for name in "ceil floor trunc".split()}
    | {f"torch.sym_{name}" for name in "float int ite max min not sqrt sum".split()}
    | {f"torch.ops.higher_order.{name}" for name in
       "associative_scan cond map map_impl scan wrap_with_autocast wrap_with_set_grad_enabled "
       "while_loop".split()}
)  # fmt: skip
ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)


def computes_in_python(target: str) -> bool:
    """Tell whether a target of an exported program, `torch.ops.aten.relu.default`, computes."""
    match = ATEN.fullmatch(target)
    if match is None:
        return target in PYTHON
    name, overload = match.groups()
    return _computes(f"aten::{name}", "" if overload == "default" else overload)


def computes_in_script(kind: str, overload: str) -> bool:
    """Tell whether a kind of node of TorchScript, `aten::relu` or `prim::If`, computes."""
    space, _, name = kind.partition("::")
    if space == "prim":
        return name in PRIMS
    return space == "aten" and (name in SCRIPT or _computes(kind, overload))


def named_like_what_computes(kind: str) -> bool:
    """Tell whether `computes_in_script` holds for some overload of a kind of node."""
    schemas = torch._C._jit_get_schemas_for_operator(kind)
    return any(computes_in_script(kind, name) for name in ("", *(s.overload_name for s in schemas)))


@cache
def _computes(kind: str, overload: str) -> bool:
    """Tell whether an operator of `aten` is registered and computes, by its name and its types."""
    name = kind.removeprefix("aten::")
    if name.startswith("_") and name not in INTERNAL:
        return False
    if TRUSTING.fullmatch(name) and name not in NAMED_LIKE_THOSE:
        return False
    registered = torch._C._jit_get_schemas_for_operator(kind)
    if not any(torch._C._dispatch_has_kernel(_full_name(schema)) for schema in registered):
        return False  # of TorchScript alone, such as `aten::seed`
    schemas = [schema for schema in registered if schema.overload_name == overload]
    types = [str(part.type) for s in schemas for part in (*s.arguments, *s.returns)]
    parts = {word for text in types for word in re.findall(r"\w+", text)}
    return bool(schemas) and parts <= (PLAIN | {"str"} if name in WORDED else PLAIN)


def _full_name(schema: Any) -> str:
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
