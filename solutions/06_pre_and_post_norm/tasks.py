"""Hidden tests of exercise 06: the visible tasks with inputs drawn from the judge's seed."""

from dataclasses import replace

import torch

from normcourse.check import Case, Function

from ..shared import between, normal
from .mistakes import IDENTITY_PATH, LOSS_CURVE, POST_LN_BLOCK, WARMUP_RATE, WIRE, matrix, norm_with, weight


def wire_cases(g):
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


def post_ln_block_cases(g):
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


def loss_curve_cases(g):
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


def warmup_rate_cases(g):
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


def identity_path_cases(g):
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
    replace(WIRE, cases=wire_cases, points=4),
    replace(POST_LN_BLOCK, cases=post_ln_block_cases, points=3),
    replace(LOSS_CURVE, cases=loss_curve_cases, points=5),
    replace(WARMUP_RATE, cases=warmup_rate_cases, points=3),
    replace(IDENTITY_PATH, cases=identity_path_cases, points=4),
]
ESSAYS = {"pre_or_post": 5}
