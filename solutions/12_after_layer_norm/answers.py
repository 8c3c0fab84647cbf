import math

import torch
import torch.nn.functional as F

from normcourse.norms import dynamic_tanh as the_package
from tests.answers import honest, mutant

# qk_norm_logits


def unit_rms(x, eps, axis=-1):
    return x / torch.sqrt((x * x).mean(axis, keepdim=True) + eps)


@mutant("qk_norm_logits", "√d is missing")
def undivided(q, k, query_weight, key_weight, eps=1e-6):
    return (unit_rms(q, eps) * query_weight) @ (unit_rms(k, eps) * key_weight).transpose(-1, -2)


@mutant("qk_norm_logits", "Divided by d")
def divided_by_d(q, k, query_weight, key_weight, eps=1e-6):
    return undivided(q, k, query_weight, key_weight, eps) / q.shape[-1]


@mutant("qk_norm_logits", "lengths of q and k became 1")
def of_length_one(q, k, query_weight, key_weight, eps=1e-6):
    q, k = (x / ((x * x).sum(-1, keepdim=True) + eps).sqrt() for x in (q, k))
    return (q * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "as in LayerNorm")
def less_its_mean(q, k, query_weight, key_weight, eps=1e-6):
    q, k = (unit_rms(x - x.mean(-1, keepdim=True), eps) for x in (q, k))
    return (q * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "Only q is normalised")
def queries_only(q, k, query_weight, key_weight, eps=1e-6):
    return (unit_rms(q, eps) * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "Nothing is normalised")
def as_before(q, k, query_weight, key_weight, eps=1e-6):
    return (q * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "scales are not used")
def without_scales(q, k, query_weight, key_weight, eps=1e-6):
    return unit_rms(q, eps) @ unit_rms(k, eps).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "same scale")
def one_scale(q, k, query_weight, key_weight, eps=1e-6):
    return undivided(q, k, query_weight, query_weight, eps) / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "outside the root")
def eps_added_later(q, k, query_weight, key_weight, eps=1e-6):
    q, k = (x / ((x * x).mean(-1, keepdim=True) ** 0.5 + eps) for x in (q, k))
    return (q * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "ε is not used")
def without_eps(q, k, query_weight, key_weight, eps=1e-6):
    return undivided(q, k, query_weight, key_weight, 0) / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "fixed number")
def own_eps(q, k, query_weight, key_weight, eps=1e-6):
    return undivided(q, k, query_weight, key_weight, 1e-6) / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "over the positions")
def over_the_sequence(q, k, query_weight, key_weight, eps=1e-6):
    q, k = unit_rms(q, eps, -2), unit_rms(k, eps, -2)
    return (q * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits", "detached")
def constant_size(q, k, query_weight, key_weight, eps=1e-6):
    q, k = (x / (x.detach().square().mean(-1, keepdim=True) + eps).sqrt() for x in (q, k))
    return (q * query_weight) @ (k * key_weight).mT / q.shape[-1] ** 0.5


@mutant("qk_norm_logits")
def two_dimensions_only(q, k, query_weight, key_weight, eps=1e-6):
    q, k = unit_rms(q, eps) * query_weight, unit_rms(k, eps) * key_weight
    return torch.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5


@honest("qk_norm_logits")
def by_einsum(q, k, query_weight, key_weight, eps=1e-6):
    d = q.size(-1)
    scaled = torch.einsum("...td,...sd->...ts", q * (query_weight * key_weight), k)
    sizes = [x.pow(2).sum(-1).div(d).add(eps).rsqrt() for x in (q, k)]
    return scaled * sizes[0].unsqueeze(-1) * sizes[1].unsqueeze(-2) * d**-0.5


@honest("qk_norm_logits")
def by_lengths(q, k, query_weight, key_weight, eps=1e-6):
    d = q.shape[-1]
    q, k = (x * math.sqrt(d) / (torch.sum(x**2, dim=-1, keepdim=True) + d * eps).sqrt() for x in (q, k))
    return torch.matmul(q * query_weight, (k * key_weight).transpose(-2, -1)) / math.sqrt(d)


@honest("qk_norm_logits")
def with_a_helper(q, k, query_weight, key_weight, eps=1e-6):
    def norm(x, weight):
        return weight * x * torch.rsqrt(torch.mean(x.square(), -1, True) + eps)

    return (norm(q, query_weight) * q.shape[-1] ** -0.25) @ (norm(k, key_weight) * k.shape[-1] ** -0.25).mT


# dyt_backward


def summed(terms):
    return terms.reshape(-1, terms.shape[-1]).sum(0)


def parts(dy, x, alpha, weight, bias):
    """y, dx, dalpha, dweight, dbias as they should be."""
    t = torch.tanh(alpha * x)
    g = dy * weight * (1 - t * t)
    return [t * weight + bias, g * alpha, (g * x).sum().reshape(1), summed(dy * t), summed(dy)]


@mutant("dyt_backward", "bias is not added")
def forgets_bias(dy, x, alpha, weight, bias):
    return torch.tanh(alpha * x) * weight, *parts(dy, x, alpha, weight, bias)[1:]


@mutant("dyt_backward", "not multiplied by weight")
def forgets_weight(dy, x, alpha, weight, bias):
    return torch.tanh(alpha * x) + bias, *parts(dy, x, alpha, weight, bias)[1:]


@mutant("dyt_backward", "1 − tanh², is missing")
def straight_line(dy, x, alpha, weight, bias):
    y, _, _, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dy * weight * alpha, (dy * weight * x).sum().view(1), dw, db


@mutant("dyt_backward", "not 1 − tanh")
def not_squared(dy, x, alpha, weight, bias):
    y, _, _, dw, db = parts(dy, x, alpha, weight, bias)
    g = dy * weight * (1 - torch.tanh(alpha * x))
    return y, g * alpha, (g * x).sum().view(1), dw, db


@mutant("dyt_backward", "lacks α")
def inner_derivative(dy, x, alpha, weight, bias):
    y, dx, da, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dx / alpha, da, dw, db


@mutant("dyt_backward", "dx and dα lack weight")
def weightless(dy, x, alpha, weight, bias):
    y, _, _, dw, db = parts(dy, x, alpha, weight, bias)
    g = dy * (1 - torch.tanh(alpha * x) ** 2)
    return y, g * alpha, (g * x).sum().view(1), dw, db


@mutant("dyt_backward", "dα lacks weight")
def alpha_without_weight(dy, x, alpha, weight, bias):
    y, dx, _, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dx, (dy * (1 - torch.tanh(alpha * x) ** 2) * x).sum().view(1), dw, db


@mutant("dyt_backward", "dα lacks x")
def alpha_without_x(dy, x, alpha, weight, bias):
    y, dx, _, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dx, (dx / alpha).sum().view(1), dw, db


@mutant("dyt_backward", "an α too many")
def alpha_twice(dy, x, alpha, weight, bias):
    y, dx, da, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dx, da * alpha, dw, db


@mutant("dyt_backward", "one number per feature")
def alpha_per_feature(dy, x, alpha, weight, bias):
    y, dx, _, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dx, summed(dx * x / alpha), dw, db


@mutant("dyt_backward", "dα was averaged")
def alpha_averaged(dy, x, alpha, weight, bias):
    y, dx, da, dw, db = parts(dy, x, alpha, weight, bias)
    return y, dx, da / x.numel(), dw, db


@mutant("dyt_backward", "dweight has x")
def weight_from_x(dy, x, alpha, weight, bias):
    y, dx, da, _, db = parts(dy, x, alpha, weight, bias)
    return y, dx, da, summed(dy * x), db


@mutant("dyt_backward", "over the first dimension only")
def first_axis(dy, x, alpha, weight, bias):
    y, dx, da, _, _ = parts(dy, x, alpha, weight, bias)
    each = dy * torch.tanh(alpha * x)
    return y, dx, da, each.sum(0) if x.dim() > 1 else each, dy.sum(0) if x.dim() > 1 else dy


@mutant("dyt_backward", "not summed over the rows")
def unsummed(dy, x, alpha, weight, bias):
    y, dx, da, _, _ = parts(dy, x, alpha, weight, bias)
    return y, dx, da, dy * torch.tanh(alpha * x), dy


@mutant("dyt_backward")
def by_autograd(dy, x, alpha, weight, bias):
    inputs = [part.detach().clone().requires_grad_() for part in (x, alpha, weight, bias)]
    y = torch.tanh(inputs[1] * inputs[0]) * inputs[2] + inputs[3]
    return y.detach(), *torch.autograd.grad(y, inputs, dy)


@mutant("dyt_backward")
def by_the_package(dy, x, alpha, weight, bias):
    return the_package(x, alpha, weight, bias), *parts(dy, x, alpha, weight, bias)[1:]


@mutant("dyt_backward")
def by_differences(dy, x, alpha, weight, bias):
    y, _, da, dw, db = parts(dy, x, alpha, weight, bias)
    h = 1e-3
    slope = (torch.tanh(alpha * (x + h)) - torch.tanh(alpha * (x - h))) / (2 * h)
    return y, dy * weight * slope, da, dw, db


@honest("dyt_backward")
def by_cosh(dy, x, alpha, weight, bias):
    z = alpha * x
    slope = torch.cosh(z) ** -2
    rows = tuple(range(x.dim() - 1))
    dweight, dbias = (part.sum(rows) if rows else part for part in (dy * z.tanh(), dy))
    return z.tanh() * weight + bias, dy * weight * alpha * slope, (dy * weight * slope * x).sum()[None], dweight, dbias


@honest("dyt_backward")
def by_einsum_of_rows(dy, x, alpha, weight, bias):
    h, g = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    t = torch.tanh(alpha * h)
    dt = torch.einsum("nd,d->nd", g, weight) * (1 - t.square())
    dalpha = torch.einsum("nd,nd->", dt, h).reshape(alpha.shape)
    y = torch.addcmul(bias, t, weight)
    return y.reshape(x.shape), (alpha * dt).reshape(x.shape), dalpha, torch.einsum("nd,nd->d", g, t), g.sum(dim=0)


@honest("dyt_backward")
def by_exponentials(dy, x, alpha, weight, bias):
    s = torch.sigmoid(2 * alpha * x)
    t, slope = 2 * s - 1, 4 * s * (1 - s)
    dz = weight * dy * slope
    dalpha = (dz * x).flatten().sum(0, keepdim=True)
    return weight * t + bias, dz * alpha, dalpha, summed(dy * t), summed(dy)


# sandwich_stack


def centred(x):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def walked(x, branches, step, law, q=None):
    variances = [((x - x.mean()) ** 2).mean() if q is None else q]
    for f in branches:
        x = step(x, f)
        variances.append(law(variances[-1]))
    return x, torch.stack(variances)


@mutant("sandwich_stack", "in front of the branch is missing")
def reads_the_stream(x, branches, skip, scale):
    return walked(x, branches, lambda x, f: skip * x + scale * centred(f(x)), lambda q: skip**2 * q + scale**2)


@mutant("sandwich_stack", "behind the branch is missing")
def pre_norm(x, branches, skip, scale):
    return walked(x, branches, lambda x, f: skip * x + scale * f(centred(x)), lambda q: skip**2 * q + scale**2)


@mutant("sandwich_stack", "Both norms are missing")
def no_norms(x, branches, skip, scale):
    return walked(x, branches, lambda x, f: skip * x + scale * f(x), lambda q: skip**2 * q + scale**2)


@mutant("sandwich_stack", "scale stands inside")
def scale_inside(x, branches, skip, scale):
    return walked(x, branches, lambda x, f: skip * x + centred(scale * f(centred(x))), lambda q: skip**2 * q + scale**2)


@mutant("sandwich_stack", "as in Post-Norm")
def after_the_sum(x, branches, skip, scale):
    return walked(x, branches, lambda x, f: centred(skip * x + scale * f(centred(x))), lambda q: skip**2 * q + scale**2)


@mutant("sandwich_stack", "skip multiplies the branch")
def skip_on_all(x, branches, skip, scale):
    law = lambda q: skip**2 * q + scale**2  # noqa: E731
    return walked(x, branches, lambda x, f: skip * (x + scale * centred(f(centred(x)))), law)


@mutant("sandwich_stack", "All branches read the first x")
def side_by_side(x, branches, skip, scale):
    first = centred(x)
    return walked(x, branches, lambda x, f: skip * x + scale * centred(f(first)), lambda q: skip**2 * q + scale**2)


def with_law(law):
    return lambda x, branches, skip, scale: walked(
        x, branches, lambda x, f: skip * x + scale * centred(f(centred(x))), lambda q: law(q, skip, scale)
    )


@mutant("sandwich_stack", "no squares")
def no_squares(x, branches, skip, scale):
    return with_law(lambda q, s, a: s * q + a)(x, branches, skip, scale)


@mutant("sandwich_stack", "scale is not squared")
def scale_not_squared(x, branches, skip, scale):
    return with_law(lambda q, s, a: s * s * q + a)(x, branches, skip, scale)


@mutant("sandwich_stack", "law lacks skip")
def law_without_skip(x, branches, skip, scale):
    return with_law(lambda q, s, a: q + a * a)(x, branches, skip, scale)


@mutant("sandwich_stack", "multiplied by q")
def grows_with_q(x, branches, skip, scale):
    return with_law(lambda q, s, a: (s * s + a * a) * q)(x, branches, skip, scale)


@mutant("sandwich_stack", "variances add")
def deviations_add(x, branches, skip, scale):
    return with_law(lambda q, s, a: (s * q.sqrt() + a).square())(x, branches, skip, scale)


def from_start(start):
    def wrong(x, branches, skip, scale):
        step = lambda x, f: skip * x + scale * centred(f(centred(x)))  # noqa: E731
        return walked(x, branches, step, lambda q: skip**2 * q + scale**2, start(x))

    return wrong


@mutant("sandwich_stack", "n − 1")
def sample_variance(x, branches, skip, scale):
    return from_start(lambda x: x.flatten().var())(x, branches, skip, scale)


@mutant("sandwich_stack", "mean square")
def mean_square(x, branches, skip, scale):
    return from_start(lambda x: (x * x).mean())(x, branches, skip, scale)


@mutant("sandwich_stack", "average over rows")
def row_by_row(x, branches, skip, scale):
    return from_start(lambda x: x.var(-1, unbiased=False).mean())(x, branches, skip, scale)


@mutant("sandwich_stack", "start at 1")
def from_one(x, branches, skip, scale):
    return from_start(lambda x: torch.ones_like(x.flatten()[0]))(x, branches, skip, scale)


@mutant("sandwich_stack")
def measured_instead(x, branches, skip, scale):
    variances = [x.var(unbiased=False)]
    for f in branches:
        x = skip * x + scale * centred(f(centred(x)))
        variances.append(x.var(unbiased=False))
    return x, torch.stack(variances)


@honest("sandwich_stack")
def by_functional(x, branches, skip, scale):
    d, q = x.shape[-1], [x.var(unbiased=False)]
    for f in branches:
        h = F.layer_norm(x, (d,))
        x = torch.add(skip * x, F.layer_norm(f(h), [d]), alpha=scale)
        q.append(q[-1] * skip**2 + scale**2)
    return x, torch.stack(q)


@honest("sandwich_stack")
def by_powers(x, branches, skip, scale):
    start, depth = ((x - x.mean()) ** 2).mean(), len(branches)
    law = [skip ** (2 * n) * start + scale**2 * sum(skip ** (2 * i) for i in range(n)) for n in range(depth + 1)]
    for f in branches:
        x = skip * x + scale * centred(f(centred(x)))
    return x, torch.stack(law)


@honest("sandwich_stack")
def by_recursion(x, branches, skip, scale):
    q = torch.var(x, correction=0).reshape(1)
    if not branches:
        return x.clone(), q
    norm = torch.nn.LayerNorm(x.shape[-1], elementwise_affine=False)
    rest, others = by_recursion(x * skip + norm(branches[0](norm(x))) * scale, branches[1:], skip, scale)
    law = [q]
    for _ in others:
        law.append(law[-1] * skip * skip + scale * scale)
    return rest, torch.cat(law[: len(branches) + 1])
