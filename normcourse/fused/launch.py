"""From tensors to launches: memory for the outputs, a tile, the kernels.

`kind` says which module the kernels come from. An output that a call does not have (no residual, no mean in RMSNorm) is
a tensor of no elements, since an operator of torch cannot return None.
"""

import math
from contextlib import nullcontext

import torch

from . import layer_norm_kernels, rms_norm_kernels
from .interpreter import check_can_run
from .tiles import STAGES, backward_tile, compiler_options, forward_tile, programs

KERNELS = {"layer_norm": layer_norm_kernels, "rms_norm": rms_norm_kernels}


def norm(x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype):
    """y, the sum x + residual in sum_dtype, mean and rstd of each row in the dtype computed in."""
    y, total, mean, rstd = norm_outputs(x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype)
    if x.numel() == 0 or x.is_meta:
        return y, total, mean, rstd
    check_can_run(x.device)
    width = x.shape[-1]
    tile = forward_tile(width, rstd.itemsize)
    tensors = {"X": x, "Residual": residual, "W": weight, "Sum": None if residual is None else total}
    options = {"Y": y, "Rstd": rstd, "N": width, "eps": eps, "COLUMNS": tile.columns, **compiler_options(tile)}
    if kind == "layer_norm":
        tensors["B"], options["Mean"] = bias, mean
    else:
        options["offset"] = offset
    tensors = {name: None if t is None else t.contiguous() for name, t in tensors.items()}
    with _current(x.device):
        if tile.held:
            grid = (ceil_div(rstd.numel(), tile.rows),)
            KERNELS[kind].forward[grid](**tensors, **options, M=rstd.numel(), ROWS=tile.rows)
        else:
            KERNELS[kind].forward_wide[(rstd.numel(),)](**tensors, **options, STAGES=STAGES)
    return y, total, mean, rstd


def norm_outputs(x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype):
    wide = computed_in(x.dtype, sum_dtype)
    rows = math.prod(x.shape[:-1]) if x.shape[-1] else 0  # the product may be a symbol
    return (
        x.new_empty(x.shape, dtype=y_dtype),
        x.new_empty(x.shape if residual is not None else 0, dtype=sum_dtype),
        x.new_empty(rows if kind == "layer_norm" else 0, dtype=wide),
        x.new_empty(rows, dtype=wide),
    )


def computed_in(*dtypes):
    """fp32, or fp64 where one of the dtypes is."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def norm_backward(dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters):
    """dx, the same numbers in dresidual_dtype where that is another, and a (parameters, N) tensor of dweight, dbias.

    x is what the norm read; parameters is 0, 1 (dweight) or 2 (and dbias).
    """
    dx, dresidual, dparameters = norm_backward_outputs(
        dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters
    )
    if x.numel() == 0 or x.is_meta:
        return dx, dresidual, dparameters.zero_()
    check_can_run(x.device)
    m, n = rstd.numel(), x.shape[-1]
    tile = backward_tile(n, rstd.itemsize)
    blocks = ceil_div(n, tile.columns)
    parts = min(max(1, programs(x.device, tile.threads) // blocks), ceil_div(m, tile.rows))
    sums = rstd.new_empty(parameters, parts, n)
    tensors = {"DY": dy.contiguous(), "X": x.contiguous(), "W": None if weight is None else weight.contiguous()}
    tensors["Rstd"] = rstd.contiguous()
    options = {"N": n, "COLUMNS": tile.columns, "STAGES": STAGES, **compiler_options(tile)}
    means = {"GXMean": None if tile.held else torch.empty_like(rstd)}
    outputs = {"DX": dx, "DResidual": dresidual if dresidual.numel() else None, "DW": sums[0] if parameters else None}
    if kind == "layer_norm":
        tensors["Mean"] = mean.contiguous()
        means["GMean"] = None if tile.held else torch.empty_like(rstd)
        outputs["DB"] = sums[1] if parameters == 2 else None
    else:
        options["offset"] = offset
    with _current(x.device):
        if not tile.held:
            KERNELS[kind].backward_means[(m,)](**tensors, **means, **options)
        KERNELS[kind].backward[(parts, blocks)](
            **tensors,
            **means,
            **outputs,
            **options,
            DSum=None if dtotal is None else dtotal.contiguous(),
            M=m,
            ROWS=tile.rows,
        )
    return dx, dresidual, torch.sum(sums, 1, out=dparameters)


def norm_backward_outputs(dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters):
    return (
        x.new_empty(x.shape, dtype=dx_dtype),
        x.new_empty(x.shape if dresidual_dtype != dx_dtype else 0, dtype=dresidual_dtype),
        rstd.new_empty(parameters, x.shape[-1]),
    )


def ceil_div(a, b):
    return -(-a // b)  # triton.cdiv, which kernels may call too, takes 50 times as long here


def _current(device):
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
