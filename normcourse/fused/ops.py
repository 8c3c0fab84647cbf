"""The launches as operators of torch, `normcourse::norm` and `normcourse::norm_backward`, and their derivatives."""

import torch

from .. import norms
from . import launch

norm = torch.library.custom_op(
    "normcourse::norm",
    launch.norm,
    mutates_args=(),
    schema="(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, str kind, float eps, float offset, "
    "ScalarType y_dtype, ScalarType sum_dtype) -> (Tensor, Tensor, Tensor, Tensor)",
)
norm.register_fake(launch.norm_outputs)
norm_backward = torch.library.custom_op(
    "normcourse::norm_backward",
    launch.norm_backward,
    mutates_args=(),
    schema="(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd, Tensor? dtotal, str kind, float eps, "
    "float offset, ScalarType dx_dtype, ScalarType dresidual_dtype, int parameters) -> (Tensor, Tensor, Tensor)",
)
norm_backward.register_fake(launch.norm_backward_outputs)


class Norm(torch.autograd.Function):
    """`norm` for eager calls: the operator's way through torch's dispatcher takes as long as a small kernel."""

    @staticmethod
    def forward(ctx, *inputs):
        output = launch.norm(*inputs)
        _save(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx, *gradients):
        return _gradients(ctx, *gradients, run=norm_backward if torch.is_grad_enabled() else launch.norm_backward)


def _save(ctx, inputs, output):
    x, residual, weight, bias, ctx.kind, ctx.eps, ctx.offset, _, _ = inputs
    _, total, mean, rstd = output
    ctx.set_materialize_grads(False)  # an output that nobody used has the gradient None, not a tensor of zeros
    ctx.mark_non_differentiable(mean, rstd, *([total] if residual is None else []))
    ctx.save_for_backward(x if residual is None else total, weight, mean, rstd)
    ctx.dtypes = [None if t is None else t.dtype for t in (x, residual, weight, bias)]


def _gradients(ctx, dy, dtotal, *_, run=norm_backward):
    x, weight, mean, rstd = ctx.saved_tensors
    x_dtype, residual_dtype, weight_dtype, bias_dtype = ctx.dtypes
    if dy is None and dtotal is None:
        return (None,) * 9
    dweight = dbias = None
    if dy is None:  # only the sum was used: its gradient passes the addition unchanged
        dx, dresidual = dtotal.to(x_dtype), dtotal.to(residual_dtype)
    else:
        parameters = 2 if ctx.needs_input_grad[3] else int(ctx.needs_input_grad[2])
        dx, dresidual, dparameters = run(
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
