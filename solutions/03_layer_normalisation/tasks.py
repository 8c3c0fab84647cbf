"""The tasks of exercise 03: layer normalisation forward and backward, Welford's variance, and merging two of them."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from normcourse.check import Case, Task

from ..shared import BUILT_IN, DIFFERENTIATION, FORMULA, READY_MADE, STRICT, along, between, even, normal

# layer_norm ----------------------------------------------------------------------------------------------------------


def right_layer_norm(x, weight=None, bias=None, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def visible_layer_norm(g):
    x, weight, bias = normal(g, 4, 3, mean=2.0), normal(g, 3, mean=1.0), normal(g, 3)
    yield Case("普通的矩阵", "an ordinary matrix", {"x": x, "weight": weight, "bias": bias, "eps": 1e-5})
    yield Case("ε = 0.1", "ε = 0.1", {"x": x, "weight": weight, "bias": bias, "eps": 0.1})
    yield Case("不给 γ、β 和 ε", "without γ, β and ε", {"x": normal(g, 2, 5, std=0.01)})
    yield Case(
        "批 × 序列 × 特征",
        "batch × sequence × feature",
        {"x": normal(g, 2, 3, 4), "weight": None, "bias": normal(g, 4)},
    )
    yield Case("只有一个向量", "a single vector", {"x": normal(g, 6, mean=-3.0), "weight": normal(g, 6)})
    yield Case(
        "梯度",
        "gradients",
        {"x": normal(g, 5, 3), "weight": normal(g, 3, mean=1.0), "bias": normal(g, 3), "eps": 0.1},
        gradients=True,
    )
    yield Case(
        "fp16，数值到 300", "fp16, values up to 300", {"x": normal(g, 3, 64, mean=100.0, std=80.0, dtype=torch.float16)}
    )
    yield Case("均值 1000，标准差 1", "mean 1000, std 1", {"x": normal(g, 3, 16, mean=1000.0)}, rounding=1e-3)
    yield Case(
        "fp64，均值 1000，标准差 10⁻⁶",
        "fp64, mean 1000, std 10⁻⁶",
        {
            "x": normal(g, 3, 8, mean=1000.0, std=1e-6, dtype=torch.float64),
            "weight": normal(g, 8, mean=1.0, dtype=torch.float64),
        },
        rounding=1e-5,
    )
    yield Case("别的设备", "another device", {"x": normal(g, 2, 8), "weight": normal(g, 8)}, device="meta")


def hidden_layer_norm(g):
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


# layer_norm_backward -------------------------------------------------------------------------------------------------


def right_layer_norm_backward(dy, x, weight, eps=1e-5):
    with torch.enable_grad():
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        bias = torch.zeros_like(weight).requires_grad_()
        y = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
        return torch.autograd.grad(y, (x, weight, bias), dy)


def visible_layer_norm_backward(g):
    def case(zh, en, *shape, mean=0.0, std=1.0, dtype=torch.float64, **options):
        x, dy = normal(g, *shape, mean=mean, std=std, dtype=dtype), normal(g, *shape, dtype=dtype)
        return Case(zh, en, {"dy": dy, "x": x, "weight": normal(g, shape[-1], mean=1.0, dtype=dtype)}, **options)

    yield case("普通的矩阵", "an ordinary matrix", 4, 5, mean=2.0)
    small = case("ε = 0.1", "ε = 0.1", 4, 3)
    yield replace(small, inputs={**small.inputs, "eps": 0.1})
    yield case("批 × 序列 × 特征", "batch × sequence × feature", 2, 3, 4)
    yield case("只有一个向量", "a single vector", 6)
    yield case("很小的输入", "very small inputs", 3, 8, std=1e-4)
    yield case("fp32", "fp32", 4, 16, dtype=torch.float32)


def hidden_layer_norm_backward(g):
    def case(en, *shape, eps=None, dtype=torch.float64, **draw):
        x, dy = normal(g, *shape, dtype=dtype, **draw), normal(g, *shape, dtype=dtype)
        inputs = {"dy": dy, "x": x, "weight": normal(g, shape[-1], mean=1.0, dtype=dtype)}
        return Case(en, en, inputs | ({} if eps is None else {"eps": eps}), rounding=FORMULA[dtype])

    rows, d = between(g, 2, 6), between(g, 3, 9)
    inputs = dict(zip(("dy", "x", "weight"), along(g, 2, 256, centred=True)))
    yield Case("matrix", "matrix", inputs, rounding=STRICT)
    yield case("small matrix", rows, d, mean=1.0)
    yield case("large eps", rows, d, eps=0.05 + float(torch.rand((), generator=g)))
    yield case("three dimensions", 2, rows, d, mean=-1.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("very small inputs", rows, d, std=1e-4)
    yield case("fp32", rows, 32, dtype=torch.float32)
    yield case("large scale", rows, d, std=1e3)


# welford -------------------------------------------------------------------------------------------------------------


def right_welford(x):
    return x.mean(-1), x.var(-1, unbiased=False)


def visible_welford(g):
    yield Case("普通的矩阵", "an ordinary matrix", {"x": normal(g, 4, 7, mean=2.0, dtype=torch.float64)})
    yield Case("批 × 序列 × 特征", "batch × sequence × feature", {"x": normal(g, 2, 3, 5, dtype=torch.float64)})
    yield Case("一个向量，fp32", "a single vector, fp32", {"x": normal(g, 50, mean=-3.0)})
    yield Case("只有一个特征", "a single feature", {"x": normal(g, 3, 1, dtype=torch.float64)})
    yield Case(
        "均值 10000，标准差 1，fp32", "mean 10000, std 1, fp32", {"x": normal(g, 3, 100, mean=1e4)}, rounding=5e-3
    )


def hidden_welford(g):
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


# merge_statistics ----------------------------------------------------------------------------------------------------


def right_merge_statistics(count_a, mean_a, var_a, count_b, mean_b, var_b):
    a, b = count_a / (count_a + count_b), count_b / (count_a + count_b)
    mean = a * mean_a + b * mean_b
    return count_a + count_b, mean, a * (var_a + (mean_a - mean) ** 2) + b * (var_b + (mean_b - mean) ** 2)


def visible_merge_statistics(g):
    def case(zh, en, count_a, count_b, *shape, apart=1.0, dtype=torch.float64, **options):
        mean_a, var_a, var_b = (
            normal(g, *shape, dtype=dtype),
            normal(g, *shape).square().to(dtype),
            normal(g, *shape).square().to(dtype),
        )
        mean_b = mean_a + apart * normal(g, *shape, dtype=dtype)
        inputs = [count_a, mean_a, var_a, count_b, mean_b, var_b]
        return Case(zh, en, dict(zip(("count_a", "mean_a", "var_a", "count_b", "mean_b", "var_b"), inputs)), **options)

    yield case("个数不同", "different counts", 3, 9, 4)
    yield case("个数相同", "equal counts", 8, 8, 2, 3)
    yield case("第一份是空的", "the first part is empty", 0, 5, 3)
    yield case("第二份是空的", "the second part is empty", 5, 0, 3)
    yield case("均值相差很远", "means far apart", 10, 30, 5, apart=100.0)
    yield case("fp32", "fp32", 1000, 24, 6, dtype=torch.float32)


def hidden_merge_statistics(g):
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
    Task(
        "layer_norm",
        right_layer_norm,
        visible_layer_norm,
        cases=hidden_layer_norm,
        points=4,
        without=BUILT_IN,
        closed=READY_MADE,
        varies={"eps": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)},
    ),
    Task(
        "layer_norm_backward",
        right_layer_norm_backward,
        visible_layer_norm_backward,
        cases=hidden_layer_norm_backward,
        points=6,
        without=(*BUILT_IN, *DIFFERENTIATION),
        closed=READY_MADE,
    ),
    Task(
        "welford",
        right_welford,
        visible_welford,
        cases=hidden_welford,
        points=3,
        without=("var", "std", "var_mean", "std_mean", "cov", "batch_norm_stats", "batch_norm_update_stats", *BUILT_IN),
        closed=READY_MADE,
    ),
    Task(
        "merge_statistics",
        right_merge_statistics,
        visible_merge_statistics,
        cases=hidden_merge_statistics,
        points=3,
    ),
]
ESSAYS = {"why_not_batch_norm": 6}
