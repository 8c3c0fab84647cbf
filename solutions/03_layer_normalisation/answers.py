import math

import torch
from torch.autograd import forward_ad
from torch.nn.functional import layer_norm as an_alias

from normcourse.check import tasks
from normcourse.norms import layer_norm as the_package
from tests.answers import honest, mutant

# layer_norm


def affine(y, weight, bias):
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def widened(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@mutant("layer_norm", "outside the root")
def eps_outside_the_root(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    y = (h - h.mean(dim=-1, keepdim=True)) / (h.std(dim=-1, keepdim=True, correction=0) + eps)
    return affine(y, weight, bias).to(x.dtype)


@mutant("layer_norm", "ε is not used")
def no_eps(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    y = (h - h.mean(dim=-1, keepdim=True)) / h.std(dim=-1, keepdim=True, correction=0)
    return affine(y, weight, bias).to(x.dtype)


@mutant("layer_norm", "fixed at 1e-5")
def eps_fixed(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    y = (h - h.mean(dim=-1, keepdim=True)) / torch.sqrt(h.var(dim=-1, keepdim=True, correction=0) + 1e-5)
    return affine(y, weight, bias).to(x.dtype)


@mutant("layer_norm", "divided by d − 1")
def unbiased(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    y = (h - h.mean(dim=-1, keepdim=True)) / torch.sqrt(h.var(dim=-1, keepdim=True) + eps)
    return affine(y, weight, bias).to(x.dtype)


@mutant("layer_norm", "divided by d − 1")
def unbiased_and_outside(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    return affine((h - h.mean(-1, True)) / (h.std(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "wrong axis")
def over_the_batch(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - h.mean(0)
    return affine(centred / torch.sqrt((centred**2).mean(0) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "over dimension 1")
def only_for_matrices(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - h.mean(1, keepdim=True)
    return affine(centred / torch.sqrt((centred**2).mean(1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "whole tensor")
def over_everything(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    return affine((h - h.mean()) / torch.sqrt(h.var(correction=0) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "square root is missing")
def no_root(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - h.mean(-1, keepdim=True)
    return affine(centred / ((centred**2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "mean is not subtracted")
def not_centred(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    return affine(h / torch.sqrt(h.var(-1, keepdim=True, correction=0) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "RMSNorm")
def rms_norm_instead(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    return affine(h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "scale γ")
def weight_unused(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    return affine((h - h.mean(-1, True)) / torch.sqrt(h.var(-1, correction=0, keepdim=True) + eps), None, bias).to(
        x.dtype
    )


@mutant("layer_norm", "shift β")
def bias_unused(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    return affine((h - h.mean(-1, True)) / torch.sqrt(h.var(-1, correction=0, keepdim=True) + eps), weight, None).to(
        x.dtype
    )


@mutant("layer_norm", "too early")
def bias_before_weight(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    y = (h - h.mean(-1, True)) / torch.sqrt(h.var(-1, correction=0, keepdim=True) + eps)
    y = y if bias is None else y + bias
    return (y if weight is None else y * weight).to(x.dtype)


@mutant("layer_norm", "detached")
def statistics_detached(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    with torch.no_grad():
        mean, var = h.mean(-1, keepdim=True), h.var(-1, keepdim=True, correction=0)
    return affine((h - mean) / torch.sqrt(var + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "half precision")
def no_upcast(x, weight=None, bias=None, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return affine(centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps), weight, bias)


@mutant("layer_norm", "stays in fp32")
def dtype_lost(x, weight=None, bias=None, eps=1e-5):
    h = x.float() if x.dtype == torch.float16 else x
    centred = h - h.mean(-1, keepdim=True)
    return affine(centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps), weight, bias)


@mutant("layer_norm", "E[x²]")
def difference_of_squares(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    mean = h.mean(-1, keepdim=True)
    var = (h * h).mean(-1, keepdim=True) - mean * mean
    return affine((h - mean) / torch.sqrt(var + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "fp64 goes through fp32")
def always_in_fp32(x, weight=None, bias=None, eps=1e-5):
    h = x.to(torch.float32)
    centred = h - h.mean(-1, keepdim=True)
    return affine(centred * torch.rsqrt((centred**2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "fp64 goes through fp32")
def parameters_in_fp32_too(x, weight=None, bias=None, eps=1e-5):
    var, mean = torch.var_mean(x.float(), dim=-1, correction=0, keepdim=True)
    y = (x.float() - mean) / (var + eps) ** 0.5
    return affine(y, None if weight is None else weight.float(), bias).to(x.dtype)


@mutant("layer_norm", "keepdim=True is missing")
def mean_without_keepdim(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - h.mean(-1)
    return affine(centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "keepdim=True is missing")
def variance_without_keepdim(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - h.mean(-1, keepdim=True)
    return affine(centred / torch.sqrt((centred**2).mean(-1) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "neither true nor false")
def if_weight(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    y = (h - h.mean(-1, True)) / torch.sqrt(h.var(-1, correction=0, keepdim=True) + eps)
    if weight:
        y = y * weight
    if bias:
        y = y + bias
    return y.to(x.dtype)


@mutant("layer_norm", "writes to its input")
def edited_in_place(x, weight=None, bias=None, eps=1e-5):
    with torch.no_grad():
        x -= x.mean(-1, keepdim=True)
    h = widened(x)
    return affine(h / torch.sqrt(h.pow(2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@mutant("layer_norm", "without calling PyTorch's layer_norm")
def built_in(x, weight=None, bias=None, eps=1e-5):
    return an_alias(x, x.shape[-1:], weight, bias, eps)


@mutant("layer_norm", "without calling PyTorch's native_layer_norm")
def built_into_aten(x, weight=None, bias=None, eps=1e-5):
    return torch.ops.aten.native_layer_norm(x, [x.shape[-1]], weight, bias, eps)[0]


@mutant("layer_norm", "without calling PyTorch's native_group_norm")
def as_one_group(x, weight=None, bias=None, eps=1e-5):
    rows, d = x.numel() // x.shape[-1], x.shape[-1]
    y = torch.ops.aten.native_group_norm(x.reshape(rows, d), None, None, rows, d, 1, 1, eps)[0]
    return affine(y.reshape(x.shape), weight, bias)


@mutant("layer_norm", "without calling normcourse.norms.layer_norm")
def from_the_package(x, weight=None, bias=None, eps=1e-5):
    return the_package(x, weight, bias, eps)


@mutant("layer_norm")
def through_the_module(x, weight=None, bias=None, eps=1e-5):
    module = torch.nn.LayerNorm(x.shape[-1], eps=eps, dtype=x.dtype)
    return affine(module(x), weight, bias)


@mutant("layer_norm")
def constant(x, weight=None, bias=None, eps=1e-5):
    return torch.zeros_like(x)


@mutant("layer_norm")
def memorised(x, weight=None, bias=None, eps=1e-5):
    task = tasks()["layer_norm"]
    for case, right in zip(task.cases, task.right):
        known = case.inputs["x"]
        if known.shape == x.shape and torch.equal(known, x.detach()):
            return right.results[0].to(x.dtype)
    return x


@mutant("layer_norm")
def device_lost(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - torch.zeros(h.shape[:-1]).unsqueeze(-1) - h.mean(-1, keepdim=True)
    y = affine(centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)
    return torch.zeros(x.shape, dtype=x.dtype) if x.is_meta else y


@mutant("layer_norm")
def trained_parameters_lost(x, weight=None, bias=None, eps=1e-5):
    h = widened(x)
    centred = h - h.mean(-1, keepdim=True)
    y = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    return affine(y, weight if weight is None else weight.data, bias if bias is None else bias.data).to(x.dtype)


@mutant("layer_norm", "None")
def forgot_return(x, weight=None, bias=None, eps=1e-5):
    affine(x, weight, bias)


@honest("layer_norm")
def with_torch_var(inputs, scale=None, shift=None, epsilon=1e-5):
    h = inputs.float() if inputs.element_size() == 2 else inputs
    var, mean = torch.var_mean(h, dim=-1, correction=0, keepdim=True)
    out = (h - mean) * (var + epsilon).rsqrt()
    if scale is not None:
        out = out * scale
    if shift is not None:
        out = out + shift
    return out.type_as(inputs)


@honest("layer_norm")
def row_by_row(x, weight=None, bias=None, eps=1e-5):
    rows = []
    for row in widened(x).reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        rows.append((row - mean) / (variance + eps) ** 0.5)
    return affine(torch.stack(rows).reshape(x.shape), weight, bias).to(x.dtype)


@honest("layer_norm")
def in_place_on_its_own_copy(x, weight=None, bias=None, eps=1e-5):
    y = widened(x).clone()
    y -= y.mean(-1, keepdim=True)
    y = y / y.square().mean(-1, keepdim=True).add_(eps).sqrt_()
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y.to(x.dtype)


@honest("layer_norm")
def as_matrix_products(x, weight=None, bias=None, eps=1e-5):
    h, d = x.double(), x.shape[-1]
    centre = torch.eye(d, dtype=h.dtype, device=h.device) - 1 / d
    centred = h @ centre
    return affine(
        centred * d**0.5 / (torch.linalg.vector_norm(centred, dim=-1, keepdim=True) ** 2 + d * eps).sqrt(), weight, bias
    ).to(x.dtype)


@honest("layer_norm")
def all_in_fp64(x, weight=None, bias=None, eps=1e-5):
    h = x.double()
    centred = h - h.mean(-1, keepdim=True)
    return affine(centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps), weight, bias).to(x.dtype)


@honest("layer_norm")
class AsAFunctionOfItsOwn(torch.autograd.Function):
    """Derivative by hand, called through `apply`."""

    def __new__(cls, x, weight=None, bias=None, eps=1e-5):
        return affine(cls.apply(widened(x), eps), weight, bias).to(x.dtype)

    @staticmethod
    def forward(ctx, x, eps):
        centred = x - x.mean(-1, keepdim=True)
        rstd = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(centred * rstd, rstd)
        return centred * rstd

    @staticmethod
    def backward(ctx, g):
        x_hat, rstd = ctx.saved_tensors
        return rstd * (g - g.mean(-1, keepdim=True) - x_hat * (g * x_hat).mean(-1, keepdim=True)), None


# layer_norm_backward


def normalised(x, eps, **options):
    rstd = 1 / torch.sqrt(x.var(-1, keepdim=True, **(options or {"correction": 0})) + eps)
    return (x - x.mean(-1, keepdim=True)) * rstd, rstd


def over_rows(terms):
    return terms.reshape(-1, terms.shape[-1]).sum(0)


def parts(dy, x, weight, eps, **options):
    x_hat, rstd = normalised(x, eps, **options)
    return x_hat, rstd, dy * weight, over_rows(dy * x_hat), over_rows(dy)


@mutant("layer_norm_backward", "γ is missing")
def backward_without_weight(dy, x, weight, eps=1e-5):
    x_hat, rstd, _, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (dy - dy.mean(-1, True) - x_hat * (dy * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "two terms are missing")
def direct_way_only(dy, x, weight, eps=1e-5):
    _, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * g, dweight, dbias


@mutant("layer_norm_backward", "through the mean is missing")
def without_the_mean(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "through the variance is missing")
def without_the_variance(dy, x, weight, eps=1e-5):
    _, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "not divided by σ")
def without_rstd(dy, x, weight, eps=1e-5):
    x_hat, _, g, dweight, dbias = parts(dy, x, weight, eps)
    return g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True), dweight, dbias


@mutant("layer_norm_backward", "need means")
def sums_for_means(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g - g.sum(-1, True) - x_hat * (g * x_hat).sum(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "d − 1")
def backward_unbiased(dy, x, weight, eps=1e-5):
    x_hat, rstd = normalised(x, eps, correction=1) if x.shape[-1] > 1 else normalised(x, eps)
    g = dy * weight
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat), over_rows(dy)


@mutant("layer_norm_backward", "outside the root")
def backward_eps_outside(dy, x, weight, eps=1e-5):
    rstd = 1 / (x.std(-1, keepdim=True, correction=0) + eps)
    x_hat, g = (x - x.mean(-1, True)) * rstd, dy * weight
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat), over_rows(dy)


@mutant("layer_norm_backward", "normalised x̂")
def dweight_from_x(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, _, dbias = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x), dbias


@mutant("layer_norm_backward", "extra γ")
def dweight_from_g(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, _, _ = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), over_rows(g * x_hat), over_rows(g)


@mutant("layer_norm_backward", "dimension 0 only")
def summed_over_the_first(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, _, _ = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), (dy * x_hat).sum(0), dy.sum(0)


@mutant("layer_norm_backward", "adds up everything")
def summed_over_nothing(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, _, _ = parts(dy, x, weight, eps)
    rows = tuple(range(x.dim() - 1))
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), (dy * x_hat).sum(rows), dy.sum(rows)


@mutant("layer_norm_backward", "too late")
def weight_at_the_end(dy, x, weight, eps=1e-5):
    x_hat, rstd, _, dweight, dbias = parts(dy, x, weight, eps)
    return weight * (rstd * (dy - dy.mean(-1, True) - x_hat * (dy * x_hat).mean(-1, True))), dweight, dbias


@mutant("layer_norm_backward", "Both terms of dx have the wrong sign")
def both_signs(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g + g.mean(-1, True) + x_hat * (g * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "through the mean has the wrong sign")
def sign_of_the_mean(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g + g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "through the variance has the wrong sign")
def sign_of_the_variance(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) + x_hat * (g * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "not divided")
def centred_for_normalised(dy, x, weight, eps=1e-5):
    _, rstd, g, _, dbias = parts(dy, x, weight, eps)
    centred = x - x.mean(-1, keepdim=True)
    dx = rstd * (g - g.mean(-1, True) - centred * (g * centred).mean(-1, True))
    return dx, over_rows(dy * centred), dbias


@mutant("layer_norm_backward", "without the root")
def by_the_variance(dy, x, weight, eps=1e-5):
    centred, g = x - x.mean(-1, keepdim=True), dy * weight
    inverse = 1 / (centred.pow(2).mean(-1, keepdim=True) + eps)
    x_hat = centred * inverse
    dx = inverse * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True))
    return dx, over_rows(dy * x_hat), over_rows(dy)


@mutant("layer_norm_backward", "divide by its root, once")
def dx_by_the_variance(dy, x, weight, eps=1e-5):
    x_hat, _, g, dweight, dbias = parts(dy, x, weight, eps)
    dx = g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)
    return dx / (x.var(-1, keepdim=True, correction=0) + eps), dweight, dbias


@mutant("layer_norm_backward", "ε is not used")
def backward_without_eps(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, 0.0)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "fixed at 1e-5")
def backward_with_the_default_eps(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, 1e-5)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), dweight, dbias


@mutant("layer_norm_backward", "RMSNorm's backward")
def backward_of_rms_norm(dy, x, weight, eps=1e-5):
    rms = (x.pow(2).mean(-1, keepdim=True) + eps) ** 0.5
    x_hat, g = x / rms, dy * weight
    return (g - x_hat * (g * x_hat).mean(-1, True)) / rms, over_rows(dy * x_hat), over_rows(dy)


@mutant("layer_norm_backward", "averaged over the tokens")
def averaged_over_rows(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    tokens = x.numel() // x.shape[-1]
    dx = rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True))
    return dx, dweight / tokens, dbias / tokens


@mutant("layer_norm_backward", "wrong order")
def dbias_before_dweight(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), dbias, dweight


@mutant("layer_norm_backward", "differences")
def central_differences(dy, x, weight, eps=1e-5):
    def loss(flat):
        return (normalised(flat.reshape(x.shape), eps)[0] * weight * dy).sum()

    flat, h = x.flatten(), 1e-6
    steps = h * torch.eye(x.numel(), dtype=x.dtype)
    dx = torch.stack([(loss(flat + step) - loss(flat - step)) / (2 * h) for step in steps])
    return dx.reshape(x.shape), *parts(dy, x, weight, eps)[3:]


@mutant("layer_norm_backward", "without calling")
def by_autograd(dy, x, weight, eps=1e-5):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = normalised(x, eps)[0] * weight
    y.backward(dy)
    return x.grad, weight.grad, over_rows(dy)


@mutant("layer_norm_backward", "without calling PyTorch's native_layer_norm")
def backward_of_aten(dy, x, weight, eps=1e-5):
    size, aten = [x.shape[-1]], torch.ops.aten
    _, mean, rstd = aten.native_layer_norm(x, size, weight, None, eps)
    return aten.native_layer_norm_backward(dy, x, size, mean, rstd, weight, weight, [True] * 3)


@mutant("layer_norm_backward", "without calling PyTorch's native_layer_norm_backward")
def backward_of_aten_alone(dy, x, weight, eps=1e-5):
    _, rstd = normalised(x, eps)
    arguments = dy, x, [x.shape[-1]], x.mean(-1, keepdim=True), rstd, weight, weight, [True] * 3
    return torch.ops.aten.native_layer_norm_backward(*arguments)


@mutant("layer_norm_backward", "without calling PyTorch's make_dual")
def forward_mode(dy, x, weight, eps=1e-5):
    dx, basis = torch.empty_like(x), torch.eye(x.numel(), dtype=x.dtype)
    with forward_ad.dual_level() as level:
        for i, direction in enumerate(basis):
            dual = torch._VF._make_dual(x, direction.reshape(x.shape), level=level)
            slope = forward_ad.unpack_dual(normalised(dual, eps)[0] * weight).tangent
            dx.view(-1)[i] = (slope * dy).sum()
    return dx, *parts(dy, x, weight, eps)[3:]


@mutant("layer_norm_backward", "2 tensors")
def without_dbias(dy, x, weight, eps=1e-5):
    x_hat, rstd, g, dweight, _ = parts(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), dweight


@honest("layer_norm_backward")
def in_three_steps(dy, x, weight, eps=1e-5):
    d = x.shape[-1]
    mean = x.sum(-1, keepdim=True) / d
    centred = x - mean
    sigma = torch.sqrt((centred * centred).sum(-1, keepdim=True) / d + eps)
    dx_hat = dy * weight
    dvar = (dx_hat * centred).sum(-1, keepdim=True) * -0.5 / sigma**3
    dmean = -(dx_hat / sigma).sum(-1, keepdim=True)
    dx = dx_hat / sigma + dvar * 2 * centred / d + dmean / d
    return dx, over_rows(dy * centred / sigma), over_rows(dy)


@honest("layer_norm_backward")
def by_the_jacobian(dy, x, weight, eps=1e-5):
    d, dx = x.shape[-1], torch.empty_like(x)
    for row, out, g in zip(x.reshape(-1, d), dx.view(-1, d), (dy * weight).reshape(-1, d)):
        x_hat, rstd = normalised(row, eps)
        jacobian = rstd * (torch.eye(d, dtype=x.dtype) - 1 / d - torch.outer(x_hat, x_hat) / d)
        out.copy_(jacobian @ g)
    x_hat, _ = normalised(x, eps)
    return dx, torch.einsum("...d,...d->d", dy, x_hat), torch.einsum("...d->d", dy)


@honest("layer_norm_backward")
def as_a_list(grad_output, x, gamma, eps=1e-5):
    x_hat, rstd, g, dweight, dbias = parts(grad_output, x, gamma, eps)
    d = x.shape[-1]
    dx = rstd / d * (d * g - g.sum(-1, True) - x_hat * (g * x_hat).sum(-1, True))
    return [dx, dweight, dbias]


# welford


@mutant("welford", "E[x²]")
def textbook_variance(x):
    mean = x.mean(-1)
    return mean, (x**2).mean(-1) - mean**2


@mutant("welford", "d − 1")
def welford_unbiased(x):
    mean, m = torch.zeros(x.shape[:-1], dtype=x.dtype), torch.zeros(x.shape[:-1], dtype=x.dtype)
    for k in range(x.shape[-1]):
        delta = x[..., k] - mean
        mean = mean + delta / (k + 1)
        m = m + delta * (x[..., k] - mean)
    return mean, m / (x.shape[-1] - 1)


@mutant("welford", "old mean twice")
def old_mean_twice(x):
    mean, m = torch.zeros(x.shape[:-1], dtype=x.dtype), torch.zeros(x.shape[:-1], dtype=x.dtype)
    for k in range(x.shape[-1]):
        delta = x[..., k] - mean
        mean = mean + delta / (k + 1)
        m = m + delta * delta
    return mean, m / x.shape[-1]


@mutant("welford", "new mean twice")
def new_mean_twice(x):
    mean, m = torch.zeros(x.shape[:-1], dtype=x.dtype), torch.zeros(x.shape[:-1], dtype=x.dtype)
    for k in range(x.shape[-1]):
        mean = mean + (x[..., k] - mean) / (k + 1)
        m = m + (x[..., k] - mean) ** 2
    return mean, m / x.shape[-1]


@mutant("welford", "one behind")
def counts_from_zero(x):
    mean, m = torch.zeros(x.shape[:-1], dtype=x.dtype), torch.zeros(x.shape[:-1], dtype=x.dtype)
    for k in range(x.shape[-1]):
        delta = x[..., k] - mean
        mean = mean + delta / max(k, 1)
        m = m + delta * (x[..., k] - mean)
    return mean, m / x.shape[-1]


@mutant("welford", "one behind")
def divides_by_zero(x):
    mean, m = torch.zeros_like(x[..., 0]), torch.zeros_like(x[..., 0])
    for k, value in enumerate(x.unbind(-1)):
        delta = value - mean
        mean = mean + delta / k
        m = m + delta * (value - mean)
    return mean, m / x.shape[-1]


@mutant("welford", "one behind")
def off_by_one(x):
    mean, m = x[..., 0], torch.zeros(x.shape[:-1], dtype=x.dtype)
    for k in range(1, x.shape[-1]):
        delta = x[..., k] - mean
        mean = mean + delta / k
        m = m + delta * (x[..., k] - mean)
    return mean, m / x.shape[-1]


@mutant("welford", "sum M")
def not_divided(x):
    mean = x.mean(-1)
    return mean, ((x - mean[..., None]) ** 2).sum(-1)


@mutant("welford", "standard deviation")
def root_taken(x):
    mean = x.mean(-1)
    return mean, ((x - mean[..., None]) ** 2).mean(-1).sqrt()


@mutant("welford", "last dimension is still there")
def dimension_kept(x):
    mean = x.mean(-1, keepdim=True)
    return mean, ((x - mean) ** 2).mean(-1, keepdim=True)


@mutant("welford", "without calling PyTorch's var")
def calls_var(x):
    return x.mean(-1), x.var(-1, correction=0)


@mutant("welford", "without calling PyTorch's var_mean")
def calls_var_mean(x):
    var, mean = torch.var_mean(x, -1, correction=0)
    return mean, var


@mutant("welford", "without calling PyTorch's var")
def calls_var_of_aten(x):
    return x.mean(-1), torch.ops.aten.var.correction(x, [-1], correction=0)


@mutant("welford", "without calling PyTorch's native_batch_norm_legit")
def calls_batch_norm_of_aten(x):
    columns = x.reshape(-1, x.shape[-1]).T.contiguous()
    _, mean, rstd = torch.ops.aten._native_batch_norm_legit.no_stats(columns, None, None, True, 0.0, 0.0)
    return mean.reshape(x.shape[:-1]).to(x.dtype), rstd.pow(-2).reshape(x.shape[:-1]).to(x.dtype)


@mutant("welford")
def over_the_first_dimension(x):
    mean = x.mean(0)
    return mean, ((x - mean) ** 2).mean(0)


@mutant("welford", "mean, then variance")
def variance_first(x):
    mean = x.mean(-1)
    return ((x - mean[..., None]) ** 2).mean(-1), mean


@honest("welford")
def two_passes(x):
    mean = x.mean(-1)
    return mean, (x - mean.unsqueeze(-1)).square().mean(-1)


@honest("welford")
def row_after_row(x):
    results = []
    for row in x.reshape(-1, x.shape[-1]):
        mean, m = 0.0, 0.0
        for k, value in enumerate(row, 1):
            delta = value - mean
            mean = mean + delta / k
            m = m + delta * (value - mean)
        results.append((mean, m / len(row)))
    means, variances = zip(*results)
    return torch.stack(means).reshape(x.shape[:-1]), torch.stack(variances).reshape(x.shape[:-1])


@honest("welford")
def in_place_on_accumulators(x):
    mean, m = x.new_zeros(x.shape[:-1]), x.new_zeros(x.shape[:-1])
    for k in range(x.size(-1)):
        delta = x.select(-1, k) - mean
        mean += delta / (k + 1)
        m += delta * (x.select(-1, k) - mean)
    return [mean, m.div_(x.size(-1))]


@honest("welford")
def shifted_by_the_first(x):
    first = x[..., :1]
    moved = x - first
    mean = moved.mean(-1)
    return mean + first[..., 0], moved.square().mean(-1) - mean.square()


# merge_statistics


@mutant("merge_statistics", "between the two means")
def no_variance_between(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, (na * va + nb * vb) / n


@mutant("merge_statistics", "half")
def unweighted(na, ma, va, nb, mb, vb):
    mean = (ma + mb) / 2
    return na + nb, mean, (va + vb) / 2 + ((ma - mb) / 2) ** 2


@mutant("merge_statistics", "means count as a half")
def mean_unweighted(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (ma + mb) / 2, (na * va + nb * vb) / n + na * nb / n**2 * (mb - ma) ** 2


@mutant("merge_statistics", "swapped")
def weights_swapped(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (nb * ma + na * mb) / n, (nb * va + na * vb) / n + na * nb / n**2 * (mb - ma) ** 2


@mutant("merge_statistics", "lacks its factor")
def factor_missing(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, (na * va + nb * vb) / n + (mb - ma) ** 2


@mutant("merge_statistics", "it should be n²")
def divided_by_n_once(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, (na * va + nb * vb) / n + na * nb / n * (mb - ma) ** 2


@mutant("merge_statistics", "not squared")
def gap_not_squared(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, (na * va + nb * vb) / n + na * nb / n**2 * (mb - ma)


@mutant("merge_statistics", "not squared")
def gap_without_sign(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, (na * va + nb * vb) / n + na * nb / n**2 * torch.abs(ma - mb)


@mutant("merge_statistics", "added as they are")
def variances_added(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, va + vb + na * nb / n**2 * (mb - ma) ** 2


@mutant("merge_statistics", "count − 1")
def unbiased_at_the_end(na, ma, va, nb, mb, vb):
    n, delta = na + nb, mb - ma
    return n, ma + delta * nb / n, (na * va + nb * vb + delta**2 * na * nb / n) / (n - 1)


@mutant("merge_statistics", "count − 1")
def unbiased_throughout(na, ma, va, nb, mb, vb):
    n, delta = na + nb, mb - ma
    return n, ma + delta * nb / n, ((na - 1) * va + (nb - 1) * vb + delta**2 * na * nb / n) / (n - 1)


@mutant("merge_statistics", "standard deviation")
def std_returned(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, torch.sqrt((na * va + nb * vb) / n + na * nb / n**2 * (mb - ma) ** 2)


@mutant("merge_statistics", "count − 1")
def merged_unbiased(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, ((na - 1) * va + (nb - 1) * vb) / (n - 1) + na * nb / n**2 * (mb - ma) ** 2


@mutant("merge_statistics", "divided by the total")
def divided_by_one_count(na, ma, va, nb, mb, vb):
    n, delta = na + nb, mb - ma
    return n, ma + delta * nb / na, (na * va + nb * vb + delta**2 * na * nb / n) / n


@mutant("merge_statistics", "sum of squares")
def sum_of_squares(na, ma, va, nb, mb, vb):
    n, delta = na + nb, mb - ma
    return n, ma + delta * nb / n, na * va + nb * vb + delta**2 * na * nb / n


@mutant("merge_statistics")
def empty_part_divides(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, (na * va + nb * vb) / n + (mb - ma) ** 2 / (1 / na + 1 / nb) / n


@mutant("merge_statistics")
def standard_deviations_added(na, ma, va, nb, mb, vb):
    n = na + nb
    return n, (na * ma + nb * mb) / n, ((na * va.sqrt() + nb * vb.sqrt()) / n) ** 2


@honest("merge_statistics")
def by_second_moments(na, ma, va, nb, mb, vb):
    n = na + nb
    mean = (na * ma + nb * mb) / n
    return n, mean, (na * (va + (ma - mean) ** 2) + nb * (vb + (mb - mean) ** 2)) / n


@honest("merge_statistics")
def with_sums_of_squares(na, ma, va, nb, mb, vb):
    n, delta = na + nb, mb - ma
    total = na * va + nb * vb + delta * delta * (na * nb) / n
    return float(n), ma + delta * nb / n, total / n


@honest("merge_statistics")
def counts_as_tensors(na, ma, va, nb, mb, vb):
    weights = torch.tensor([na, nb], dtype=ma.dtype) / math.fsum((na, nb))
    means, variances = torch.stack([ma, mb], -1), torch.stack([va, vb], -1)
    mean = means @ weights
    return torch.tensor(na + nb), mean, (variances + (means - mean[..., None]) ** 2) @ weights
