"""The tasks of exercise 11: statistics of two ranks merged, and LayerNorm with its features split, forward and backward."""

import torch
import torch.nn.functional as F

from normcourse.check import Case, Task

from ..shared import BUILT_IN, DIFFERENTIATION, READY_MADE, STRICT, along, between, normal

# What would put slices together.

# merge ----------------------------------------------------------------------------------------------------------------


def right_merge(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    count = count_a + count_b
    if count == 0:
        return 0, 0 * mean_a, 0 * squares_a
    mean = (count_a * mean_a + count_b * mean_b) / count
    shifts = count_a * (mean_a - mean).square() + count_b * (mean_b - mean).square()
    return count, mean, squares_a + squares_b + shifts


def _merge(zh, en, g, *counts, tokens=5, mean=0.0, gap=2.0, std=1.0, rounding=None):
    """The means differ by `gap` … 2 · `gap`, so that no term is small by chance."""
    inputs = {}
    first = normal(g, tokens, mean=mean)
    away = gap * (1 + torch.rand(tokens, generator=g)) * (1 - 2.0 * (torch.arange(tokens) % 2))
    for name, count, middle in zip("ab", counts, (first, first + away)):
        squares = count * std**2 * (0.5 + torch.rand(tokens, generator=g))
        inputs |= {f"count_{name}": count, f"mean_{name}": middle * bool(count), f"squares_{name}": squares}
    return Case(zh, en, inputs, dtype=(torch.float32,) * 3, rounding=rounding)


def visible_merge(g):
    yield _merge("5 个数和 3 个数", "5 numbers and 3", g, 5, 3)
    yield _merge("一样多", "equally many", g, 8, 8, mean=1.0)
    yield _merge("只有一个数的一方", "one side with a single number", g, 9, 1)
    yield _merge("第一方是空的", "the first side is empty", g, 0, 6, mean=3.0)
    yield _merge("第二方是空的", "the second side is empty", g, 6, 0, mean=-3.0)
    yield _merge("双方都是空的", "both sides are empty", g, 0, 0)
    yield _merge("均值上千", "means in the thousands", g, 16, 48, mean=1500.0, gap=0.5, std=0.5, rounding=2e-3)
    yield _merge("十万个数和 64 个数", "a hundred thousand and 64", g, 100_000, 64)


def hidden_merge(g):
    n = between(g, 4, 20)
    yield _merge("", "two counts", g, n, n + between(g, 1, 9))
    yield _merge("", "equal counts", g, n, n, mean=-2.0)
    yield _merge("", "first is one", g, 1, n)
    yield _merge("", "first empty", g, 0, n, mean=4.0)
    yield _merge("", "second empty", g, n, 0, mean=4.0)
    yield _merge("", "both empty", g, 0, 0, tokens=3)
    yield _merge("", "large means", g, 32, 32 + n, mean=-1500.0, gap=0.5, std=0.5, rounding=2e-3)
    yield _merge("", "large counts", g, 90_000 + n, 50, tokens=2)


# split_layer_norm -----------------------------------------------------------------------------------------------------


def right_split_layer_norm(slices, weights, biases, eps):
    x, sizes = torch.cat(slices, -1), [part.shape[-1] for part in slices]
    y = F.layer_norm(x, x.shape[-1:], torch.cat(weights), torch.cat(biases), eps)
    return list(y.split(sizes, -1))


def _parts(g, sizes, rows=(4,), mean=0.0, std=1.0, apart=1.0, dtype=torch.float32):
    """Slices whose own means differ by steps of `apart`, in an order that is no order."""
    order = torch.tensor([0.0, 2.0, -1.0, 1.0, -2.0])[: len(sizes)]
    return [
        normal(g, *rows, n, mean=mean + apart * step, std=std, dtype=dtype) for n, step in zip(sizes, order.tolist())
    ]


def _split(zh, en, g, *sizes, eps=1e-5, rounding=None, **options):
    slices = _parts(g, sizes, **options)
    weights = [normal(g, n, mean=1.0, std=0.5) for n in sizes]
    biases = [normal(g, n, mean=0.5) for n in sizes]
    inputs = {"slices": slices, "weights": weights, "biases": biases, "eps": eps}
    dtype = options.get("dtype", torch.float32)
    return Case(zh, en, inputs, rounding=rounding, dtype=(dtype,) * len(sizes))


def visible_split_layer_norm(g):
    half = torch.float16
    yield _split("两个进程，各 4 个特征", "two ranks, 4 features each", g, 4, 4)
    yield _split("四个进程", "four ranks", g, 3, 3, 3, 3)
    yield _split("各段不一样宽", "slices of different widths", g, 2, 6, 3, apart=2.0)
    yield _split("ε = 0.1", "ε = 0.1", g, 4, 5, eps=0.1, std=0.3, apart=0.1)
    yield _split("只有一个进程", "a single rank", g, 7)
    yield _split("每个进程一个特征", "one feature on each rank", g, 1, 1, 1, 1)
    yield _split("批 × 序列 × 特征", "batch × sequence × feature", g, 4, 2, rows=(2, 3))
    yield _split("均值是标准差的两千倍", "a mean of 2000 standard deviations", g, 8, 8, mean=2000.0, rounding=3e-3)
    yield _split("fp16，数值到 500", "fp16, values up to 500", g, 8, 5, mean=200.0, std=90.0, dtype=half)


def hidden_split_layer_norm(g):
    d, half = between(g, 3, 7), torch.float16
    yield _split("", "two ranks", g, d, d)
    yield _split("", "four ranks", g, d, d, d, d, mean=1.0)
    yield _split("", "different widths", g, d, 2 * d + 1, 2, apart=2.0)
    yield _split("", "five ranks", g, 2, d, 1, 3, 4)
    yield _split("", "eps", g, d, d + 1, eps=0.05 + float(torch.rand((), generator=g)), std=0.3, apart=0.1)
    yield _split("", "one rank", g, 2 * d)
    yield _split("", "one feature each", g, 1, 1, 1)
    yield _split("", "three dimensions", g, d, 2, rows=(2, 2))
    yield _split("", "large mean", g, 6 + d, 6 + d, mean=-2000.0, rounding=3e-3)
    yield _split("", "fp16", g, 9, d, mean=-200.0, std=90.0, dtype=half)


# split_layer_norm_backward --------------------------------------------------------------------------------------------


def right_split_layer_norm_backward(dys, slices, weights, eps):
    with torch.enable_grad():
        x = torch.cat(slices, -1).detach().requires_grad_()
        y = F.layer_norm(x, x.shape[-1:], torch.cat(weights), None, eps)
        (dx,) = torch.autograd.grad(y, x, torch.cat(dys, -1))
    return list(dx.split([part.shape[-1] for part in slices], -1))


def _back(zh, en, g, *sizes, eps=1e-5, **options):
    slices = _parts(g, sizes, **options)
    rows, dtype = slices[0].shape[:-1], options.get("dtype", torch.float32)
    dys = [normal(g, *rows, n, mean=0.5, dtype=dtype) for n in sizes]
    weights = [normal(g, n, mean=1.0, std=0.5, dtype=dtype) for n in sizes]
    inputs = {"dys": dys, "slices": slices, "weights": weights, "eps": eps}
    return Case(zh, en, inputs, dtype=(dtype,) * len(sizes))


def visible_split_layer_norm_backward(g):
    yield _back("两个进程，各 4 个特征", "two ranks, 4 features each", g, 4, 4)
    yield _back("四个进程", "four ranks", g, 3, 3, 3, 3)
    yield _back("各段不一样宽", "slices of different widths", g, 2, 6, 3, apart=2.0)
    yield _back("ε = 0.1", "ε = 0.1", g, 4, 5, eps=0.1, std=0.3, apart=0.1)
    yield _back("只有一个进程", "a single rank", g, 7)
    yield _back("批 × 序列 × 特征", "batch × sequence × feature", g, 4, 2, rows=(2, 3))
    yield _back("fp64", "fp64", g, 5, 4, dtype=torch.float64)


def hidden_split_layer_norm_backward(g):
    d, sizes = between(g, 3, 7), (100, 156)
    parts = zip(("dys", "slices", "weights"), along(g, 2, sum(sizes), centred=True))
    inputs = {name: list(whole.split(sizes, -1)) for name, whole in parts}
    yield Case("", "two wide ranks", inputs | {"eps": 1e-5}, rounding=STRICT, dtype=(torch.float64,) * 2)
    yield _back("", "two ranks", g, d, d)
    yield _back("", "four ranks", g, d, d, d, d, mean=1.0)
    yield _back("", "different widths", g, d, 2 * d + 1, 2, apart=2.0)
    yield _back("", "five ranks", g, 2, d, 1, 3, 4)
    yield _back("", "eps", g, d, d + 1, eps=0.05 + float(torch.rand((), generator=g)), std=0.3, apart=0.1)
    yield _back("", "one rank", g, 2 * d)
    yield _back("", "three dimensions", g, d, 2, rows=(2, 2))
    yield _back("", "fp64", g, d, 4, dtype=torch.float64)


TASKS = [
    Task("merge", right_merge, visible_merge, cases=hidden_merge, points=4),
    Task(
        "split_layer_norm",
        right_split_layer_norm,
        visible_split_layer_norm,
        cases=hidden_split_layer_norm,
        points=5,
        without=BUILT_IN,
        closed=READY_MADE,
    ),
    Task(
        "split_layer_norm_backward",
        right_split_layer_norm_backward,
        visible_split_layer_norm_backward,
        cases=hidden_split_layer_norm_backward,
        points=5,
        without=(*BUILT_IN, *DIFFERENTIATION),
        closed=READY_MADE,
    ),
]
