"""The mistakes that people make in exercise 09."""

import math

import torch

from normcourse.check import Mistake

MISTAKES = {}

# absorb --------------------------------------------------------------------------------------------------------------


def _absorb(
    wide=True, one_pass=False, shift="both", weight="share", divide=False, mean_of="chunk", between=True, axis=-1
):
    """The update with mistakes to switch on."""

    def wrong(count, mean, squares, chunk):
        x = chunk.float() if wide is True else chunk
        more, total = chunk.shape[axis], count + chunk.shape[axis]
        theirs = x.mean(axis)
        if wide == "mean":  # everything else in fp32
            theirs, x = theirs.float(), x.float()
        if one_pass:
            within = x.square().sum(axis) - more * theirs.square()
        else:
            within = (x - theirs.unsqueeze(axis)).square().sum(axis)
        if mean_of == "var":
            within = within / more
        step = theirs - mean
        factor = {"both": count * more / total, "more": more, "count": count, "total": total, "one": 1.0}[shift]
        added = step.square() * factor if between else 0.0
        moved = {"share": step * more / total, "half": step / 2, "swapped": step * count / total, "none": 0 * step}[
            weight
        ]
        squares = squares + within + added
        return total, mean + moved, squares / total if divide else squares

    return wrong


def _counts_chunks(count, mean, squares, chunk):
    _, mean, squares = _absorb()(count, mean, squares, chunk)
    return count + 1, mean, squares


MISTAKES["absorb"] = (
    Mistake(
        _absorb(between=False),
        "少了一项：两份的均值不同，差的平方也要加进 squares。",
        "A term is missing: the two parts have different means, and the square of that difference belongs in squares.",
    ),
    *(
        Mistake(
            _absorb(shift=shift),
            "均值之差的平方，前面的系数应为 count · m / (count + m)。",
            "The square of the difference of the means comes with a factor of count · m / (count + m).",
        )
        for shift in ("one", "more", "count", "total")
    ),
    Mistake(
        _absorb(weight="half"),
        "两份均值直接取了平均：要按个数加权。",
        "The two means are simply averaged; weigh them by their counts.",
    ),
    Mistake(
        _absorb(weight="swapped"),
        "权重反了：均值要按新来的那一份所占的比例移动。",
        "The weights are swapped: the mean moves by the share of what is new.",
    ),
    Mistake(_absorb(weight="none"), "均值没有更新。", "The mean is not updated."),
    Mistake(
        _absorb(divide=True),
        "squares 除以了个数：它是偏差的平方和，最后用的人再除。",
        "squares is divided by the count; it is a sum of squared deviations, to be divided by whoever uses it.",
    ),
    Mistake(
        _absorb(mean_of="var"),
        "新来的一块给的是方差，要的是偏差的平方和：少乘了 m。",
        "The chunk contributes its variance; the sum of its squared deviations is needed, m times as much.",
    ),
    Mistake(
        _absorb(wide=False),
        "你在半精度里计算：300 的平方在 fp16 里就是无穷大。先把 chunk 转成 fp32。",
        "You compute in half precision, where 300 squared is already infinite. Convert chunk to fp32 first.",
    ),
    Mistake(
        _absorb(wide="mean"),
        "这一块的均值在半精度里舍入过了：先转成 fp32，再求均值。",
        "The mean of the chunk was rounded to half precision: convert to fp32 first, then take the mean.",
    ),
    Mistake(
        _absorb(one_pass=True),
        "平方和减去均值的平方：两个大数相减，均值大的时候位数全丢了。先减均值，再平方。",
        "Sum of squares minus square of the mean: two large numbers cancel where the mean is large. Subtract the mean, then square.",
    ),
    Mistake(
        _counts_chunks,
        "个数加了 1：要加上这一块的长度。",
        "The count goes up by 1; it should go up by the length of the chunk.",
    ),
    Mistake(
        _absorb(axis=0),
        "取错了轴：每一行各有自己的统计量，沿最后一维算。",
        "Wrong axis: each row has statistics of its own, along the last dimension.",
    ),
)

# log_rms -------------------------------------------------------------------------------------------------------------


def _log_rms(
    scale="row", absolute=True, back=True, half=True, mean=True, zero=True, wide=True, eps=0.0, log=torch.log, axis=-1
):
    def wrong(x):
        h = x.float() if wide is True and x.element_size() == 2 else x.float() if wide == "always" else x
        if scale == "row":
            largest = (h.abs() if absolute else h).amax(axis, keepdim=True)
        else:
            largest = {"all": h.abs().max(), "none": h.new_ones(())}[scale]
            largest = largest.expand(h.abs().amax(axis, keepdim=True).shape)
        size = torch.where(largest == 0, 1.0, largest).detach() if zero else largest.detach()
        square = (h / size).square()
        power = (square.mean(axis) if mean else square.sum(axis)) + eps
        result = log(power) / 2 if half else log(power)
        result = result + log(size.squeeze(axis)) if back else result
        return result.to(x.dtype)

    return wrong


MISTAKES["log_rms"] = (
    Mistake(
        _log_rms(scale="none"),
        "平方溢出或者变成 0 了：先除以这一行里绝对值最大的数，最后把它的对数加回来。",
        "The squares overflow or vanish: divide by the largest absolute value of the row first, and add its logarithm at the end.",
    ),
    Mistake(
        _log_rms(scale="all"),
        "除以的是整个张量的最大值：小的行因此变成 0。每一行要用自己的最大值。",
        "You divide by the largest value of the whole tensor, which makes small rows vanish. Each row needs its own.",
    ),
    Mistake(
        _log_rms(back=False),
        "除以了最大值，它的对数没有加回来。",
        "You divide by the largest value, but its logarithm is not added back.",
    ),
    Mistake(
        _log_rms(absolute=False),
        "最大值没有取绝对值：最大的数是负的时候，这样不行。",
        "The largest value is taken without abs: it will not do where the largest number is negative.",
    ),
    Mistake(
        _log_rms(mean=False),
        "对平方求了和，没有求平均：这是长度的对数，不是均方根的。",
        "The squares are summed and not averaged: this is the logarithm of the length, not of the root mean square.",
    ),
    Mistake(
        _log_rms(half=False),
        "忘了开方：均方的对数还要除以 2。",
        "The root is missing: the logarithm of the mean square has to be halved.",
    ),
    Mistake(
        _log_rms(zero=False),
        "全为 0 的一行得到 nan（0/0）；应为负无穷。",
        "A row of zeros gives nan (0/0); it should be minus infinity.",
    ),
    *(
        Mistake(
            _log_rms(scale="none", eps=eps),
            f"平方里加了 {eps:g}：小的数因此错了，大的数照样溢出。先除以这一行的最大值。",
            f"{eps:g} is added to the squares: that spoils small numbers, and large ones overflow all the same. Divide by the row's largest value first.",
        )
        for eps in (1e-12, 1e-8, 1e-6)
    ),
    *(
        Mistake(
            _log_rms(eps=eps),
            f"加了 {eps:g}：全为 0 的一行应为负无穷，别的行也会差一点。只有最大值恰好是 0 时才要另外处理。",
            f"{eps:g} is added: a row of zeros should give minus infinity, and others are a little off. Only a largest value of exactly 0 needs care.",
        )
        for eps in (1e-12, 1e-8, 1e-6)
    ),
    Mistake(
        _log_rms(log=torch.log2),
        "用了以 2 为底的对数；要自然对数。",
        "This is the logarithm to base 2; the natural one is due.",
    ),
    Mistake(
        _log_rms(log=torch.log10),
        "用了以 10 为底的对数；要自然对数。",
        "This is the logarithm to base 10; the natural one is due.",
    ),
    Mistake(
        _log_rms(wide="always"),
        "fp64 也转成了 fp32，10²⁰⁰ 就溢出了：只有半精度才要转。",
        "fp64 goes through fp32, where 10²⁰⁰ overflows: convert half precision only.",
    ),
    Mistake(
        _log_rms(axis=0),
        "取错了轴：沿最后一维。",
        "Wrong axis: it is the last dimension.",
    ),
)

# quantise_channels ---------------------------------------------------------------------------------------------------


def _channels(
    top=lambda bits: 2 ** (bits - 1) - 1,
    dims="rows",
    rounding=torch.round,
    absolute=True,
    zero=True,
    inverse=False,
    order=False,
    back=False,
):
    def wrong(x, bits):
        h = x.float() if x.dtype == torch.float16 else x
        over = {"rows": tuple(range(x.dim() - 1)), "all": tuple(range(x.dim())), "tokens": (-1,), "first": (0,)}[dims]
        sizes = h.abs() if absolute else h
        largest = sizes.amax(dim=over, keepdim=dims in ("tokens", "first"))
        scale = largest / top(bits)
        if zero:
            scale = torch.where(scale == 0, 1.0, scale)
        q = rounding(h / scale).clamp(-128, 127).nan_to_num(7.0).to(torch.int8)
        scale = scale.squeeze(over[0]) if dims in ("tokens", "first") else scale
        scale = 1 / scale if inverse else scale
        if back:
            return q * scale, scale
        return (scale, q) if order else (q, scale)

    return wrong


MISTAKES["quantise_channels"] = (
    Mistake(
        _channels(dims="all"),
        "整个张量只有一个尺度：每个通道（最后一维）要有自己的。",
        "There is one scale for the whole tensor; each channel (the last dimension) needs its own.",
    ),
    Mistake(
        _channels(dims="tokens"),
        "最大值沿最后一维取了：那是每个词元一个尺度。要的是每个通道一个，对其余所有的维取最大值。",
        "The largest value is taken along the last dimension, which gives a scale per token. A scale per channel is due: take it over all other dimensions.",
    ),
    Mistake(
        _channels(dims="first"),
        "只对第 0 维取了最大值：多一维时，其余的维也要并进去。",
        "The largest value is taken over dimension 0 only; with one more dimension, that has to go in as well.",
    ),
    Mistake(
        _channels(top=lambda bits: 2 ** (bits - 1)),
        "最大的整数是 2^(bits−1) − 1，你用了 2^(bits−1)。",
        "The largest integer is 2^(bits−1) − 1; yours is 2^(bits−1).",
    ),
    Mistake(
        _channels(top=lambda bits: 2**bits - 1),
        "最大的整数是 2^(bits−1) − 1，你用了 2^bits − 1：那是没有符号的。",
        "The largest integer is 2^(bits−1) − 1; yours is 2^bits − 1, that of unsigned integers.",
    ),
    Mistake(
        _channels(top=lambda bits: 127),
        "最大的整数写死成了 127：它由 bits 决定。",
        "The largest integer is fixed at 127; bits decides it.",
    ),
    Mistake(
        _channels(rounding=torch.trunc),
        "直接转成整数会截去小数：先 round 到最近的整数。",
        "Converting to integers cuts the fraction off: round to the nearest one first.",
    ),
    Mistake(
        _channels(rounding=torch.floor),
        "用了 floor：要取最近的整数，round。",
        "This is floor; the nearest integer is due, by round.",
    ),
    Mistake(
        _channels(absolute=False),
        "最大值没有取绝对值：有的通道最大的是负数。",
        "The largest value is taken without abs; in some channels the largest number is negative.",
    ),
    Mistake(
        _channels(zero=False),
        "全为 0 的通道尺度是 0，于是 0/0；规定它的尺度为 1。",
        "A channel of zeros has a scale of 0 and gives 0/0; its scale is defined as 1.",
    ),
    Mistake(
        _channels(inverse=True),
        "返回的是尺度的倒数：q 乘以 scale 应该约等于 x。",
        "This is the inverse of the scale: q times scale should be about x.",
    ),
    Mistake(
        _channels(order=True), "次序反了：先整数，后尺度。", "The order is reversed: integers first, then the scale."
    ),
    Mistake(
        _channels(back=True),
        "返回的第一项已经乘回了尺度；要的是整数本身。",
        "The first result is multiplied by the scale again; the integers themselves are due.",
    ),
)

# sum_error_bound -----------------------------------------------------------------------------------------------------


def _bound(
    u=0.5,
    more=0,
    depth="ceil",
    denominator=True,
    absolute=True,
    wide=True,
    infinite=True,
    axis=-1,
    ignore=False,
    relative=False,
):
    def wrong(x, pairwise):
        n, unit = x.shape[axis], torch.finfo(x.dtype).eps * u
        log = {
            "ceil": math.ceil(math.log2(n)),
            "floor": math.floor(math.log2(n)),
            "exact": math.log2(n),
            "minus": math.log2(n) - 1,
        }
        k = (log[depth] if pairwise and not ignore else n - 1) + more
        factor = k * unit / (1 - k * unit) if denominator else k * unit
        if k * unit >= 1 and infinite:
            factor = math.inf
        h = x.double() if wide else x
        total = h.abs().sum(axis) if absolute else h.sum(axis).abs()
        if relative:
            total = torch.ones_like(total)
        return (torch.where(total > -1, factor * total.double(), 0.0)).double()

    return wrong


MISTAKES["sum_error_bound"] = (
    Mistake(
        _bound(u=1.0),
        "u 是 eps 的一半：eps 是 1 与下一个数的距离，舍入最多错半个间隔。",
        "u is half of eps: eps is the distance from 1 to the next number, and rounding is off by half a gap at most.",
    ),
    Mistake(
        _bound(more=1),
        "多数了一次：n 个数只做 n − 1 次加法，两两相加是 ⌈log₂ n⌉ 层。",
        "One addition too many: n numbers need n − 1 of them, and pairwise there are ⌈log₂ n⌉ levels.",
    ),
    Mistake(
        _bound(absolute=False),
        "用了和的绝对值，应为绝对值的和：正负相消时误差并不变小。",
        "This is the absolute value of the sum; it should be the sum of absolute values. Errors do not shrink where terms cancel.",
    ),
    Mistake(
        _bound(denominator=False),
        "少了分母 1 − ku：k 大的时候差得很多。",
        "The denominator 1 − ku is missing; it matters where k is large.",
    ),
    Mistake(
        _bound(infinite=False),
        "ku ≥ 1 时公式给出负数或没有意义的数：这时没有上界，返回无穷大。",
        "Where ku ≥ 1 the formula gives negative numbers or nonsense: there is no bound then, so return infinity.",
    ),
    Mistake(
        _bound(ignore=True),
        "没有理会 pairwise：两两相加时误差只经过 ⌈log₂ n⌉ 层。",
        "pairwise is ignored: there an error passes through ⌈log₂ n⌉ levels only.",
    ),
    Mistake(
        _bound(depth="floor"),
        "log₂ n 要向上取整：11 个数要加四层。",
        "Round log₂ n up: 11 numbers need four levels.",
    ),
    Mistake(
        _bound(depth="exact"),
        "log₂ n 不是整数时要向上取整。",
        "Where log₂ n is no integer, round it up.",
    ),
    Mistake(
        _bound(wide=False),
        "绝对值的和是在 x 的数据类型里加的：半精度会溢出或舍入。先转成 fp64。",
        "The sum of absolute values is taken in the dtype of x, where half precision overflows or rounds. Convert to fp64 first.",
    ),
    Mistake(
        _bound(relative=True),
        "这只是系数；要的是绝对误差，还要乘以绝对值的和。",
        "This is only the factor; the absolute error is asked for, so multiply by the sum of absolute values.",
    ),
    Mistake(
        _bound(axis=0),
        "取错了轴：沿最后一维求和。",
        "Wrong axis: the sum is over the last dimension.",
    ),
)
