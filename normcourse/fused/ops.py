"""The kernels as two operators of torch, `normcourse::norm` and `normcourse::norm_backward`.

`kind` is the module that the kernels come from. An output that a call does not have (no residual, no mean in RMSNorm)
is a tensor of no elements, since an operator cannot return None.
"""

from contextlib import nullcontext

import torch

from .. import norms
from . import layer_norm_kernels, rms_norm_kernels
from .interpreter import check_can_run, triton
from .tiles import STAGES, backward_tile, forward_tile, programs

KERNELS = {"layer_norm": layer_norm_kernels, "rms_norm": rms_norm_kernels}


@torch.library.custom_op(
    "normcourse::norm",
    mutates_args=(),
    schema="(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, str kind, float eps, float offset, "
    "ScalarType y_dtype, ScalarType sum_dtype) -> (Tensor, Tensor, Tensor, Tensor)",
)
def norm(x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype):
    """y, the sum x + residual in sum_dtype, mean and rstd of each row in the dtype computed in."""
    check_can_run(x.device)
    y, total, mean, rstd = _norm_outputs(x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype)
    if x.numel() == 0:
        return y, total, mean, rstd
    n = x.shape[-1]
    tile = forward_tile(n, rstd.itemsize)
    tensors = {"X": x, "Residual": residual, "W": weight, "Sum": None if residual is None else total}
    options = {"Y": y, "Rstd": rstd, "N": n, "eps": eps, "COLUMNS": tile.columns, "num_warps": tile.warps}
    if kind == "layer_norm":
        tensors["B"], options["Mean"] = bias, mean
    else:
        options["offset"] = offset
    tensors = {name: None if t is None else t.contiguous() for name, t in tensors.items()}
    with _current(x.device):
        if tile.held:
            grid = (triton.cdiv(rstd.numel(), tile.rows),)
            KERNELS[kind].forward[grid](**tensors, **options, M=rstd.numel(), ROWS=tile.rows)
        else:
            KERNELS[kind].forward_wide[(rstd.numel(),)](**tensors, **options, STAGES=STAGES)
    return y, total, mean, rstd


@norm.register_fake
def _norm_outputs(x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype):
    wide = torch.float64 if torch.float64 in (x.dtype, sum_dtype) else torch.float32
    rows = x.shape[:-1].numel() if x.shape[-1] else 0
    return (
        x.new_empty(x.shape, dtype=y_dtype),
        x.new_empty(x.shape if residual is not None else 0, dtype=sum_dtype),
        x.new_empty(rows if kind == "layer_norm" else 0, dtype=wide),
        x.new_empty(rows, dtype=wide),
    )


@torch.library.custom_op(
    "normcourse::norm_backward",
    mutates_args=(),
    schema="(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd, Tensor? dtotal, str kind, float eps, "
    "float offset, ScalarType dx_dtype, ScalarType dresidual_dtype, int parameters) -> (Tensor, Tensor, Tensor)",
)
def norm_backward(dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters):
    """dx, the same numbers in dresidual_dtype where that is another, and a (parameters, N) tensor of dweight, dbias.

    x is what the norm read; parameters is 0, 1 (dweight) or 2 (and dbias).
    """
    check_can_run(x.device)
    dx, dresidual, dparameters = _norm_backward_outputs(
        dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters
    )
    if x.numel() == 0:
        return dx, dresidual, dparameters.zero_()
    m, n = rstd.numel(), x.shape[-1]
    tile = backward_tile(n, rstd.itemsize)
    blocks = triton.cdiv(n, tile.columns)
    parts = min(max(1, programs(x.device, tile.warps) // blocks), triton.cdiv(m, tile.rows))
    sums = rstd.new_empty(parameters, parts, n)
    tensors = {"DY": dy.contiguous(), "X": x.contiguous(), "W": None if weight is None else weight.contiguous()}
    tensors["Rstd"] = rstd
    options = {"N": n, "COLUMNS": tile.columns, "STAGES": STAGES, "num_warps": tile.warps}
    means = {"GXMean": None if tile.held else torch.empty_like(rstd)}
    outputs = {"DX": dx, "DResidual": dresidual if dresidual.numel() else None, "DW": sums[0] if parameters else None}
    if kind == "layer_norm":
        tensors["Mean"] = mean
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


@norm_backward.register_fake
def _norm_backward_outputs(dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters):
    return (
        x.new_empty(x.shape, dtype=dx_dtype),
        x.new_empty(x.shape if dresidual_dtype != dx_dtype else 0, dtype=dresidual_dtype),
        rstd.new_empty(parameters, x.shape[-1]),
    )


def _current(device):
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _save(ctx, inputs, output):
    x, residual, weight, bias, ctx.kind, ctx.eps, ctx.offset, _, _ = inputs
    _, total, mean, rstd = output
    ctx.set_materialize_grads(False)  # an output that nobody used has the gradient None, not a tensor of zeros
    ctx.mark_non_differentiable(mean, rstd, *([total] if residual is None else []))
    ctx.save_for_backward(x if residual is None else total, weight, mean, rstd)
    ctx.dtypes = [None if t is None else t.dtype for t in (x, residual, weight, bias)]


def _gradients(ctx, dy, dtotal, *_):
    x, weight, mean, rstd = ctx.saved_tensors
    x_dtype, residual_dtype, weight_dtype, bias_dtype = ctx.dtypes
    if dy is None and dtotal is None:
        return (None,) * 9
    dweight = dbias = None
    if dy is None:  # only the sum was used: its gradient passes the addition unchanged
        dx, dresidual = dtotal.to(x_dtype), dtotal.to(residual_dtype)
    else:
        parameters = 2 if ctx.needs_input_grad[3] else int(ctx.needs_input_grad[2])
        dx, dresidual, dparameters = norm_backward(
            dy, x, weight, mean, rstd, dtotal, ctx.kind, ctx.eps, ctx.offset, x_dtype, residual_dtype or x_dtype,
            parameters,
        )  # fmt: skip
        dresidual = dx if residual_dtype == x_dtype else dresidual
        if ctx.needs_input_grad[2]:
            dweight = dparameters[0].to(weight_dtype)
        if ctx.needs_input_grad[3]:
            dbias = dparameters[1].to(bias_dtype)
    return dx, dresidual if residual_dtype else None, dweight, dbias, None, None, None, None, None


norm.register_autograd(_gradients, setup_context=_save)


def _save_for_second(ctx, inputs, output):
    dy, x, weight, _, _, dtotal, ctx.kind, ctx.eps, ctx.offset, _, _, _ = inputs
    ctx.dtotal_dtype = None if dtotal is None else dtotal.dtype
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*(t for t in output if not t.numel()))
    ctx.save_for_backward(dy, x, weight)


def _second_gradients(ctx, ddx, ddresidual, ddparameters):
    """The second derivative is rare and not fused: autograd takes it of `norms`, where the first is plain torch."""
    if ddx is None and ddresidual is None and ddparameters is None:
        return (None,) * 12
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # views, so that autograd.grad below stops at these three and does not follow how one came from another
        dy, x, weight = inputs = [t if t is None else t.view_as(t) for t in ctx.saved_tensors]
        dy, x, weight = (t if t is None else t.to(torch.promote_types(t.dtype, torch.float32)) for t in inputs)
        if ctx.kind == "layer_norm":
            dx, *dparameters = norms.layer_norm_backward(dy, x, weight, ctx.eps)
        else:
            dx, *dparameters = norms.rms_norm_backward(dy, x, None if weight is None else weight + ctx.offset, ctx.eps)
        pairs = [(dx, ddx), (dx, ddresidual)]
        pairs += [] if ddparameters is None else zip(dparameters, ddparameters)
        outputs, cotangents = zip(*((o, c.to(o.dtype)) for o, c in pairs if c is not None))
        asked = [t for t, needed in zip(inputs, ctx.needs_input_grad) if needed]
        found = iter(torch.autograd.grad(outputs, asked, cotangents, create_graph=differentiable, allow_unused=True))
    gradients = [next(found) if needed else None for needed in ctx.needs_input_grad[:3]]
    dtotal = None
    added = [c.to(ctx.dtotal_dtype) for c in (ddx, ddresidual) if c is not None and ctx.needs_input_grad[5]]
    if added:  # dtotal was added to dx
        dtotal = sum(added)
    return *gradients, None, None, dtotal, None, None, None, None, None, None


norm_backward.register_autograd(_second_gradients, setup_context=_save_for_second)
