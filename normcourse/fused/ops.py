"""The launches as operators of torch, `normcourse::norm` and `normcourse::norm_backward`, and their derivatives.

`Norm` and `NormBackward` say how each is differentiated, in both directions, and how a batch of calls becomes one
call. Eager calls take them directly, since the way through torch's dispatcher takes as long as a small kernel; where
torch looks on (compile, export, fake tensors, dispatch modes) the operators are called, which come to the same two.
"""

import contextlib
from types import SimpleNamespace

import torch
from torch._functorch.autograd_function import enable_single_level_autograd_function
from torch.autograd.forward_ad import _set_fwd_grad_enabled

from .. import norms
from . import launch

library = torch.library.Library("normcourse", "FRAGMENT")
library.define(
    "norm(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, str kind, float eps, float offset, "
    "ScalarType y_dtype, ScalarType sum_dtype) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
library.define(
    "norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd, Tensor? dtotal, str kind, float eps, "
    "float offset, ScalarType dx_dtype, ScalarType dresidual_dtype, int parameters) -> (Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
LEGACY_VMAP = torch._C._dispatch_key_parse("Batched")  # that of torch.autograd.functional and is_grads_batched
norm, norm_backward = torch.ops.normcourse.norm.default, torch.ops.normcourse.norm_backward.default


def traced(x):
    """Whether somebody is to see the operator and not only its result: a tracer, a mode, a transform of torch.func."""
    if torch.compiler.is_compiling() or (type(x) is not torch.Tensor and type(x) is not torch.nn.Parameter):
        return True
    watched = torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0
    return watched or torch.jit.is_tracing() or torch._C._dispatch_keys(x).has(LEGACY_VMAP)


def _below_autograd(operator, launched, inputs):
    if not traced(inputs[0]):
        return launched(*inputs)
    with _for_transforms_around(), torch._C._AutoDispatchBelowAutograd():
        return operator(*inputs)


@contextlib.contextmanager
def _for_transforms_around():
    """An autograd.Function switches off derivatives within it; those of the transforms around it must go on."""
    if not torch._C._are_functorch_transforms_active():
        yield
        return
    with torch.enable_grad(), _set_fwd_grad_enabled(True):
        yield


def _autograd(function):
    """What the dispatcher does with an operator where a derivative may be asked for. It comes here once for each
    transform of torch.func, so the function must not look for transforms by itself, as its `apply` does."""

    def apply(*inputs):
        with enable_single_level_autograd_function():
            return super(torch.autograd.Function, function).apply(*inputs)

    return apply


class Norm(torch.autograd.Function):
    """y and the sum x + residual; and mean and rstd of each row, which have no derivatives of their own."""

    @staticmethod
    def forward(*inputs):
        return _below_autograd(norm, launch.norm, inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, residual, weight, bias, ctx.kind, ctx.eps, ctx.offset, ctx.y_dtype, ctx.sum_dtype = inputs
        _, total, mean, rstd = output
        ctx.set_materialize_grads(False)  # an output that nobody used has the gradient None, not a tensor of zeros
        ctx.mark_non_differentiable(mean, rstd, *([total] if residual is None else []))
        ctx.save_for_backward(x if residual is None else total, weight, mean, rstd)
        ctx.save_for_forward(x, residual, weight)
        ctx.dtypes = [None if t is None else t.dtype for t in (x, residual, weight, bias)]

    @staticmethod
    def backward(ctx, dy, dtotal, *_):
        x, weight, mean, rstd = ctx.saved_tensors
        x_dtype, residual_dtype, weight_dtype, bias_dtype = ctx.dtypes
        if dy is None and dtotal is None:
            return (None,) * 9
        dweight = dbias = None
        if dy is None:  # only the sum was used: its gradient passes the addition unchanged
            dx, dresidual = dtotal.to(x_dtype), dtotal.to(residual_dtype)
        else:
            parameters = 2 if ctx.needs_input_grad[3] else int(ctx.needs_input_grad[2])
            dtypes = x_dtype, residual_dtype or x_dtype
            inputs = dy, x, weight, mean, rstd, dtotal, ctx.kind, ctx.eps, ctx.offset, *dtypes, parameters
            if torch._C._are_functorch_transforms_active():  # derivatives of any order may follow
                dx, dresidual, dparameters = _backward_in_plain_torch(*inputs)
            else:
                dx, dresidual, dparameters = (norm_backward if traced(dy) else NormBackward.apply)(*inputs)
            dresidual = dx if residual_dtype == x_dtype else dresidual
            if ctx.needs_input_grad[2]:
                dweight = dparameters[0].to(weight_dtype)
            if ctx.needs_input_grad[3]:
                dbias = dparameters[1].to(bias_dtype)
        return dx, dresidual if residual_dtype else None, dweight, dbias, None, None, None, None, None

    @staticmethod
    @_for_transforms_around()
    def jvp(ctx, x_, residual_, weight_, bias_, *_):
        """Along tangents x_, residual_ …: y_ = x̂_·w + x̂·w_ + b_."""
        x, residual, weight = _primals(ctx.saved_tensors)
        wide = launch.computed_in(x.dtype, ctx.sum_dtype)
        total_ = _sum(x_, residual_)
        total = x if residual is None else (x.to(wide) + residual).to(ctx.sum_dtype)
        x_hat, rstd = _normalise(total.to(wide), ctx.kind, ctx.eps)
        y_ = None if total_ is None else _along(total_.to(wide), x_hat, rstd, ctx.kind)
        if y_ is not None and weight is not None:
            y_ = y_ * (weight.to(wide) + ctx.offset)
        y_ = _sum(y_, None if weight_ is None else x_hat * weight_, None if bias_ is None else bias_.expand(x.shape))
        y_ = None if y_ is None else y_.to(ctx.y_dtype)
        return y_, None if residual is None or total_ is None else total_.to(ctx.sum_dtype), None, None

    @staticmethod
    def vmap(info, dims, x, residual, weight, bias, kind, eps, offset, y_dtype, sum_dtype):
        """A batch is one more leading dimension; weights of its own are multiplied outside of the kernel."""
        x, residual = _batch(info, x, dims[0]), _batch(info, residual, dims[1])
        own = dims[2] is not None or dims[3] is not None
        wide = launch.computed_in(x.dtype, sum_dtype)
        w, b, dtype = (None, None, wide) if own else (weight, bias, y_dtype)
        y, total, mean, rstd = norm(x, residual, w, b, kind, eps, offset, dtype, sum_dtype)
        if own and weight is not None:
            y = y * (_parameter(weight, dims[2], y) + offset)
        if own and bias is not None:
            y = y + _parameter(bias, dims[3], y)
        mean, rstd = (t.reshape(info.batch_size, t.numel() // info.batch_size) for t in (mean, rstd))
        return (y.to(y_dtype), total, mean, rstd), (0, None if residual is None else 0, 0, 0)


class NormBackward(torch.autograd.Function):
    """dx, the same in the dtype of the residual, and the gradients of the parameters. mean and rstd follow from x."""

    @staticmethod
    def forward(*inputs):
        return _below_autograd(norm_backward, launch.norm_backward, inputs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        dy, x, weight, _, rstd, dtotal, ctx.kind, ctx.eps, ctx.offset, *ctx.dtypes, ctx.parameters = inputs
        ctx.wide, ctx.same = rstd.dtype, ctx.dtypes[0] == ctx.dtypes[1]
        ctx.dtotal_dtype = None if dtotal is None else dtotal.dtype
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(t for t in output if not t.numel()))
        ctx.save_for_backward(dy, x, weight)
        ctx.save_for_forward(dy, x, weight)

    @staticmethod
    def backward(ctx, ddx, ddresidual, ddparameters):
        """The second derivative is rare and not fused: autograd takes it of the first in plain torch."""
        dy, x, weight = ctx.saved_tensors
        cotangents = [ddx, ddresidual, ddparameters]
        if all(c is None for c in cotangents):
            return (None,) * 12

        def plain(*tensors):
            return tuple(o for o, c in zip(NormBackward.plain(ctx, *tensors), cotangents) if c is not None)

        _, pull = torch.func.vjp(plain, *(t for t in (dy, x, weight) if t is not None))
        found = [*pull(tuple(c for c in cotangents if c is not None)), None][:3]
        found = [t if needed else None for t, needed in zip(found, ctx.needs_input_grad)]
        dtotal = None
        if ctx.needs_input_grad[5]:  # dtotal was added to dx
            dtotal = _sum(*(c.to(ctx.dtotal_dtype) for c in (ddx, ddresidual) if c is not None))
        return *found, None, None, dtotal, None, None, None, None, None, None

    @staticmethod
    @_for_transforms_around()
    def jvp(ctx, dy_, x_, weight_, _, __, dtotal_, *___):
        """Along tangents dy_, x_ …: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) + dtotal, each factor in turn."""
        dy, x, weight = (None if t is None else t.to(ctx.wide) for t in _primals(ctx.saved_tensors))
        x_hat, rstd = _normalise(x, ctx.kind, ctx.eps)
        w = 1.0 if weight is None else weight + ctx.offset
        g, zero = dy * w, torch.zeros_like(dy)
        dy_ = zero if dy_ is None else dy_.to(ctx.wide)
        x_hat_ = zero if x_ is None else _along(x_.to(ctx.wide), x_hat, rstd, ctx.kind)
        g_ = dy_ * w + (zero if weight_ is None else dy * weight_)

        dx_ = _along(g_, x_hat, rstd, ctx.kind) - rstd * (x_hat_ * _mean(g * x_hat) + x_hat * _mean(g * x_hat_))
        if x_ is not None:  # rstd_ = −rstd²·mean(x̂·x_)
            dx_ = dx_ - rstd * _mean(x_hat * x_) * _along(g, x_hat, rstd, ctx.kind)
        dx_ = dx_ if dtotal_ is None else dx_ + dtotal_
        sums = [(dy_ * x_hat + dy * x_hat_).reshape(-1, x.shape[-1]).sum(0), dy_.reshape(-1, x.shape[-1]).sum(0)]
        dparameters_ = torch.stack(sums[: ctx.parameters]) if ctx.parameters else None
        return dx_.to(ctx.dtypes[0]), None if ctx.same else dx_.to(ctx.dtypes[1]), dparameters_

    @staticmethod
    def plain(ctx, dy, x, weight=None):
        """The first derivative in plain torch."""
        dy, x = dy.to(ctx.wide), x.to(ctx.wide)
        weight = None if weight is None else weight.to(ctx.wide) + ctx.offset
        if ctx.kind == "layer_norm":
            dx, *dparameters = norms.layer_norm_backward(dy, x, weight, ctx.eps)
        else:
            dx, *dparameters = norms.rms_norm_backward(dy, x, weight, ctx.eps)
        return dx.to(ctx.dtypes[0]), dx.to(ctx.dtypes[1]), torch.stack(dparameters)[: ctx.parameters]

    @staticmethod
    def vmap(info, dims, dy, x, weight, mean, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters):
        """As `Norm.vmap`; the sums over rows, one for each call of the batch, are made outside of the kernel."""
        tensors = (dy, x, mean, rstd, dtotal)
        dy, x, mean, rstd, dtotal = (_batch(info, t, dims[i]) for t, i in zip(tensors, (0, 1, 3, 4, 5)))
        g, w = dy, weight
        if dims[2] is not None:
            g, w = dy.to(rstd.dtype), None
            g = g * (_parameter(weight, dims[2], g) + offset)
        dx, dresidual, _ = norm_backward(
            g, x, w, mean.flatten(), rstd.flatten(), dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, 0
        )
        rows = (info.batch_size, rstd.shape[1], x.shape[-1])
        dy, x = dy.reshape(rows).to(rstd.dtype), x.reshape(rows).to(rstd.dtype)
        centred = x - mean[..., None] if kind == "layer_norm" else x
        sums = [(dy * centred * rstd[..., None]).sum(1), dy.sum(1)]
        return (dx, dresidual, torch.stack(sums, 1)[:, :parameters]), (0, 0 if dresidual.numel() else None, 0)


def _backward_in_plain_torch(dy, x, weight, _, rstd, dtotal, kind, eps, offset, dx_dtype, dresidual_dtype, parameters):
    first = SimpleNamespace(kind=kind, eps=eps, offset=offset, wide=rstd.dtype, parameters=parameters)
    first.dtypes = rstd.dtype, rstd.dtype
    dx, _, dparameters = NormBackward.plain(first, dy, x, weight)
    dx = dx if dtotal is None else dx + dtotal
    return dx.to(dx_dtype), dx.to(dresidual_dtype), dparameters


def _primals(tensors):
    """Without the tangents that are being followed, which the formulas take by themselves."""
    if not torch._C._are_functorch_transforms_active():
        return tensors
    return [None if t is None else torch._VF._unpack_dual(t, 0)[0] for t in tensors]


def _sum(*tensors):
    """The sum of those that are not None, None if all are."""
    given = [t for t in tensors if t is not None]
    return sum(given[1:], given[0]) if given else None


def _mean(x):
    return x.mean(-1, keepdim=True)


def _normalise(x, kind, eps):
    return norms._standardise(x, eps) if kind == "layer_norm" else norms._divide_by_rms(x, eps)


def _along(x_, x_hat, rstd, kind):
    """x̂_, how x̂ changes as x moves along x_; the same matrix, which is symmetric, takes g to dx."""
    centred = x_ - _mean(x_) if kind == "layer_norm" else x_
    return rstd * (centred - x_hat * _mean(x_ * x_hat))


def _batch(info, t, dim):
    """t with the batch as its first dimension."""
    if t is None:
        return None
    return t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)


def _parameter(t, dim, y):
    """A weight or bias, one for each call of the batch or one for all, to go with y (batch, …, N)."""
    t = t.to(y.dtype)
    return t if dim is None else t.movedim(dim, 0).reshape(len(y), *[1] * (y.dim() - 2), y.shape[-1])


for name, function, launched, outputs in (
    ("normcourse::norm", Norm, launch.norm, launch.norm_outputs),
    ("normcourse::norm_backward", NormBackward, launch.norm_backward, launch.norm_backward_outputs),
):
    torch.library.impl(name, ("cpu", "cuda"), launched, lib=library)
    torch.library.register_fake(name, outputs, lib=library)
    torch.library.register_vmap(name, function.vmap, lib=library)
    library.impl(name, _autograd(function), "Autograd")
