"""The functions to call: `norms.layer_norm` and `norms.rms_norm` in one kernel, alone or with the addition before them.

The sum of x and residual is rounded to the dtype of the new residual before the norm reads it. So y is the norm of
exactly the tensor that is returned and that the next block adds to, a fused stack has the same bits as one that adds
and norms in two steps, and backward needs nothing but that tensor. The price is that a bf16 stream is normed with the
rounding it is stored with; `residual_dtype=torch.float32` keeps the stream, and what the norm reads, in fp32.
"""

import torch

from ..norms import check_arguments
from .ops import Norm, norm, traced


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """Layer normalisation over the last dimension: y = (x − mean) / sqrt(var + eps) · weight + bias.

    Computed in fp32 (fp64 for fp64), whatever the dtypes of x, weight and bias; y has the dtype of x, or fp32 under
    CUDA autocast, as torch's own op has. Inputs that are not contiguous are copied. Differentiable, twice too.

    Args:
        x: (..., d), fp16, bf16, fp32 or fp64, on a GPU, or on a CPU where the kernels are interpreted.
        weight: γ of shape (d,), or None for 1.  bias: β of shape (d,), or None for 0. Any floating dtype.
        eps: > 0, in units of x².

    Returns: y with the shape of x.
    Raises: TypeError for dtypes that are not floating; ValueError for wrong shapes, several devices or eps <= 0;
        RuntimeError where no kernel can run.
    Source: Ba, Kiros & Hinton, "Layer Normalization" (2016), section 3.
    """
    return _norm("layer_norm", x, None, weight, bias, eps)[0]


def rms_norm(x, weight=None, eps=1e-6, *, offset=0.0):
    """RMS normalisation over the last dimension: y = x / sqrt(mean(x²) + eps) · (weight + offset).

    offset=1.0 is the form in which Gemma stores the weight; without a weight there is nothing to add it to. All else
    as in `layer_norm`.
    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4.
    """
    return _norm("rms_norm", x, None, weight, None, eps, offset)[0]


def add_layer_norm(x, residual, weight=None, bias=None, eps=1e-5, *, residual_dtype=None):
    """`layer_norm` of the sum x + residual, and that sum: what a Pre-Norm block does at its border, in one kernel.

    Args:
        x: (..., d), what the block adds.  residual: the stream, of the same shape.
        residual_dtype: of the sum; that of residual by default. The norm reads the sum as rounded to it.
        weight, bias, eps: as in `layer_norm`.

    Returns: y in the dtype of x, and the new residual.
    Raises: as `layer_norm`; ValueError too where x and residual have different shapes.
    """
    return _norm("layer_norm", x, residual, weight, bias, eps, 0.0, residual_dtype, adds=True)


def add_rms_norm(x, residual, weight=None, eps=1e-6, *, offset=0.0, residual_dtype=None):
    """`rms_norm` of the sum x + residual, and that sum. Arguments and results as in `add_layer_norm` and `rms_norm`."""
    return _norm("rms_norm", x, residual, weight, None, eps, offset, residual_dtype, adds=True)


def _norm(kind, x, residual, weight, bias, eps, offset=0.0, residual_dtype=None, adds=False):
    check(x, weight, bias, eps)
    if adds:
        _check_sum(x, residual, residual_dtype)
    sum_dtype = residual_dtype or (residual if adds else x).dtype
    tensors = (None if t is None else t.contiguous() for t in (x, residual, weight, bias))
    run = norm if traced(x) else Norm.apply
    y, total, _, _ = run(*tensors, kind, float(eps), float(offset), _y_dtype(x), sum_dtype)
    return y, total


def check(x, weight, bias, eps):
    """The errors of the docstrings above, before anything is launched."""
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x is {x!r}; expected a tensor (..., hidden_size)")
    check_arguments(x, eps, weight=weight, bias=bias)
    for name, parameter in {"weight": weight, "bias": bias}.items():
        if parameter is not None:
            _check_beside(x, name, parameter)


def _check_sum(x, residual, residual_dtype):
    if not isinstance(residual, torch.Tensor):
        raise TypeError(f"residual is {residual!r}; expected a tensor with the shape of x, {tuple(x.shape)}")
    if residual.shape != x.shape:
        raise ValueError(
            f"residual has shape {tuple(residual.shape)}, but x has shape {tuple(x.shape)}; they must be the same"
        )
    _check_beside(x, "residual", residual)
    if residual_dtype is not None and not (
        isinstance(residual_dtype, torch.dtype) and residual_dtype.is_floating_point
    ):
        raise TypeError(f"residual_dtype is {residual_dtype!r}; expected a floating dtype such as torch.float32")


def _check_beside(x, name, tensor):
    if not tensor.is_floating_point():
        raise TypeError(f"{name} has dtype {tensor.dtype}; expected a floating dtype: convert with {name}.float()")
    if tensor.device != x.device:
        raise ValueError(f"{name} is on {tensor.device}, but x is on {x.device}; move one with .to(...)")


def _y_dtype(x):
    """Under CUDA autocast torch computes and returns norms in fp32; CPU autocast leaves them alone."""
    if x.is_cuda and torch.is_autocast_enabled("cuda") and x.dtype != torch.float64:
        return torch.float32
    return x.dtype
