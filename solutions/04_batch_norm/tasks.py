"""The tasks of exercise 04: statistics under a mask, running statistics, and BatchNorm over (batch, sequence, feature)."""

import torch
import torch.nn.functional as F

from normcourse.check import Case, Task

from ..shared import BUILT_IN, READY_MADE, between, normal, uniform

# masked_moments ------------------------------------------------------------------------------------------------------


def right_masked_moments(x, mask):
    rows = x[mask]
    return rows.mean(0), rows.var(0, correction=0)


def mask_of(*lengths):
    """True for the first `lengths[i]` positions of sentence i; (sentences, longest)."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def _masked(g, zh, en, lengths, d, filler=0.0, dtype=torch.float64, mean=1.5, std=1.0, mask=None):
    mask = mask_of(*lengths) if mask is None else mask
    x = normal(g, *mask.shape, d, mean=mean, std=std, dtype=dtype)
    x[~mask] = filler
    return Case(zh, en, {"x": x, "mask": mask}, dtype=(dtype, dtype))


def visible_masked_moments(g):
    yield _masked(g, "三个句子，两个有填充", "three sentences, two of them padded", (5, 3, 2), 4)
    yield _masked(g, "没有填充", "no padding", (4, 4), 3)
    yield _masked(g, "填充不是 0", "padding that is not 0", (5, 2, 1), 3, filler=7.0)
    yield _masked(g, "填充里是 nan", "nan in the padding", (4, 1, 2), 3, filler=float("nan"))
    yield _masked(g, "只有一个真词元", "a single real token", (1,), 5)
    yield _masked(g, "均值远大于标准差", "a mean far above the spread", (6, 3), 4, mean=1e5)
    holes = torch.tensor([[False, True, True, False], [True, False, True, True]])
    yield _masked(g, "填充在前面和中间", "padding in front and in between", (), 3, filler=-2.0, mask=holes)
    yield _masked(
        g, "fp16，数值到 300", "fp16, values up to 300", (40, 25), 3, dtype=torch.float16, mean=200.0, std=40.0
    )


def hidden_masked_moments(g):
    d = between(g, 2, 6)

    def case(en, lengths, **options):
        return _masked(g, en, en, lengths, d, **options)

    a, b, c = between(g, 5, 8), between(g, 2, 4), between(g, 2, 4)
    yield case("three sentences", (a, b, c))
    yield case("no padding", (a, a))
    yield case("padding of another value", (b, a), filler=uniform(g, 3, 9))
    yield case("nan in the padding", (a, b), filler=float("nan"))
    yield case("inf in the padding", (b, a, c), filler=float("inf"))
    yield case("one token", (1,))
    yield case("one sentence of one token", (a, 1))
    yield case("large mean", (a, b), mean=-1e5)
    yield case("holes", (), mask=torch.tensor([[False, True, True], [True, False, True]]), filler=4.0)
    yield case("fp32", (a, c), dtype=torch.float32)
    yield case("fp16", (40, 22), dtype=torch.float16, mean=-200.0, std=40.0)
    yield case("bf16", (24, 9), dtype=torch.bfloat16, mean=0.0, filler=5.0)


# update_running ------------------------------------------------------------------------------------------------------


def right_update_running(running_mean, running_var, x, momentum=0.1):
    mean, var = running_mean.clone(), running_var.clone()
    F.batch_norm(x.reshape(-1, x.shape[-1]), mean, var, training=True, momentum=momentum)
    return mean, var


def _running(g, zh, en, *shape, momentum=None, dtype=torch.float64, mean=1.0, std=2.0, fresh=False):
    d = shape[-1]
    old_mean, old_var = normal(g, d, dtype=dtype), normal(g, d, dtype=dtype).square() + 0.5
    if fresh:
        old_mean, old_var = torch.zeros(d, dtype=dtype), torch.ones(d, dtype=dtype)
    inputs = {"running_mean": old_mean, "running_var": old_var}
    inputs["x"] = normal(g, *shape, mean=mean, std=std, dtype=dtype)
    return Case(zh, en, inputs | ({} if momentum is None else {"momentum": momentum}), dtype=(dtype, dtype))


def visible_update_running(g):
    yield _running(g, "两句，每句三个词元", "two sentences of three tokens", 2, 3, 4)
    yield _running(g, "momentum = 0.5", "momentum = 0.5", 3, 2, 3, momentum=0.5)
    yield _running(g, "从 0 和 1 开始", "starting from 0 and 1", 2, 4, 5, fresh=True)
    yield _running(g, "一个矩阵", "a matrix", 6, 3)
    yield _running(g, "momentum = 1：只剩这一批", "momentum = 1: only this batch is left", 2, 2, 3, momentum=1.0)
    yield _running(g, "momentum = 0：什么也不变", "momentum = 0: nothing changes", 2, 3, 3, momentum=0.0)
    yield _running(g, "两个词元", "two tokens", 1, 2, 4)
    yield _running(g, "fp32", "fp32", 4, 8, 6, dtype=torch.float32)


def hidden_update_running(g):
    b, t, d = between(g, 2, 4), between(g, 2, 5), between(g, 2, 6)
    yield _running(g, "three dimensions", "three dimensions", b, t, d)
    yield _running(g, "momentum", "momentum", b, t, d, momentum=uniform(g, 0.3, 0.8))
    yield _running(g, "fresh", "fresh", b, t, d, fresh=True)
    yield _running(g, "matrix", "matrix", b * t, d)
    yield _running(g, "four dimensions", "four dimensions", 2, b, t, d)
    yield _running(g, "momentum 1", "momentum 1", b, t, d, momentum=1.0)
    yield _running(g, "momentum 0", "momentum 0", b, t, d, momentum=0.0)
    yield _running(g, "two tokens", "two tokens", 1, 2, d)
    yield _running(g, "large mean", "large mean", b, t, d, mean=1e4)
    yield _running(g, "fp32", "fp32", b, t, d, dtype=torch.float32)


# batch_norm_sequence -------------------------------------------------------------------------------------------------


def right_batch_norm_sequence(x, weight, bias, eps=1e-5):
    return F.batch_norm(x.transpose(1, 2), None, None, weight, bias, training=True, eps=eps).transpose(1, 2)


def _sequence(g, zh, en, *shape, eps=None, dtype=torch.float64, wide=None, mean=1.0, std=1.0, **options):
    d, wide = shape[-1], wide or dtype
    x = normal(g, *shape, dtype=torch.float64)
    x = std * x * (1 + torch.arange(d) / d) + mean * (1 + torch.arange(d))  # no two features are alike
    inputs = {"x": x.to(dtype), "weight": normal(g, d, mean=1.0, dtype=wide), "bias": normal(g, d, dtype=wide)}
    return Case(zh, en, inputs | ({} if eps is None else {"eps": eps}), **options)


def visible_batch_norm_sequence(g):
    yield _sequence(g, "两句，每句四个词元", "two sentences of four tokens", 2, 4, 6)
    yield _sequence(g, "ε = 0.1", "ε = 0.1", 3, 2, 4, eps=0.1)
    yield _sequence(g, "位置和特征一样多", "as many positions as features", 2, 5, 5)
    yield _sequence(g, "一句", "one sentence", 1, 6, 3)
    yield _sequence(g, "每句一个词元", "sentences of one token", 5, 1, 3)
    yield _sequence(g, "数值很小，不给 ε", "small values, without ε", 3, 4, 2, mean=0.0, std=0.004)
    yield _sequence(g, "梯度", "gradients", 2, 3, 4, eps=0.1, gradients=True)
    yield _sequence(g, "fp32", "fp32", 4, 8, 6, dtype=torch.float32)
    half = {"dtype": torch.float16, "wide": torch.float32}
    yield _sequence(g, "fp16，数值到几百", "fp16, values in the hundreds", 3, 8, 4, mean=60.0, std=40.0, **half)


def hidden_batch_norm_sequence(g):
    b, t, d = between(g, 2, 3), between(g, 4, 5), between(g, 6, 8)
    yield _sequence(g, "plain", "plain", b, t, d)
    yield _sequence(g, "large eps", "large eps", b, t, d, eps=uniform(g, 0.05, 0.2))
    yield _sequence(g, "square", "square", b, t, t)
    yield _sequence(g, "one sentence", "one sentence", 1, t, d)
    yield _sequence(g, "one token each", "one token each", t, 1, d)
    yield _sequence(g, "small values", "small values", b, t, 2, mean=0.0, std=0.004)
    yield _sequence(g, "large mean", "large mean", b, t, d, mean=1e3)
    yield _sequence(g, "gradients", "gradients", b, t, 3, eps=0.1, gradients=True)
    yield _sequence(g, "fp32", "fp32", b, t, d, dtype=torch.float32)
    half = {"dtype": torch.float16, "wide": torch.float32}
    yield _sequence(g, "fp16", "fp16", b, 8, 4, mean=-60.0, std=40.0, **half)
    yield _sequence(g, "constant feature", "constant feature", b, t, 2, std=0.0)


TASKS = [
    Task("masked_moments", right_masked_moments, visible_masked_moments, cases=hidden_masked_moments, points=4),
    Task(
        "update_running",
        right_update_running,
        visible_update_running,
        cases=hidden_update_running,
        points=4,
        without=BUILT_IN,
        closed=READY_MADE,
        varies={"momentum": (0.05, 0.15, 0.2, 0.25, 0.3, 0.4)},
    ),
    Task(
        "batch_norm_sequence",
        right_batch_norm_sequence,
        visible_batch_norm_sequence,
        cases=hidden_batch_norm_sequence,
        points=5,
        without=BUILT_IN,
        closed=READY_MADE,
    ),
]
