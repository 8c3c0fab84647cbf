"""The mistakes that people make in exercise 04."""

import torch

from normcourse.check import Mistake

MISTAKES = {}

# masked_moments ------------------------------------------------------------------------------------------------------


def _padding_counted(x, mask):
    return x.mean((0, 1)), x.var((0, 1), correction=0)


def _filled_with_zeros(x, mask):
    h = torch.where(mask[..., None], x, 0.0)
    return h.mean((0, 1)), h.var((0, 1), correction=0)


def _variance_of_the_padding(x, mask):
    """The mean is right; the padding's distance from it is counted among the squares."""
    h, n = torch.where(mask[..., None], x, 0.0), mask.sum()
    mean = h.sum((0, 1)) / n
    return mean, (h - mean).square().sum((0, 1)) / n


def _multiplied(x, mask):
    h, n = x * mask[..., None], mask.sum()
    mean = h.sum((0, 1)) / n
    return mean, ((x - mean).square() * mask[..., None]).sum((0, 1)) / n


def _unbiased(x, mask):
    rows = x[mask]
    return rows.mean(0), rows.var(0)


def _mean_of_means(x, mask):
    h, n = torch.where(mask[..., None], x, 0.0), mask.sum(1)[:, None]
    means = h.sum(1) / n
    spread = torch.where(mask[..., None], (x - means[:, None]).square(), 0.0).sum(1) / n
    return means.mean(0), spread.mean(0)


def _difference_of_squares(x, mask):
    rows = x[mask]
    mean = rows.mean(0)
    return mean, rows.square().mean(0) - mean.square()


def _spread(x, mask):
    rows = x[mask]
    return rows.mean(0), rows.std(0, correction=0)


def _per_token(x, mask):
    rows = x[mask]
    return rows.mean(-1), rows.var(-1, correction=0)


def _the_padding(x, mask):
    return _unbiased_off(x[~mask])


def _unbiased_off(rows):
    return rows.mean(0), rows.var(0, correction=0)


MISTAKES["masked_moments"] = (
    Mistake(
        _padding_counted,
        "填充也算进去了：只有 mask 为 True 的词元才算数。",
        "The padding is counted, too: only tokens whose mask is True belong to the statistics.",
    ),
    Mistake(
        _filled_with_zeros,
        "填充换成了 0，但仍然算在内：除数应是真词元的个数。",
        "The padding was set to 0 but still counts: divide by the number of real tokens.",
    ),
    Mistake(
        _variance_of_the_padding,
        "均值对了，方差里还有填充：填充的 0 离均值的距离也被平方加了进去。",
        "The mean is right, but the variance has padding in it: the distance of the padding's zeros from the mean is squared and added.",
    ),
    Mistake(
        _multiplied,
        "用乘以 0 去掉填充：nan 乘以 0 还是 nan。用 torch.where，或直接取出 x[mask]。",
        "The padding is removed by multiplying with 0, but nan times 0 is nan. Use torch.where, or take x[mask].",
    ),
    Mistake(
        _unbiased,
        "方差除以了 n − 1：这里除以 n（correction=0）。",
        "The variance was divided by n − 1; here it is divided by n (correction=0).",
    ),
    Mistake(
        _mean_of_means,
        "先对每句求，再对句子平均：短句里的词元就比长句里的重。把所有真词元放在一起算。",
        "Statistics of each sentence, then their average: that makes a token of a short sentence weigh more. Take all real tokens together.",
    ),
    Mistake(
        _difference_of_squares,
        "用 E[x²] − E[x]² 求方差：均值很大时相消，位数全丢。先减均值再平方。",
        "The variance is taken as E[x²] − E[x]²: for a large mean they cancel and no digit is left. Subtract the mean before squaring.",
    ),
    Mistake(
        _spread,
        "第二个结果是标准差，应为方差：不要开根号。",
        "The second result is the standard deviation; the variance is asked for, without the root.",
    ),
    Mistake(
        _per_token,
        "对每个词元的特征求了平均，这是层归一化的统计量。批归一化对每个特征求，取遍所有词元。",
        "The average is over the features of each token, as in LayerNorm. BatchNorm needs one number per feature, over all tokens.",
    ),
    Mistake(
        _the_padding,
        "mask 反了：True 表示真词元，不是填充。",
        "The mask is inverted: True marks a real token, not padding.",
    ),
)

# update_running ------------------------------------------------------------------------------------------------------


def _update(step="new", unbiased=True, axes="rows", square=False, swap=False, square_mean=False):
    """An update with mistakes to switch on."""

    def wrong(running_mean, running_var, x, momentum=0.1):
        rows = x.reshape(-1, x.shape[-1]) if axes == "rows" else x
        axis = 0 if axes in ("rows", "batch") else -1
        mean, var = rows.mean(axis), rows.var(axis, correction=int(unbiased))
        if axes == "batch":
            while mean.dim() > 1:
                mean, var = mean.mean(0), var.mean(0)
        if square:
            var = var.sqrt()
        old, new = (momentum, 1 - momentum) if step == "old" else (1 - momentum, momentum)
        if step == "replace":
            old, new = 0.0, 1.0
        if step == "add":
            old = 1.0
        results = old * running_mean + new * mean, old * running_var + new * var
        return results[::-1] if swap else results

    return wrong


MISTAKES["update_running"] = (
    Mistake(
        _update(step="old"),
        "momentum 反了：在 PyTorch 里它是新统计量的权重，旧的乘 1 − momentum。",
        "momentum is the wrong way round: in PyTorch it is the weight of the new statistics, and the old ones get 1 − momentum.",
    ),
    Mistake(
        _update(unbiased=False),
        "方差除以了 n：滑动平均里积累的是除以 n − 1 的方差（归一化本身才用 n）。",
        "The variance was divided by n: running averages collect the variance divided by n − 1 (only the normalising itself uses n).",
    ),
    Mistake(
        _update(step="replace"),
        "旧的统计量不见了：结果应是新旧的加权平均，不是这一批的统计量。",
        "The old statistics are lost: the result is a weighted average of old and new, not the statistics of this batch.",
    ),
    Mistake(
        _update(step="add"),
        "旧的没有乘 1 − momentum：这样会越积越大。",
        "The old statistics are not multiplied by 1 − momentum: this way they grow without end.",
    ),
    Mistake(
        _update(axes="batch"),
        "先对批求、再对位置平均：应把所有词元放在一起，方差尤其不同。",
        "Statistics over the batch, then averaged over positions: take all tokens together; for the variance it makes the larger difference.",
    ),
    Mistake(
        _update(square=True),
        "积累的是标准差，应为方差。",
        "The standard deviation is collected; it should be the variance.",
    ),
    Mistake(
        _update(swap=True),
        "两个结果的次序反了：先均值，后方差。",
        "The two results are in the wrong order: the mean first, then the variance.",
    ),
)

# batch_norm_sequence -------------------------------------------------------------------------------------------------


def _normalise(
    axes=(0, 1), view=False, root="inside", unbiased=False, gamma=True, beta=True, detach=False, fixed=False, late=False
):
    """A BatchNorm over (batch, sequence, feature) with mistakes to switch on."""

    def wrong(x, weight, bias, eps=1e-5):
        h, shape = x, x.shape
        if view:
            h = h.reshape(shape[0], shape[2], shape[1]).transpose(1, 2)
        mean = h.mean(axes, keepdim=True)
        var = (h - mean).square().mean(axes, keepdim=True)
        if unbiased:
            var = h.var(axes, keepdim=True)
        if detach:
            mean, var = mean.detach(), var.detach()
        e = 1e-5 if fixed else eps
        divisor = {"outside": lambda: var.sqrt() + e, "none": var.sqrt, "square": lambda: var + e}
        y = (h - mean) / divisor.get(root, lambda: (var + e).sqrt())()
        if view:
            y = y.transpose(1, 2).reshape(shape)
        y = y * weight if gamma else y
        return y + bias if beta else y

    return wrong


def _half(x, weight, bias, eps=1e-5):
    y = _normalise()(x, weight.to(x.dtype), bias.to(x.dtype), eps)
    return y.to(x.dtype)


def _not_back(x, weight, bias, eps=1e-5):
    return _normalise()(x.float() if x.dtype == torch.float16 else x, weight, bias, eps)


MISTAKES["batch_norm_sequence"] = (
    Mistake(
        _normalise(view=True),
        "用 view 或 reshape 交换了两维：数没有动，切法变了，几个特征混在了一起。用 transpose(1, 2)。",
        "view or reshape was used to exchange two dimensions: the numbers stay where they are and are only cut differently, so that features mix. Use transpose(1, 2).",
    ),
    Mistake(
        _normalise(axes=(2,)),
        "这是层归一化：对每个词元的特征取平均了。批归一化对每个特征取，遍历所有句子和位置。",
        "This is LayerNorm: the average is over the features of each token. BatchNorm averages each feature over all sentences and positions.",
    ),
    Mistake(
        _normalise(axes=(0,)),
        "只对句子取了平均，每个位置各有一份统计量。还要取遍位置：dim=(0, 1)。",
        "The average is over the sentences only, and each position has statistics of its own. Average over positions, too: dim=(0, 1).",
    ),
    Mistake(
        _normalise(axes=(1,)),
        "只对位置取了平均，每句各有一份统计量：这是实例归一化。取 dim=(0, 1)。",
        "The average is over the positions only, with statistics of each sentence: that is InstanceNorm. Take dim=(0, 1).",
    ),
    Mistake(
        _normalise(axes=(0, 1, 2)),
        "对整个张量取了平均：每个特征要有自己的均值和方差。",
        "The average is over the whole tensor: each feature needs its own mean and variance.",
    ),
    Mistake(
        _normalise(root="outside"),
        "ε 加在了根号外面：应为 sqrt(var + ε)。",
        "ε stands outside the root: it should be sqrt(var + ε).",
    ),
    Mistake(
        _normalise(unbiased=True),
        "方差除以了 n − 1：归一化用的方差除以 n（correction=0）。",
        "The variance was divided by n − 1; the one that normalises is divided by n (correction=0).",
    ),
    Mistake(
        _normalise(root="square"),
        "除以的是方差，忘了开根号。",
        "You divide by the variance: the root is missing.",
    ),
    Mistake(_normalise(gamma=False), "缩放 γ 没有用上。", "The scale γ is not used."),
    Mistake(_normalise(beta=False), "平移 β 没有用上。", "The shift β is not used."),
    Mistake(
        _normalise(fixed=True),
        "参数 eps 没有用上：ε 固定成了 1e-5。",
        "The argument eps is not used: ε is fixed at 1e-5.",
    ),
    Mistake(
        _normalise(root="none"),
        "ε 没有用上。",
        "ε is not used.",
    ),
    Mistake(
        _normalise(detach=True),
        "均值和方差从计算图里断开了：它们也依赖 x，梯度要经过它们。",
        "Mean and variance are detached: they depend on x as well, and the gradient has to pass through them.",
    ),
    Mistake(
        _half,
        "统计量是用半精度算的：先 x.float()，最后再转回来。",
        "The statistics were computed in half precision: begin with x.float() and convert back at the end.",
    ),
    Mistake(
        _not_back,
        "结果的数据类型应与 x 相同：最后 .to(x.dtype)。",
        "The result should have the dtype of x: end with .to(x.dtype).",
    ),
)
