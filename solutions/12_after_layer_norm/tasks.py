"""The tasks of exercise 12: QK-norm, DyT forward and backward, and a wiring of one's own with its law of variance."""

import math

import torch
import torch.nn.functional as F

from normcourse.check import Case, Function, Task

from ..shared import DIFFERENTIATION, READY_MADE, STRICT, between, normal, uniform

# qk_norm_logits -------------------------------------------------------------------------------------------------------


def right_qk_norm_logits(q, k, query_weight, key_weight, eps=1e-6):
    d = q.shape[-1]
    q, k = F.rms_norm(q, (d,), query_weight, eps), F.rms_norm(k, (d,), key_weight, eps)
    return q @ k.mT / math.sqrt(d)


def _logits(g, zh, en, *shape, keys=None, eps=None, size=1.0, mean=0.0, dtype=torch.float64, **options):
    """Queries of this shape; `keys` is their number of positions, where it differs."""
    d, others = shape[-1], (*shape[:-2], keys or shape[-2], shape[-1])
    q, k = (normal(g, *s, mean=mean, dtype=torch.float64) for s in (shape, others))
    rows = size * (1 + torch.arange(shape[-2]) / shape[-2])[:, None]  # no two positions are of one size
    inputs = {"q": (q * rows).to(dtype), "k": (size * k).to(dtype)}
    inputs |= {"query_weight": normal(g, d, mean=1.0, dtype=dtype), "key_weight": normal(g, d, mean=1.0, dtype=dtype)}
    return Case(zh, en, inputs | ({} if eps is None else {"eps": eps}), **options)


def visible_qk_norm_logits(g):
    yield _logits(g, "两个头", "two heads", 1, 2, 4, 6)
    yield _logits(g, "键比查询多", "more keys than queries", 2, 2, 3, 4, keys=5)
    yield _logits(g, "ε = 0.1", "ε = 0.1", 1, 3, 4, 5, eps=0.1)
    yield _logits(g, "查询和键有一千那么大", "queries and keys of a thousand", 1, 2, 3, 8, size=1e3)
    yield _logits(g, "很小，不给 ε", "small, without ε", 1, 2, 3, 4, size=1e-3)
    yield _logits(g, "均值不是 0", "a mean that is not 0", 1, 2, 3, 6, mean=2.0)
    yield _logits(g, "没有批和头", "no batch and no heads", 4, 6)
    yield _logits(g, "梯度", "gradients", 1, 2, 3, 4, eps=0.1, gradients=True)
    yield _logits(g, "fp32", "fp32", 2, 4, 8, 16, dtype=torch.float32)


def hidden_qk_norm_logits(g):
    b, h, t, d = between(g, 2, 3), between(g, 2, 4), between(g, 3, 5), between(g, 6, 9)
    yield _logits(g, "plain", "plain", b, h, t, d)
    yield _logits(g, "more keys", "more keys", b, h, t, d, keys=t + 2)
    yield _logits(g, "one query", "one query", b, h, 1, d, keys=t)
    yield _logits(g, "large eps", "large eps", b, h, t, d, eps=uniform(g, 0.05, 0.3))
    yield _logits(g, "large", "large", b, h, t, d, size=uniform(g, 500, 2000))
    yield _logits(g, "small", "small", b, h, t, d, size=1e-3)
    yield _logits(g, "mean", "mean", b, h, t, d, mean=-3.0)
    yield _logits(g, "matrix", "matrix", t, d)
    yield _logits(g, "gradients", "gradients", b, h, t, 4, eps=0.1, gradients=True)
    yield _logits(g, "fp32", "fp32", b, h, t, 16, dtype=torch.float32)


# dyt_backward ---------------------------------------------------------------------------------------------------------


def right_dyt_backward(dy, x, alpha, weight, bias):
    with torch.enable_grad():
        x, alpha, weight, bias = (part.detach().requires_grad_() for part in (x, alpha, weight, bias))
        y = torch.tanh(alpha * x) * weight + bias
        return y.detach(), *torch.autograd.grad(y, (x, alpha, weight, bias), dy)


def _dyt(g, zh, en, *shape, alpha=0.5, size=1.0, dtype=torch.float64, rounding=None):
    d = shape[-1]
    inputs = {"dy": normal(g, *shape, dtype=dtype), "x": normal(g, *shape, std=size, mean=0.3 * size, dtype=dtype)}
    inputs |= {"alpha": torch.tensor([alpha], dtype=dtype), "weight": normal(g, d, mean=1.0, dtype=dtype)}
    inputs["bias"] = normal(g, d, dtype=dtype)
    return Case(zh, en, inputs, rounding=rounding)


def visible_dyt_backward(g):
    yield _dyt(g, "普通的矩阵", "an ordinary matrix", 4, 5)
    yield _dyt(g, "α = 2", "α = 2", 3, 6, alpha=2.0)
    yield _dyt(g, "批 × 序列 × 特征", "batch × sequence × feature", 2, 3, 4)
    yield _dyt(g, "只有一个向量", "a single vector", 6)
    yield _dyt(g, "饱和：x 很大", "saturated: large x", 3, 8, size=4.0)
    yield _dyt(g, "α 是负数", "a negative α", 3, 4, alpha=-0.7)
    yield _dyt(g, "fp32", "fp32", 4, 16, dtype=torch.float32)


def hidden_dyt_backward(g):
    rows, d = between(g, 3, 6), between(g, 4, 9)
    yield _dyt(g, "matrix", "matrix", rows, d, rounding=STRICT)
    yield _dyt(g, "alpha", "alpha", rows, d, alpha=uniform(g, 1.2, 2.5))
    yield _dyt(g, "three dimensions", "three dimensions", 2, rows, d)
    yield _dyt(g, "four dimensions", "four dimensions", 2, 2, rows, d)
    yield _dyt(g, "one vector", "one vector", d)
    yield _dyt(g, "saturated", "saturated", rows, d, size=4.0)
    yield _dyt(g, "negative alpha", "negative alpha", rows, d, alpha=-uniform(g, 0.3, 0.9))
    yield _dyt(g, "square", "square", d, d)
    yield _dyt(g, "fp32", "fp32", rows, 32, dtype=torch.float32)


# sandwich_stack -------------------------------------------------------------------------------------------------------


def right_sandwich_stack(x, branches, skip, scale):
    variances, shape = [x.var(correction=0)], x.shape[-1:]
    for branch in branches:
        x = skip * x + scale * F.layer_norm(branch(F.layer_norm(x, shape)), shape)
        variances.append(skip**2 * variances[-1] + scale**2)
    return x, torch.stack(variances)


def _stack(g, zh, en, depth, *shape, skip=1.0, scale=1.0, kinds=("linear",), size=1.0, mean=0.0, dtype=torch.float64):
    d = shape[-1]
    branches = [
        Function(kinds[i % len(kinds)], normal(g, d, d, std=2 / d**0.5, dtype=dtype)) for i in range(depth)
    ]  # fmt: skip
    inputs = {"x": normal(g, *shape, std=size, mean=mean, dtype=dtype), "branches": branches}
    return Case(zh, en, inputs | {"skip": skip, "scale": scale})


def visible_sandwich_stack(g):
    yield _stack(g, "两个线性分支", "two linear branches", 2, 4, 6, skip=0.8, scale=0.5)
    yield _stack(g, "skip = scale = 1：就是双侧归一化", "skip = scale = 1: Peri-Norm itself", 3, 3, 8)
    yield _stack(g, "tanh 分支", "tanh branches", 2, 2, 3, 6, kinds=("tanh",), skip=0.9, scale=0.4)
    yield _stack(g, "输入很大", "a large input", 2, 4, 6, size=10.0, skip=0.5, scale=2.0)
    yield _stack(g, "输入的均值不是 0", "an input with a mean", 2, 4, 6, mean=3.0, skip=0.7, scale=0.6)
    yield _stack(g, "没有分支", "no branches", 0, 3, 5)
    yield _stack(g, "scale = 0：只剩跳跃连接", "scale = 0: only the skip is left", 2, 3, 4, skip=0.5, scale=0.0)
    yield _stack(g, "fp32", "fp32", 4, 4, 16, skip=0.9, scale=0.3, dtype=torch.float32)


def hidden_sandwich_stack(g):
    d, a, s = between(g, 6, 9), uniform(g, 0.3, 0.8), uniform(g, 0.5, 0.9)
    yield _stack(g, "plain", "plain", 3, 4, d, skip=s, scale=a)
    yield _stack(g, "peri", "peri", 2, 4, d)
    yield _stack(g, "mixed branches", "mixed branches", 4, 2, 3, d, kinds=("tanh", "linear"), skip=s, scale=a)
    yield _stack(g, "large", "large", 2, 4, d, size=20.0, skip=s, scale=3 * a)
    yield _stack(g, "mean", "mean", 2, 4, d, mean=-4.0, skip=s, scale=a)
    yield _stack(g, "none", "none", 0, 3, d)
    yield _stack(g, "one branch", "one branch", 1, 3, d, skip=s, scale=a)
    yield _stack(g, "only the skip", "only the skip", 2, 3, d, skip=s, scale=0.0)
    yield _stack(g, "no skip", "no skip", 2, 3, d, skip=0.0, scale=a)
    yield _stack(g, "one vector", "one vector", 2, 12, skip=s, scale=a)
    yield _stack(g, "fp32", "fp32", 3, 4, 16, skip=s, scale=a, dtype=torch.float32)


TASKS = [
    Task(
        "qk_norm_logits",
        right_qk_norm_logits,
        visible_qk_norm_logits,
        cases=hidden_qk_norm_logits,
        points=4,
        without=("rms_norm", "fused_rms_norm", "fused_rms_norm_backward", "normalize"),  # task 3 needs LayerNorm
        closed=READY_MADE,
    ),
    Task(
        "dyt_backward",
        right_dyt_backward,
        visible_dyt_backward,
        cases=hidden_dyt_backward,
        points=5,
        without=DIFFERENTIATION,
        closed=READY_MADE,
    ),
    Task(
        "sandwich_stack",
        right_sandwich_stack,
        visible_sandwich_stack,
        cases=hidden_sandwich_stack,
        points=4,
        closed=("normcourse.residual", "normcourse.models", "normcourse.theory"),
    ),
]
