"""Hidden tests of exercise 03: the visible tasks with inputs drawn from the judge's seed."""

from dataclasses import replace

import torch

from normcourse.check import Case

from ..shared import FORMULA, between, even, normal
from .mistakes import LAYER_NORM, LAYER_NORM_BACKWARD, MERGE_STATISTICS, WELFORD


def layer_norm_cases(g):
    def case(en, *shape, gamma=True, beta=True, eps=None, **options):
        draw = {k: options.pop(k) for k in ("mean", "std", "dtype") if k in options}
        dtype = options.pop("parameters", draw.get("dtype", torch.float32))
        inputs = {"x": even(g, *shape, **draw)}
        inputs["weight"] = normal(g, shape[-1], mean=1.0, dtype=dtype) if gamma else None
        inputs["bias"] = normal(g, shape[-1], dtype=dtype) if beta else None
        return Case(en, en, inputs | ({} if eps is None else {"eps": eps}), seed=between(g, 0, 2**30), **options)

    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield case("matrix", rows, d, mean=1.5)
    yield case("large eps", rows, d, eps=0.05 + 0.1 * float(torch.rand((), generator=g)))
    yield case("default eps on small inputs", rows, d, std=0.003, gamma=False)
    yield case("weight only", rows, d, beta=False)
    yield case("bias only", rows, d, gamma=False)
    yield case("three dimensions", 2, rows, d, mean=-2.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("gradients", rows, d, eps=0.1, gradients=True, mean=0.5)
    yield case("gradients in three dimensions, fp64", 2, 3, d, gradients=True, dtype=torch.float64)
    yield case("fp16", 2, 64, mean=150.0, std=300.0, dtype=torch.float16, gamma=False, beta=False)
    yield case("bf16", 2, 64, mean=16.3, dtype=torch.bfloat16, gamma=False, beta=False)
    yield case("large mean", 2, 32, mean=4000.0, std=1.3, gamma=False, beta=False, rounding=2e-3)
    yield case("constant rows", 2, d, std=0.0, mean=3.0)
    yield case("fp64", 2, d, dtype=torch.float64)
    yield case("meta device", 2, 3, d, device="meta")


def layer_norm_backward_cases(g):
    def case(en, *shape, eps=None, dtype=torch.float64, **draw):
        x, dy = normal(g, *shape, dtype=dtype, **draw), normal(g, *shape, dtype=dtype)
        inputs = {"dy": dy, "x": x, "weight": normal(g, shape[-1], mean=1.0, dtype=dtype)}
        return Case(en, en, inputs | ({} if eps is None else {"eps": eps}), rounding=FORMULA[dtype])

    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield case("matrix", rows, d, mean=1.0)
    yield case("large eps", rows, d, eps=0.05 + float(torch.rand((), generator=g)))
    yield case("three dimensions", 2, rows, d, mean=-1.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("very small inputs", rows, d, std=1e-4)
    yield case("fp32", rows, 32, dtype=torch.float32)
    yield case("large scale", rows, d, std=1e3)


def welford_cases(g):
    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield Case("matrix", "matrix", {"x": normal(g, rows, d, mean=1.0, std=2.0, dtype=torch.float64)})
    yield Case("three dimensions", "three dimensions", {"x": normal(g, 2, rows, d, dtype=torch.float64)})
    yield Case("one vector", "one vector", {"x": even(g, d, mean=5.0)})
    yield Case("one feature", "one feature", {"x": normal(g, rows, 1, dtype=torch.float64)})
    yield Case("large mean", "large mean", {"x": normal(g, rows, 64, mean=-8000.0)}, rounding=1e-2)
    yield Case(
        "large mean, fp64", "large mean, fp64", {"x": normal(g, 2, 64, mean=1e8, dtype=torch.float64)}, rounding=1e-6
    )
    yield Case("fp32", "fp32", {"x": normal(g, rows, 40, std=3.0)})


def merge_statistics_cases(g):
    def case(en, count_a, count_b, *shape, apart=1.0, dtype=torch.float64):
        mean_a, gap = normal(g, *shape, dtype=dtype), apart * normal(g, *shape, dtype=dtype)
        var_a, var_b = normal(g, *shape, dtype=dtype).square(), normal(g, *shape, dtype=dtype).square()
        inputs = {"count_a": count_a, "mean_a": mean_a, "var_a": var_a}
        return Case(en, en, inputs | {"count_b": count_b, "mean_b": mean_a + gap, "var_b": var_b})

    a, b, d = between(g, 2, 20), between(g, 21, 60), between(g, 2, 6)
    yield case("different counts", a, b, d)
    yield case("the other way round", b, a, 2, d)
    yield case("equal counts", a, a, d)
    yield case("first empty", 0, b, d)
    yield case("second empty", a, 0, d)
    yield case("far apart", a, b, d, apart=1000.0)
    yield case("fp32", a, b, d, dtype=torch.float32)
    yield case("numbers without dimensions", a, b)


TASKS = [
    replace(LAYER_NORM, cases=layer_norm_cases, points=4),
    replace(LAYER_NORM_BACKWARD, cases=layer_norm_backward_cases, points=6),
    replace(WELFORD, cases=welford_cases, points=3),
    replace(MERGE_STATISTICS, cases=merge_statistics_cases, points=3),
]
ESSAYS = {"why_not_batch_norm": 6}
