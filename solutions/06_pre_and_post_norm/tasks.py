"""The tasks of exercise 06: four placements, a mislabelled listing, training at equal depth, the first warm-up
schedule, and the identity path beside the whole gradient."""

import math

import torch
import torch.nn.functional as F

from normcourse import residual
from normcourse.check import Case, Function, Task

from ..shared import between, normal


def norm_with(weight):
    return Function("layer_norm", weight)


def matrix(g, d, gain=1.0, dtype=torch.float64):
    return normal(g, d, d, std=gain / d**0.5, dtype=dtype)


def weight(g, d, dtype=torch.float64):
    return normal(g, d, mean=1.0, std=0.5, dtype=dtype)


# wire ----------------------------------------------------------------------------------------------------------------


FORMULAS = {
    "post_norm": lambda x, f, norm, out: norm(x + f(x)),
    "pre_norm": lambda x, f, norm, out: x + f(norm(x)),
    "res_post_norm": lambda x, f, norm, out: x + norm(f(x)),
    "peri_norm": lambda x, f, norm, out: x + out(f(norm(x))),
}


def right_wire(placement, x, f, norm, norm_out=None):
    """The modules of the package, with the case's functions in the place of their parts."""
    block = residual.PLACEMENTS[placement](x.shape[-1], torch.nn.Identity(), norm=lambda d: torch.nn.Identity())
    block.sublayer.forward, block.norm.forward = f, norm
    if norm_out is not None:
        block.norm_out.forward = norm_out
    return block(x)


def visible_wire(g):
    def case(zh, en, placement, *shape, dtype=torch.float64, **options):
        d = shape[-1]
        inputs = {"placement": placement, "x": normal(g, *shape, mean=1.0, dtype=dtype)}
        inputs |= {"f": Function("tanh", matrix(g, d, dtype=dtype)), "norm": norm_with(weight(g, d, dtype))}
        if placement == "peri_norm":
            inputs["norm_out"] = norm_with(weight(g, d, dtype))
        return Case(zh, en, inputs, **options)

    yield case("后置归一化", "Post-Norm", "post_norm", 4, 3)
    yield case("前置归一化", "Pre-Norm", "pre_norm", 4, 3)
    yield case("Res-Post-Norm", "Res-Post-Norm", "res_post_norm", 4, 3)
    yield case("双侧归一化", "Peri-Norm", "peri_norm", 4, 3)
    yield case("后置归一化的梯度", "gradients of Post-Norm", "post_norm", 2, 3, 4, gradients=True)
    yield case("前置归一化的梯度", "gradients of Pre-Norm", "pre_norm", 2, 3, 4, gradients=True)
    yield case("双侧归一化的梯度", "gradients of Peri-Norm", "peri_norm", 5, 3, gradients=True)
    yield case("fp32", "fp32", "res_post_norm", 3, 6, dtype=torch.float32)


def hidden_wire(g):
    def case(en, placement, *shape, dtype=torch.float64, norm=None, **options):
        d = shape[-1]
        inputs = {"placement": placement, "x": normal(g, *shape, mean=-1.0, dtype=dtype)}
        inputs |= {"f": Function("tanh", matrix(g, d, 2.0, dtype)), "norm": norm or norm_with(weight(g, d, dtype))}
        if placement == "peri_norm":
            inputs["norm_out"] = norm_with(weight(g, d, dtype))
        return Case(en, en, inputs, seed=between(g, 0, 2**30), **options)

    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield case("post", "post_norm", rows, d)
    yield case("pre", "pre_norm", rows, d)
    yield case("res-post", "res_post_norm", rows, d)
    yield case("peri", "peri_norm", rows, d)
    for placement in ("post_norm", "pre_norm", "res_post_norm", "peri_norm"):
        yield case(f"gradients of {placement}", placement, 2, rows, d, gradients=True)
    yield case("post with RMSNorm", "post_norm", rows, d, norm=Function("rms_norm"))
    yield case("pre with RMSNorm", "pre_norm", rows, d, norm=Function("rms_norm"))
    yield case("one vector", "post_norm", d)
    yield case("fp32", "peri_norm", rows, 2 * d, dtype=torch.float32)


# post_ln_block -------------------------------------------------------------------------------------------------------


def right_post_ln_block(x, attention, feed_forward, norm1, norm2):
    for f, norm in ((attention, norm1), (feed_forward, norm2)):
        x = right_wire("post_norm", x, f, norm)
    return x


def visible_post_ln_block(g):
    def case(zh, en, *shape, dtype=torch.float64, **options):
        d = shape[-1]
        inputs = {"x": normal(g, *shape, mean=0.5, dtype=dtype)}
        inputs["attention"] = Function("attention", matrix(g, d, dtype=dtype))
        inputs["feed_forward"] = Function("tanh", matrix(g, d, dtype=dtype))
        inputs |= {name: norm_with(weight(g, d, dtype)) for name in ("norm1", "norm2")}
        return Case(zh, en, inputs, **options)

    yield case("一段序列", "one sequence", 5, 3)
    yield case("批 × 序列 × 特征", "batch × sequence × feature", 2, 4, 6)
    yield case("梯度", "gradients", 2, 3, 4, gradients=True)
    yield case("fp32", "fp32", 3, 8, dtype=torch.float32)


def hidden_post_ln_block(g):
    def case(en, *shape, dtype=torch.float64, norms=None, **options):
        d = shape[-1]
        inputs = {"x": normal(g, *shape, mean=1.0, dtype=dtype)}
        inputs["attention"] = Function("attention", matrix(g, d, dtype=dtype))
        inputs["feed_forward"] = Function("tanh", matrix(g, d, 1.5, dtype))
        norms = norms or [norm_with(weight(g, d, dtype)) for _ in range(2)]
        inputs |= {"norm1": norms[0], "norm2": norms[1]}
        return Case(en, en, inputs, seed=between(g, 0, 2**30), **options)

    rows, d = between(g, 3, 6), between(g, 3, 9)
    yield case("sequence", rows, d)
    yield case("batch", 2, rows, d)
    yield case("gradients", rows, d, gradients=True)
    yield case("gradients of a batch", 2, rows, d, gradients=True)
    yield case("two kinds of norm", rows, d, norms=(Function("rms_norm"), norm_with(weight(g, d))))
    yield case("fp32", 2, rows, d, dtype=torch.float32)


# loss_curve ----------------------------------------------------------------------------------------------------------


def right_loss_curve(placement, weights, x, targets, learning_rate, steps):
    """All weights as one tensor, and the layer norm by its formula."""
    stacked, losses = torch.stack(weights).detach().requires_grad_(), []

    def norm(h):
        return (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, unbiased=False, keepdim=True) + 1e-5)

    for step in range(steps + 1):
        h = x
        for w in stacked:
            h = FORMULAS[placement](h, lambda h, w=w: torch.tanh(h) @ w.T, norm, None)
        loss = F.mse_loss(norm(h) if placement == "pre_norm" else h, targets)
        losses.append(loss.item())
        if step < steps:
            loss.backward()
            stacked = (stacked - learning_rate * stacked.grad).detach().requires_grad_()
    return losses


def visible_loss_curve(g):
    def case(zh, en, placement, layers, rows, d, learning_rate, steps):
        inputs = {"placement": placement, "weights": [matrix(g, d) for _ in range(layers)]}
        inputs |= {"x": normal(g, rows, d, dtype=torch.float64), "targets": normal(g, rows, d, dtype=torch.float64)}
        return Case(zh, en, inputs | {"learning_rate": learning_rate, "steps": steps})

    yield case("后置归一化，走 3 步", "Post-Norm, 3 steps", "post_norm", 2, 4, 3, 0.3, 3)
    yield case("前置归一化，走 3 步", "Pre-Norm, 3 steps", "pre_norm", 2, 4, 3, 0.3, 3)
    yield case("一步也不走", "no step at all", "pre_norm", 3, 5, 4, 0.3, 0)
    yield case("6 层，后置归一化", "6 layers, Post-Norm", "post_norm", 6, 8, 5, 0.1, 4)
    yield case("6 层，前置归一化", "6 layers, Pre-Norm", "pre_norm", 6, 8, 5, 0.1, 4)


def hidden_loss_curve(g):
    def case(en, placement, layers, steps):
        rows, d = between(g, 4, 8), between(g, 3, 6)
        inputs = {"placement": placement, "weights": [matrix(g, d) for _ in range(layers)]}
        inputs |= {"x": normal(g, rows, d, dtype=torch.float64), "targets": normal(g, rows, d, dtype=torch.float64)}
        return Case(en, en, inputs | {"learning_rate": 0.05 + 0.3 * float(torch.rand((), generator=g)), "steps": steps})

    for placement in ("post_norm", "pre_norm"):
        yield case(f"{placement}, shallow", placement, 2, between(g, 2, 3))
    for placement in ("post_norm", "pre_norm"):
        yield case(f"{placement}, one layer", placement, 1, 2)
        yield case(f"{placement}, no step", placement, 3, 0)
        yield case(f"{placement}, deep", placement, between(g, 5, 7), 4)


# warmup_rate ---------------------------------------------------------------------------------------------------------


def right_warmup_rate(step, hidden_size, warmup):
    """Through logarithms."""
    t = math.log(step + 1)
    rise = t - 1.5 * math.log(warmup) if warmup else math.inf
    return math.exp(-math.log(hidden_size) / 2 + min(rise, -t / 2))


def visible_warmup_rate(g):
    def case(zh, en, step, hidden_size, warmup):
        return Case(zh, en, {"step": step, "hidden_size": hidden_size, "warmup": warmup})

    yield case("预热途中", "during the warm-up", 99, 512, 4000)
    yield case("预热之后", "after the warm-up", 9999, 512, 4000)
    yield case("第一次更新，step = 0", "the first update, step = 0", 0, 64, 100)
    yield case("第二次更新", "the second update", 1, 64, 100)
    yield case("预热刚好结束", "just at the end of the warm-up", 99, 64, 100)
    yield case("没有预热", "without warm-up", 20, 256, 0)


def hidden_warmup_rate(g):
    def case(en, step, warmup):
        return Case(en, en, {"step": step, "hidden_size": between(g, 32, 1024), "warmup": warmup})

    warmup = between(g, 50, 500)
    yield case("in the warm-up", between(g, warmup // 2, warmup - 10), warmup)
    yield case("after it", warmup + between(g, 5, 5000), warmup)
    yield case("first update", 0, warmup)
    yield case("second update", 1, warmup)
    yield case("at its end", warmup - 1, warmup)
    yield case("one step later", warmup, warmup)
    yield case("no warm-up", between(g, 3, 50), 0)
    yield case("no warm-up, first update", 0, 0)


# identity_path -------------------------------------------------------------------------------------------------------


def right_identity_path(x, branches, norm, dy):
    """Layer by layer, from the last to the first: the norm passes its gradient to the sum, and from there on the ways
    part."""
    states = [x]
    for f in branches:
        states.append(norm(states[-1] + f(states[-1])))

    def back(function, at, gradient):
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at), at, gradient)[0]

    whole = skips = dy
    for f, state in zip(reversed(branches), reversed(states[:-1])):
        whole, skips = (back(norm, state + f(state), gradient) for gradient in (whole, skips))
        whole = whole + back(f, state, whole)
    return whole, skips


def visible_identity_path(g):
    def case(zh, en, layers, *shape, gain=1.0, dtype=torch.float64, norm=None):
        d = shape[-1]
        branches = [Function("tanh", matrix(g, d, gain, dtype)) for _ in range(layers)]
        inputs = {"x": normal(g, *shape, mean=0.5, dtype=dtype), "branches": branches}
        inputs["norm"] = norm or norm_with(weight(g, d, dtype))
        return Case(zh, en, inputs | {"dy": normal(g, *shape, dtype=dtype)})

    yield case("3 层", "3 layers", 3, 4, 5)
    yield case("只有 1 层", "a single layer", 1, 4, 3)
    yield case("8 层，批 × 序列 × 特征", "8 layers, batch × sequence × feature", 8, 2, 3, 6)
    yield case("RMSNorm", "RMSNorm", 3, 4, 5, gain=2.0, norm=Function("rms_norm"))
    yield case("fp32", "fp32", 2, 3, 8, dtype=torch.float32)


def hidden_identity_path(g):
    def case(en, layers, *shape, gain=1.0, dtype=torch.float64, norm=None):
        d = shape[-1]
        branches = [Function("tanh", matrix(g, d, gain, dtype)) for _ in range(layers)]
        inputs = {"x": normal(g, *shape, mean=1.0, dtype=dtype), "branches": branches}
        inputs["norm"] = norm or norm_with(weight(g, d, dtype))
        return Case(en, en, inputs | {"dy": normal(g, *shape, mean=0.5, dtype=dtype)})

    rows, d = between(g, 2, 6), between(g, 4, 9)
    yield case("a few layers", between(g, 3, 5), rows, d)
    yield case("one layer", 1, rows, d)
    yield case("two layers", 2, 2, rows, d)
    yield case("many layers", 12, rows, d, gain=1.5)
    yield case("one vector", 3, d)
    yield case("RMSNorm", 4, rows, d, norm=Function("rms_norm"))
    yield case("fp32", 2, rows, d, dtype=torch.float32)


TASKS = [
    Task(
        "wire",
        right_wire,
        visible_wire,
        cases=hidden_wire,
        points=4,
        closed=("normcourse.residual",),
    ),
    Task(
        "post_ln_block",
        right_post_ln_block,
        visible_post_ln_block,
        cases=hidden_post_ln_block,
        points=3,
        closed=("normcourse.residual",),
    ),
    Task(
        "loss_curve",
        right_loss_curve,
        visible_loss_curve,
        cases=hidden_loss_curve,
        points=5,
        closed=("normcourse.residual",),
    ),
    Task(
        "warmup_rate",
        right_warmup_rate,
        visible_warmup_rate,
        cases=hidden_warmup_rate,
        points=3,
    ),
    Task(
        "identity_path",
        right_identity_path,
        visible_identity_path,
        cases=hidden_identity_path,
        points=4,
        closed=("normcourse.residual",),
    ),
]
ESSAYS = {"pre_or_post": 5}
