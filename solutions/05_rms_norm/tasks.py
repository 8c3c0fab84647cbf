"""The tasks of exercise 05: RMSNorm forward and backward, the share of the mean, and LayerNorm turned into RMSNorm."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from normcourse.check import Case, Task

from ..shared import BUILT_IN, DIFFERENTIATION, FORMULA, READY_MADE, STRICT, along, between, even_squares, normal

# RMSNorm -------------------------------------------------------------------------------------------------------------


class WithWeight(torch.nn.Module):
    """What the right class and the wrong ones have in common."""

    start = torch.ones

    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.eps, self.weight = eps, torch.nn.Parameter(self.start(hidden_size, dtype=torch.float64))


class RightRMSNorm(WithWeight):
    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


def visible_rms_norm(g):
    def case(zh, en, *shape, init=(), gamma=torch.float32, **options):
        draw = {k: options.pop(k) for k in ("mean", "std", "dtype") if k in options}
        state = None if gamma is None else {"weight": normal(g, shape[-1], mean=1.0, dtype=gamma)}
        return Case(zh, en, {"x": normal(g, *shape, **draw)}, init=(shape[-1], *init), state=state, **options)

    yield case("普通的矩阵", "an ordinary matrix", 4, 3, mean=2.0)
    yield case("ε = 0.1", "ε = 0.1", 4, 3, init=(0.1,))
    yield case("刚建好，γ 还没有改", "as constructed, γ untouched", 2, 5, mean=1.0, gamma=None)
    yield case("很小的输入，不给 ε", "very small inputs, without ε", 3, 8, std=0.002)
    yield case("批 × 序列 × 特征", "batch × sequence × feature", 2, 3, 4)
    yield case("只有一个向量", "a single vector", 6, mean=-3.0)
    yield case("梯度", "gradients", 5, 3, init=(0.1,), gradients=True)
    yield case("fp16，数值到 300", "fp16, values up to 300", 3, 64, mean=100.0, std=80.0, dtype=torch.float16)
    yield case("γ 也是 fp16", "γ in fp16 too", 2, 16, dtype=torch.float16, gamma=torch.float16)
    yield case("fp64，数值到 10³⁰", "fp64, values up to 10³⁰", 3, 5, std=1e30, dtype=torch.float64, gamma=torch.float64)
    yield case("别的设备", "another device", 2, 8, device="meta")


def hidden_rms_norm(g):
    def case(en, *shape, eps=None, gamma=torch.float32, **options):
        draw = {k: options.pop(k) for k in ("mean", "std", "dtype") if k in options}
        init = shape[-1:] if eps is None else (shape[-1], eps)
        state = None if gamma is None else {"weight": normal(g, shape[-1], mean=1.0, dtype=gamma)}
        x, seed = even_squares(g, *shape, **draw), between(g, 0, 2**30)
        return Case(en, en, {"x": x}, init=init, state=state, seed=seed, **options)

    rows, d, large = between(g, 2, 6), between(g, 3, 9), 0.05 + 0.1 * float(torch.rand((), generator=g))
    yield case("matrix", rows, d, mean=1.5)
    yield case("large eps", rows, d, eps=large)
    yield case("default eps on small inputs", rows, d, std=0.002)
    yield case("as constructed", rows, d, mean=-1.0, gamma=None)
    yield case("three dimensions", 2, rows, d, mean=-2.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("gradients", rows, d, eps=large, gradients=True, mean=0.5)
    yield case("gradients in three dimensions, fp64", 2, 3, d, gradients=True, dtype=torch.float64, gamma=torch.float64)
    yield case("fp16", 2, 64, mean=150.0, std=100.0, dtype=torch.float16)
    yield case("fp16, weight too", 2, 32, mean=150.0, dtype=torch.float16, gamma=torch.float16)
    # Root mean squares of 4 and 8, and their inverses, are exact in bf16: other rows tell only by chance that the
    # squares were taken in bf16. In fp16 they overflow.
    yield case("bf16", 2, 64, mean=3.2, std=2.4, dtype=torch.bfloat16)
    yield case("rows of zeros", 2, d, std=0.0)
    yield case("fp64", rows, d, mean=1.0, dtype=torch.float64, gamma=torch.float64)
    yield case("meta device", 2, 3, d, device="meta")


# mean_share ----------------------------------------------------------------------------------------------------------


def right_mean_share(x):
    power = x.shape[-1] * x.square().sum(-1)
    return torch.where(power == 0, 0.0, x.sum(-1).square() / power.where(power > 0, 1.0))


def visible_mean_share(g):
    def case(zh, en, *shape, **draw):
        return Case(zh, en, {"x": normal(g, *shape, **{"dtype": torch.float64, **draw})})

    yield case("普通的矩阵", "an ordinary matrix", 4, 3, mean=1.0)
    yield case("批 × 序列 × 特征", "batch × sequence × feature", 2, 3, 5, mean=-0.5)
    yield case("只有一个向量", "a single vector", 6)
    yield case("每行都是常数", "constant rows", 3, 4, mean=-2.0, std=0.0)
    yield case("很小的数", "very small numbers", 2, 5, mean=1e-4, std=1e-4)
    yield case("fp16，数值到 300", "fp16, values up to 300", 3, 64, mean=100.0, std=80.0, dtype=torch.float16)
    rows = normal(g, 3, 4, dtype=torch.float64)
    yield Case("有一行全是 0", "one row all zero", {"x": rows * torch.tensor([[1.0], [0.0], [1.0]])})


def hidden_mean_share(g):
    def case(en, *shape, dtype=torch.float64, **draw):
        return Case(en, en, {"x": even_squares(g, *shape, dtype=dtype, **draw)})

    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield case("matrix", rows, d, mean=0.7)
    yield case("three dimensions", 2, rows, d, mean=-1.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d, mean=0.5)
    yield case("constant rows", rows, d, mean=3.0, std=0.0)
    yield case("large mean", rows, d, mean=100.0)
    yield case("very small numbers", rows, d, mean=1e-5, std=1e-5)
    yield case("fp32", rows, 40, mean=0.1, dtype=torch.float32)
    yield case("fp16", rows, 48, mean=-200.0, std=100.0, dtype=torch.float16)
    yield case("zeros", rows, d, std=0.0, dtype=torch.float32)


# fold_layer_norm -----------------------------------------------------------------------------------------------------


def right_fold_layer_norm(A, a, gamma, beta, W, b):
    centre = torch.eye(len(a), dtype=a.dtype) - 1 / len(a)
    return centre @ A, centre @ a, W @ gamma.diag(), F.linear(beta, W, b)


def visible_fold_layer_norm(g):
    def case(zh, en, inputs, width, outputs, dtype=torch.float64, mean=0.0):
        shapes = {"A": (width, inputs), "a": (width,), "gamma": (width,), "beta": (width,), "W": (outputs, width)}
        shapes["b"] = (outputs,)
        means = {"A": mean, "a": mean, "gamma": 1.0}
        return Case(zh, en, {n: normal(g, *shape, mean=means.get(n, 0.0), dtype=dtype) for n, shape in shapes.items()})

    yield case("各层大小不同", "layers of different sizes", 3, 5, 4)
    yield case("方阵", "square matrices", 4, 4, 4)
    yield case("均值很大", "large means", 6, 8, 2, mean=50.0)
    yield case("只有一个输出", "a single output", 3, 6, 1)
    yield case("fp32", "fp32", 16, 16, 16, dtype=torch.float32)


def hidden_fold_layer_norm(g):
    def case(en, inputs, width, outputs, dtype=torch.float64, mean=0.0):
        draw = lambda *shape, mean=0.0: normal(g, *shape, mean=mean, dtype=dtype)  # noqa: E731
        before = {"A": draw(width, inputs, mean=mean), "a": draw(width, mean=mean)}
        norm = {"gamma": draw(width, mean=1.0), "beta": draw(width)}
        return Case(en, en, before | norm | {"W": draw(outputs, width), "b": draw(outputs)})

    m, d, k = between(g, 2, 4), between(g, 5, 7), between(g, 8, 10)
    yield case("different sizes", m, d, k)
    yield case("square", d, d, d)
    yield case("large means", m, d, m, mean=-30.0)
    yield case("one input", 1, d, k)
    yield case("one output", m, d, 1)
    yield case("one feature", m, 1, k)
    yield case("fp32", 12, 20, 12, dtype=torch.float32)


# rms_norm_backward ---------------------------------------------------------------------------------------------------


def right_rms_norm_backward(dy, x, weight, eps=1e-6):
    with torch.enable_grad():
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        return torch.autograd.grad(F.rms_norm(x, x.shape[-1:], weight, eps), (x, weight), dy)


def visible_rms_norm_backward(g):
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


def hidden_rms_norm_backward(g):
    def case(en, *shape, eps=None, dtype=torch.float64, **draw):
        x, dy = normal(g, *shape, dtype=dtype, **draw), normal(g, *shape, dtype=dtype)
        inputs = {"dy": dy, "x": x, "weight": normal(g, shape[-1], mean=1.0, dtype=dtype)}
        return Case(en, en, inputs | ({} if eps is None else {"eps": eps}), rounding=FORMULA[dtype])

    rows, d = between(g, 2, 6), between(g, 3, 9)
    inputs = dict(zip(("dy", "x", "weight"), along(g, 2, 256, centred=False)))
    yield Case("matrix", "matrix", inputs, rounding=STRICT)
    yield case("small matrix", rows, d, mean=1.0)
    yield case("large eps", rows, d, eps=0.05 + float(torch.rand((), generator=g)))
    yield case("three dimensions", 2, rows, d, mean=-1.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("very small inputs", rows, d, std=1e-4)
    yield case("fp32", rows, 32, dtype=torch.float32)
    yield case("large scale", rows, d, std=1e3)
    yield case("rows of zeros", rows, d, std=0.0)


TASKS = [
    Task(
        "RMSNorm",
        RightRMSNorm,
        visible_rms_norm,
        cases=hidden_rms_norm,
        points=4,
        without=BUILT_IN,
        closed=READY_MADE,
    ),
    Task(
        "mean_share",
        right_mean_share,
        visible_mean_share,
        cases=hidden_mean_share,
        points=3,
    ),
    Task(
        "fold_layer_norm",
        right_fold_layer_norm,
        visible_fold_layer_norm,
        cases=hidden_fold_layer_norm,
        points=4,
    ),
    Task(
        "rms_norm_backward",
        right_rms_norm_backward,
        visible_rms_norm_backward,
        cases=hidden_rms_norm_backward,
        points=5,
        without=(*BUILT_IN, *DIFFERENTIATION),
        closed=READY_MADE,
        varies={"eps": (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)},
    ),
]
