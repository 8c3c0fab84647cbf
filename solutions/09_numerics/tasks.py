"""The tasks of exercise 09: statistics of half-precision data in chunks, the logarithm of an rms, a quantiser, a bound."""

import math

import torch

from normcourse.check import Case, Task

from ..shared import between, normal

# absorb ---------------------------------------------------------------------------------------------------------------


def right_absorb(count, mean, squares, chunk):
    more, total = chunk.shape[-1], count + chunk.shape[-1]
    theirs = chunk.mean(-1)
    within = (chunk - theirs[..., None]).square().sum(-1)
    between_both = (theirs - mean).square() * count * more / total
    return total, mean + (theirs - mean) * more / total, squares + within + between_both


def _absorb(zh, en, g, *shape, count=10, mean=0.0, std=1.0, dtype=torch.float16, before=None, chunk=None):
    """A chunk has the values m + a and m − a equally often, and m once more where their number is odd: what half
    precision does to its mean and squares is no matter of chance (nothing, unless they overflow)."""
    rows, n = shape[:-1], shape[-1]
    if chunk is None:
        centre = mean + torch.randint(-8, 9, rows, generator=g) / 4
        size = std * 2.0 ** torch.randint(0, 2, rows, generator=g)
        signs = torch.tensor([1.0, -1.0] * (n // 2) + [0.0] * (n % 2))
        chunk = (centre[..., None] + size[..., None] * signs).to(dtype)
    old = normal(g, *rows, mean=mean if before is None else before, std=std) + std
    squares = count * std**2 * (0.5 + torch.rand(rows, generator=g))
    first = {"mean": old, "squares": squares} if count else {"mean": 0 * old, "squares": 0 * squares}
    return Case(zh, en, {"count": count, **first, "chunk": chunk}, dtype=(torch.float32,) * 3)


def _between_two(g):
    """128 numbers in fp16 around 500, where its gap is 1/4, whose mean lies half-way between two of its numbers."""
    steps = torch.randint(-3, 4, (3, 128), generator=g)
    more = (64 - steps.sum(-1, keepdim=True)) % 128
    return (500 + (steps + (torch.arange(128) < more)) / 4).half()


def visible_absorb(g):
    yield _absorb("普通的一块", "an ordinary chunk", g, 4, 6)
    yield _absorb("第一块，前面什么也没有", "the first chunk, nothing before", g, 3, 5, count=0, mean=2.0)
    yield _absorb("批 × 序列 × 特征", "batch × sequence × feature", g, 2, 3, 4, before=-3.0)
    yield _absorb("只有一个数的块", "a chunk of one number", g, 3, 1, count=4)
    yield _absorb("fp16，数值到 300", "fp16, values up to 300", g, 2, 64, mean=100.0, std=128.0)
    yield _absorb("bf16", "bf16", g, 3, 32, mean=1.0, dtype=torch.bfloat16)
    yield _absorb(
        "均值是标准差的一千倍",
        "a mean of a thousand standard deviations",
        g,
        3,
        128,
        mean=500.0,
        std=0.5,
        chunk=_between_two(g),
    )
    yield _absorb("前面已有十万个数", "a hundred thousand numbers before", g, 3, 16, count=100_000)


def hidden_absorb(g):
    d, n = between(g, 4, 9), between(g, 5, 40)
    yield _absorb("", "chunk", g, 3, d, count=n)
    yield _absorb("", "first chunk", g, 2, d, count=0, mean=-3.0)
    yield _absorb("", "three dimensions", g, 2, 3, d, count=n, mean=1.0, before=5.0)
    yield _absorb("", "one row", g, d, count=n)
    yield _absorb("", "one number", g, 4, 1, count=n)
    yield _absorb("", "large numbers in fp16", g, 2, 48, count=n, mean=-150.0, std=128.0)
    yield _absorb("", "bf16", g, 2, 24, count=n, mean=2.0, dtype=torch.bfloat16)
    yield _absorb("", "large mean", g, 3, 128, count=n, mean=500.0, std=0.5, chunk=_between_two(g))
    yield _absorb("", "large count", g, 3, 16, count=90_000 + n)


# log_rms --------------------------------------------------------------------------------------------------------------


def right_log_rms(x):
    largest = x.abs().amax(-1, keepdim=True)
    scale = torch.where(largest > 0, largest, 1.0).detach()
    return scale.squeeze(-1).log() + (x / scale).square().mean(-1).log() / 2


def _log_rms(zh, en, g, *shape, mean=0.0, std=1.0, dtype=torch.float32, zero=False, **options):
    x = normal(g, *shape, dtype=torch.float64)
    x = torch.where(x.abs() < 0.05, 0.5, x)  # nothing near 0: the smallest squares are no matter of chance
    x = (mean + std * x).to(dtype)
    if zero:
        x[0] = 0
    return Case(zh, en, {"x": x}, **options)


def _far_apart(g, d):
    x = normal(g, 3, d, mean=6.0, dtype=torch.float64)
    return (x * torch.tensor([[1e-30], [1.0], [1e30]], dtype=torch.float64)).float()


def visible_log_rms(g):
    yield _log_rms("普通的矩阵", "an ordinary matrix", g, 4, 6, std=3.0)
    yield _log_rms("批 × 序列 × 特征", "batch × sequence × feature", g, 2, 3, 4, std=0.2)
    yield _log_rms("只有一个向量", "a single vector", g, 7, mean=-2.0)
    yield _log_rms("fp32，数值到 10³⁰", "fp32, values up to 10³⁰", g, 3, 8, std=1e30)
    yield _log_rms("fp32，数值小到 10⁻³⁰", "fp32, values down to 10⁻³⁰", g, 3, 8, std=1e-30)
    yield _log_rms("fp16，数值到 20000", "fp16, values up to 20,000", g, 3, 16, std=6000.0, dtype=torch.float16)
    yield _log_rms("fp64，数值到 10²⁰⁰", "fp64, values up to 10²⁰⁰", g, 3, 5, std=1e200, dtype=torch.float64)
    yield _log_rms("有一行全是 0", "one row all zero", g, 3, 4, zero=True)
    yield Case("各行大小悬殊", "rows of very different sizes", {"x": _far_apart(g, 4)})
    yield _log_rms("梯度", "gradients", g, 3, 5, std=2.0, gradients=True)


def hidden_log_rms(g):
    rows, d = between(g, 2, 5), between(g, 3, 9)
    yield _log_rms("", "matrix", g, rows, d, std=2.5)
    yield _log_rms("", "three dimensions", g, 2, rows, d, mean=4.0)
    yield _log_rms("", "one vector", g, d, std=5.0)
    yield _log_rms("", "large numbers", g, rows, d, std=3e30)
    yield _log_rms("", "small numbers", g, rows, d, std=3e-30)
    yield _log_rms("", "fp16", g, rows, 24, std=5000.0, dtype=torch.float16)
    yield _log_rms("", "fp64", g, rows, d, std=1e-200, dtype=torch.float64)
    yield _log_rms("", "a row of zeros", g, rows, d, zero=True)
    yield Case("", "rows of different sizes", {"x": _far_apart(g, d)})
    yield _log_rms("", "gradients", g, rows, d, std=3.0, gradients=True)


# quantise_channels ----------------------------------------------------------------------------------------------------


def right_quantise_channels(x, bits):
    top = 2 ** (bits - 1) - 1
    largest = x.abs().amax(dim=tuple(range(x.dim() - 1)))
    scale = torch.where(largest > 0, largest / top, torch.ones_like(largest))
    return (x / scale).round().to(torch.int8), scale


def _channels(zh, en, g, *shape, bits=8, dtype=torch.float32, zero=False, spread=3.0):
    """Every number lies within 0.4 of a whole multiple of its channel's scale: nothing is a tie, in any order of
    operations; the largest in size is negative in every second channel."""
    top, channels = 2 ** (bits - 1) - 1, shape[-1]
    rows = math.prod(shape[:-1])
    whole = torch.randint(-top + 1, top, (rows, channels), generator=g).double()
    whole = whole + 0.8 * torch.rand((rows, channels), generator=g, dtype=torch.float64) - 0.4
    sign = 1.0 - 2.0 * (torch.arange(channels) % 2)
    whole[0] = top * sign
    if rows > 1:
        whole[1] = -sign * (0.5 * top + 0.3)  # the other sign is smaller
    exponents = torch.linspace(-1, 1, channels, dtype=torch.float64) * spread
    if dtype == torch.float16:  # few digits: keep to multiples of halves of powers of 2
        whole, exponents = (whole * 4).round() / 4, exponents.round()
        whole = torch.where((whole - whole.floor() - 0.5).abs() < 0.2, whole.floor(), whole)
        whole[0] = top * sign
    x = whole * 2.0**exponents / 8
    if zero:
        x[:, 1] = 0
    return Case(zh, en, {"x": x.reshape(shape).to(dtype), "bits": bits}, dtype=(torch.int8, torch.float32))


def visible_quantise_channels(g):
    yield _channels("八比特的矩阵", "a matrix in 8 bits", g, 6, 4)
    yield _channels("四比特", "4 bits", g, 6, 5, bits=4)
    yield _channels("批 × 序列 × 特征", "batch × sequence × feature", g, 2, 3, 4)
    yield _channels("有一个通道全是 0", "a channel of zeros", g, 5, 4, zero=True)
    yield _channels("只有一行", "a single row", g, 1, 6)
    yield _channels("通道的大小悬殊", "channels of very different sizes", g, 8, 6, spread=10.0)
    yield _channels("fp16", "fp16", g, 6, 4, bits=4, dtype=torch.float16)


def hidden_quantise_channels(g):
    rows, d = between(g, 4, 9), between(g, 3, 7)
    yield _channels("", "matrix", g, rows, d)
    yield _channels("", "4 bits", g, rows, d, bits=4)
    yield _channels("", "6 bits", g, rows, d, bits=6)
    yield _channels("", "three dimensions", g, 2, rows, d)
    yield _channels("", "four dimensions", g, 2, 1, rows, d)
    yield _channels("", "channel of zeros", g, rows, d, zero=True)
    yield _channels("", "one row", g, 1, d)
    yield _channels("", "different sizes", g, rows, d, spread=12.0)
    yield _channels("", "fp16", g, rows, d, bits=4, dtype=torch.float16)


# sum_error_bound ------------------------------------------------------------------------------------------------------


def right_sum_error_bound(x, pairwise):
    n, u = x.shape[-1], torch.finfo(x.dtype).eps / 2
    k = (n - 1).bit_length() if pairwise else n - 1
    factor = k * u / (1 - k * u) if k * u < 1 else math.inf
    total = x.double().abs().sum(-1)
    return factor * total if factor < math.inf else torch.full_like(total, math.inf)


def _sums(zh, en, g, *shape, pairwise=False, dtype=torch.float32, mean=0.0, std=1e4):
    """Large numbers: beside them the check's allowance for noise is small."""
    inputs = {"x": normal(g, *shape, mean=mean * std, std=std, dtype=dtype), "pairwise": pairwise}
    return Case(zh, en, inputs, dtype=torch.float64, rounding=1e-7)


def visible_sum_error_bound(g):
    yield _sums("fp32，一个接一个加", "fp32, one after the other", g, 3, 10)
    yield _sums("fp32，两两相加，8 个数", "fp32, pairwise, 8 numbers", g, 3, 8, pairwise=True)
    yield _sums("两两相加，个数不是 2 的幂", "pairwise, not a power of 2", g, 3, 11, pairwise=True)
    yield _sums("批 × 序列 × 特征", "batch × sequence × feature", g, 2, 3, 5)
    yield _sums("一个向量", "one vector", g, 6, mean=-2.0)
    yield _sums("只有一个数", "a single number", g, 3, 1)
    yield _sums("fp16，一千个数", "fp16, a thousand numbers", g, 2, 1000, std=50.0, dtype=torch.float16)
    yield _sums("fp16，数值到 60000", "fp16, values up to 60,000", g, 2, 20, std=15000.0, dtype=torch.float16)
    yield _sums("bf16，三百个数", "bf16, three hundred numbers", g, 2, 300, dtype=torch.bfloat16)
    yield _sums(
        "bf16，三百个数，两两相加", "bf16, three hundred, pairwise", g, 2, 300, pairwise=True, dtype=torch.bfloat16
    )


def hidden_sum_error_bound(g):
    n = between(g, 5, 7)
    yield _sums("", "one after the other", g, 3, n + 4)
    yield _sums("", "pairwise, power of 2", g, 3, 16, pairwise=True)
    yield _sums("", "pairwise", g, 3, n + 13, pairwise=True)
    yield _sums("", "three dimensions", g, 2, 3, n)
    yield _sums("", "one vector", g, n, mean=1.0)
    yield _sums("", "one number", g, 4, 1)
    yield _sums("", "one number, pairwise", g, 4, 1, pairwise=True)
    yield _sums("", "many in fp16", g, 2, 1100 + n, std=50.0, dtype=torch.float16)
    yield _sums("", "large in fp16", g, 2, 24, std=15000.0, dtype=torch.float16)
    yield _sums("", "too many in bf16", g, 2, 300 + n, dtype=torch.bfloat16)
    yield _sums("", "pairwise in bf16", g, 2, 300 + n, pairwise=True, dtype=torch.bfloat16)
    yield _sums("", "fp64", g, 2, n, dtype=torch.float64)


READY = ("var", "std", "var_mean", "std_mean")

TASKS = [
    Task("absorb", right_absorb, visible_absorb, cases=hidden_absorb, points=5, without=READY),
    Task("log_rms", right_log_rms, visible_log_rms, cases=hidden_log_rms, points=4),
    Task(
        "quantise_channels",
        right_quantise_channels,
        visible_quantise_channels,
        cases=hidden_quantise_channels,
        points=4,
    ),
    Task(
        "sum_error_bound",
        right_sum_error_bound,
        visible_sum_error_bound,
        cases=hidden_sum_error_bound,
        points=3,
        widened=False,
    ),
]
