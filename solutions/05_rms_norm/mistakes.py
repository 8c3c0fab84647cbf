"""The mistakes that people make in exercise 05."""

import torch

from normcourse.check import Mistake

from .tasks import WithWeight

MISTAKES = {}

# RMSNorm -------------------------------------------------------------------------------------------------------------


def _rms_norm(
    root="inside", axis=-1, keep=True, centre=False, gamma=True, wide=True, back=True, detach=False, sums=False
):
    """An RMSNorm with mistakes to switch on, so that each wrong version is one line below."""

    class Wrong(WithWeight):
        def forward(self, x):
            weight = self.weight if self.weight.dtype == x.dtype else self.weight.float()
            h = x.float() if wide == "always" or (wide and x.dtype == torch.float16) else x
            square = h.square().sum(axis, keepdim=keep) if sums else h.square().mean(axis, keepdim=keep)
            if axis is None:
                square = h.square().mean()
            if root == "variance":
                square = h.var(axis, unbiased=False, keepdim=True)
            if centre:
                h = h - h.mean(axis, keepdim=True)
                square = h.square().mean(axis, keepdim=True)
            if detach:
                square = square.detach()
            eps = 1e-5 if root == "fixed" else self.eps
            divisor = {"outside": lambda: square.sqrt() + eps, "none": square.sqrt, "square": lambda: square + eps}
            y = h / divisor.get(root, lambda: (square + eps).sqrt())()
            y = y * weight if gamma else y
            return y.to(x.dtype) if back else y

    return Wrong


class _StartsAtZero(_rms_norm()):
    start = torch.zeros


class _OnePlus(_rms_norm(gamma=False)):
    def forward(self, x):
        return super().forward(x) * (1 + self.weight).to(x.dtype)


class _OtherEps(_rms_norm()):
    def __init__(self, hidden_size, eps=1e-5):
        super().__init__(hidden_size, eps)


MISTAKES["RMSNorm"] = (
    Mistake(
        _rms_norm(root="outside"),
        "ε 加在了根号外面：应为 sqrt(均方 + ε)，你算的是 sqrt(均方) + ε。",
        "ε stands outside the root: it should be sqrt(mean square + ε), yours is sqrt(mean square) + ε.",
    ),
    Mistake(
        _rms_norm(centre=True),
        "减去了均值：这是没有 β 的层归一化，RMSNorm 不减均值。",
        "The mean is subtracted: this is layer normalisation without β. RMSNorm leaves the mean where it is.",
    ),
    Mistake(
        _rms_norm(root="variance"),
        "除以的是标准差，应为均方根：x 的平方直接求平均，不先减均值。",
        "You divide by the standard deviation; it should be the root mean square: average the squares of x itself.",
    ),
    Mistake(
        _rms_norm(axis=0),
        "均方取错了轴：每个词元用自己的（最后一维），你是对整批取的。",
        "The mean square is taken over the wrong axis: each token needs its own (the last dimension); yours is taken over the batch.",
    ),
    Mistake(
        _rms_norm(axis=1),
        "均方取在第 1 维上：二维时碰巧是特征，多一维就不是了。用 dim=-1。",
        "The mean square is taken over dimension 1. In a matrix that happens to be the features; with one more dimension it is not. Use dim=-1.",
    ),
    Mistake(
        _rms_norm(axis=None),
        "均方取自整个张量：每个词元要用自己的（最后一维）。",
        "The mean square is that of the whole tensor; each token needs its own, over the last dimension.",
    ),
    Mistake(
        _rms_norm(sums=True),
        "对平方求了和，没有除以 d：这样得到的是长度为 1 的向量，不是均方根为 1 的。",
        "The squares are summed and not averaged: that gives vectors of length 1, not of root mean square 1.",
    ),
    Mistake(
        _rms_norm(root="square"),
        "除以的是均方，忘了开根号。",
        "You divide by the mean square: the root is missing.",
    ),
    Mistake(
        _rms_norm(keep=False),
        "求均方时少了 keepdim=True：最后一维没有了，和 x 的各行对不齐。",
        "keepdim=True is missing where the mean square is taken: without the last dimension it does not line up with the rows of x.",
    ),
    Mistake(
        _rms_norm(root="none"),
        "ε 没有用上：均方很小的时候结果就不对了。",
        "ε is not used; the result is off where the mean square is small.",
    ),
    Mistake(
        _OtherEps,
        "ε 的默认值是 1e-6，你用了 LayerNorm 的 1e-5。",
        "The default of ε is 1e-6; yours is LayerNorm's 1e-5.",
    ),
    Mistake(
        _rms_norm(root="fixed"),
        "ε 写死成了 1e-5：要在 __init__ 里记下传进来的 eps。",
        "ε is fixed at 1e-5; keep the eps that __init__ is given.",
    ),
    Mistake(_rms_norm(gamma=False), "没有乘缩放 γ（weight）。", "The scale γ (weight) is not applied."),
    Mistake(_StartsAtZero, "weight 的初始值是 0：应当全为 1。", "weight starts at 0; it should be all ones."),
    Mistake(
        _OnePlus,
        "乘的是 1 + weight（Gemma 的写法）；这里直接乘 weight。",
        "You multiply by 1 + weight, as Gemma does; here it is weight itself.",
    ),
    Mistake(
        _rms_norm(detach=True),
        "均方被 detach 了（或者放在 no_grad 里）：它也依赖 x，梯度也要经过它。",
        "The mean square is detached (or computed under no_grad). It depends on x, and gradients must flow through it.",
    ),
    Mistake(
        _rms_norm(wide=False),
        "你在半精度里求平方：300 的平方在 fp16 里就是无穷大。先转成 fp32 再算，最后转回去。",
        "The squares are taken in half precision, where 300 squared is already infinite. Convert to fp32 first, and back at the end.",
    ),
    Mistake(
        _rms_norm(wide="always"),
        "fp64 也转成了 fp32，大数的平方就溢出了：只有半精度才要转。",
        "fp64 goes through fp32, where the squares of large numbers overflow: convert half precision only.",
    ),
    Mistake(
        _rms_norm(back=False),
        "返回了 fp32：结果要和 x 的数据类型相同，不管 weight 是什么类型。",
        "The result stays in fp32; it should have the dtype of x, whatever the dtype of weight.",
    ),
)


# mean_share ----------------------------------------------------------------------------------------------------------


def _mean_share(numerator=2, centre=False, axis=-1, wide=True, zero=True, back=True, eps=0.0, keep=False, rest=False):
    def wrong(x):
        h = x.float() if wide and x.dtype == torch.float16 else x
        mean, power = h.mean(axis, keepdim=keep), h.square().mean(axis, keepdim=keep)
        if centre:
            power = h.var(axis, unbiased=False, keepdim=keep)
        share = mean.abs() ** numerator / (power + eps)
        share = 1 - share if rest else share
        return (share.nan_to_num(0.0) if zero else share).to(x.dtype if back else h.dtype)

    return wrong


def _mean_over_rms(x):
    return _mean_share()(x).sqrt()


def _times(factor):
    return lambda x: _mean_share()(x) * factor(x.shape[-1])


def _averaged_first(x):
    h = x.float() if x.dtype == torch.float16 else x
    return (h.mean(-1).square().mean() / h.square().mean()).to(x.dtype)


def _averaged_last(x):
    return _mean_share()(x).mean()


MISTAKES["mean_share"] = (
    Mistake(
        _mean_share(centre=True),
        "分母用了方差：功率是 x² 的平均，不减均值。",
        "You divide by the variance; the power is the mean of x², without subtracting the mean.",
    ),
    Mistake(
        _mean_over_rms,
        "这是 |均值| 除以均方根：功率的占比是它的平方。",
        "This is |mean| over the root mean square; the share of the power is its square.",
    ),
    Mistake(_mean_share(numerator=1), "均值没有平方。", "The mean is not squared."),
    Mistake(
        _times(lambda d: d),
        "分子、分母用的都是和，不是平均：结果大了 d 倍。",
        "You use sums where means belong: the result is too large by a factor of d.",
    ),
    Mistake(
        _times(lambda d: d**2),
        "分子用了和的平方，应为平均的平方：结果大了 d² 倍。",
        "The numerator is the square of the sum; it should be that of the mean. The result is too large by a factor of d².",
    ),
    Mistake(
        _times(lambda d: 1 / d),
        "分母用了平方和，应为平方的平均：结果只有正确值的 1/d。",
        "The denominator is the sum of the squares; it should be their mean. The result is too small by a factor of d.",
    ),
    Mistake(
        _times(lambda d: 100),
        "这是百分数；要的是 0 到 1 之间的比例。",
        "This is in percent; a share between 0 and 1 is asked for.",
    ),
    Mistake(
        _mean_share(rest=True),
        "这是均值以外的占比；要的是均值的。",
        "This is the share of everything but the mean; the mean's own is asked for.",
    ),
    Mistake(
        _averaged_first,
        "你先对所有词元取了平均，只得到一个数：每个词元要有自己的占比。",
        "You average over all tokens first and get one number; each token has a share of its own.",
    ),
    Mistake(
        _averaged_last,
        "最后又对词元取了平均：每个词元要有自己的占比。",
        "At the end you average over the tokens; each of them has a share of its own.",
    ),
    Mistake(
        _mean_share(axis=0),
        "取错了轴：要沿最后一维，你是对整批取的。",
        "Wrong axis: average over the last dimension; yours is the batch.",
    ),
    Mistake(
        _mean_share(axis=1),
        "平均取在了第 1 维上：二维时碰巧是特征，多一维就不是了。用 dim=-1。",
        "The averages are taken over dimension 1. In a matrix that happens to be the features; with one more dimension it is not. Use dim=-1.",
    ),
    Mistake(
        _mean_share(keep=True),
        "最后一维还留着：结果的形状是 x.shape[:-1]。",
        "The last dimension is still there; the result has shape x.shape[:-1].",
    ),
    Mistake(
        _mean_share(zero=False),
        "全 0 的词元得到 0/0 = nan；它的占比规定为 0。",
        "A token of zeros gives 0/0 = nan; its share is defined as 0.",
    ),
    *(
        Mistake(
            _mean_share(eps=eps),
            f"分母里加了 {eps:g}：数很小时占比就错了。只有分母恰好是 0 时才要另外处理。",
            f"{eps:g} is added to the denominator, which is wrong for small numbers. Only a denominator of exactly 0 needs care.",
        )
        for eps in (1e-6, 1e-12, 1e-8, 1e-5)
    ),
    Mistake(
        _mean_share(wide=False),
        "你在半精度里求平方：300 的平方在 fp16 里就是无穷大。先转成 fp32 再算，最后转回去。",
        "The squares are taken in half precision, where 300 squared is already infinite. Convert to fp32 first, and back at the end.",
    ),
    Mistake(
        _mean_share(back=False),
        "返回了 fp32：结果要和 x 的数据类型相同。",
        "The result stays in fp32; it should have the dtype of x.",
    ),
)


# fold_layer_norm -----------------------------------------------------------------------------------------------------


def _fold(centre="rows", shift=True, gamma="columns", beta="through W", order=(0, 1, 2, 3)):
    def wrong(A, a, g, b, W, c):
        means = {"rows": 0, "columns": 1, "all": (0, 1)}
        A = A if centre == "none" else A - A.mean(means[centre], keepdim=True)
        a = a - a.mean() if shift else a
        folded = {
            "columns": lambda: W * g,
            "rows": lambda: W * g[:, None],
            "divided": lambda: W / g,
            "none": lambda: W,
            "before": lambda: W,
        }[gamma]()
        A, a = (A * g[:, None], a * g) if gamma == "before" else (A, a)
        c = {
            "through W": lambda: c + W @ b,
            "subtracted": lambda: c - W @ b,
            "added": lambda: c + b,
            "scaled": lambda: c + folded @ b,
            "transposed": lambda: c + b @ W,
            "alone": lambda: W @ b,
            "none": lambda: c,
        }[beta]()
        results = A, a, folded, c
        return [results[i] for i in order]

    return wrong


def _centres_the_layer_after(A, a, gamma, beta, W, b):
    W, b = W * gamma, b + W @ beta
    return A, a, W - W.mean(1, keepdim=True), b


MISTAKES["fold_layer_norm"] = (
    Mistake(
        _fold(centre="columns"),
        "A 减错了方向：要减掉的是隐藏状态各个特征之间的均值，即 A 每一列的均值（第 0 维）。",
        "A is centred the wrong way: the mean over the hidden state's features has to go, which is that of each column of A (dimension 0).",
    ),
    Mistake(
        _fold(centre="all"),
        "A 只减去了一个总的均值：每一列要减去自己的。",
        "A only loses one overall mean; each column has to lose its own.",
    ),
    Mistake(
        _fold(shift=False),
        "a 没有减去均值：偏置也写进了隐藏状态。",
        "a keeps its mean: the bias is part of the hidden state too.",
    ),
    Mistake(
        _fold(centre="none", shift=False),
        "A 和 a 没有变：均值还在隐藏状态里，RMSNorm 不会去减。",
        "A and a are unchanged: the mean is still in the hidden state, and RMSNorm will not subtract it.",
    ),
    Mistake(
        _fold(centre="none"),
        "只减了 a 的均值：A 的每一列也要减去自己的均值。",
        "Only a loses its mean; each column of A has to lose its own too.",
    ),
    Mistake(
        _centres_the_layer_after,
        "均值减在了后一层：那时已经除过均方根，晚了。要在前一层里减。",
        "You take the mean out of the layer after. By then the division by the root mean square has happened; take it out of the layer before.",
    ),
    Mistake(
        _fold(gamma="rows", beta="through W"),
        "γ 乘到了 W 的行上：γ 的每个元素对应 W 的一个输入，即一列。",
        "γ multiplies the rows of W; each entry of γ belongs to an input of W, that is to a column.",
    ),
    Mistake(
        _fold(gamma="before"),
        "γ 并进了前一层，均方根就变了：γ 在归一化之后才乘，要并入 W。",
        "γ is folded into the layer before, which changes the root mean square. It acts after the norm: fold it into W.",
    ),
    Mistake(_fold(gamma="divided"), "W 除以了 γ，应为乘。", "W is divided by γ; it should be multiplied."),
    Mistake(_fold(gamma="none"), "γ 没有并入 W。", "γ is not folded into W."),
    Mistake(
        _fold(beta="scaled"),
        "β 又乘了一次 γ：β 在 γ 之后才加上，所以用原来的 W 去乘它。",
        "β is multiplied by γ on the way: it is added after γ, so multiply it by the original W.",
    ),
    Mistake(
        _fold(beta="added"),
        "β 直接加到了 b 上：它先要经过 W。",
        "β is added to b directly; it has to go through W first.",
    ),
    Mistake(
        _fold(beta="transposed"),
        "β 乘的是 W 的转置：应为 W @ β。",
        "β is multiplied by the transpose of W; it should be W @ β.",
    ),
    Mistake(_fold(beta="alone"), "b 丢了：新的偏置是 b 加上 W @ β。", "b is lost: the new bias is b plus W @ β."),
    Mistake(_fold(beta="none"), "β 没有并入 b。", "β is not folded into b."),
    Mistake(
        _fold(beta="subtracted"),
        "b 里减去了 W @ β：应为加。",
        "W @ β is subtracted from b; it should be added.",
    ),
    *(
        Mistake(
            _fold(order=order),
            "结果的次序不对：应为 A、a、W、b。",
            "The results are in the wrong order; it is A, a, W, b.",
        )
        for order in ((2, 3, 0, 1), (0, 2, 1, 3), (1, 0, 3, 2))
    ),
)


# rms_norm_backward ---------------------------------------------------------------------------------------------------


def _backward(
    stretch=1.0,
    gamma="first",
    scale=1,
    means=True,
    centre=False,
    shift=False,
    outside=False,
    rows=None,
    averaged=False,
    terms="x_hat",
    eps=None,
):
    """The backward pass with mistakes to switch on."""
    given = eps

    def wrong(dy, x, weight, eps=1e-6):
        x = x - x.mean(-1, keepdim=True) if centre else x
        square = x.square().mean(-1, keepdim=True)
        eps = eps if given is None else given
        rstd = 1 / (square.sqrt() + eps) if outside else 1 / (square + eps).sqrt()
        x_hat = x * rstd
        g = dy * {"first": weight, "twice": weight.square()}.get(gamma, torch.ones_like(weight))
        collect = torch.mean if means else torch.sum
        dx = g - stretch * x_hat * collect(g * x_hat, -1, keepdim=True)
        if shift:
            dx = dx - g.mean(-1, keepdim=True)
        dx = dx * weight if gamma == "last" else dx
        summed = dy * {"x_hat": x_hat, "x": x, "weighted": x_hat * weight}[terms]
        summed = summed.reshape(-1, x.shape[-1]).sum(0) if rows is None else summed.sum(rows(x))
        return dx * rstd**scale, summed / (dy[..., 0].numel() if averaged else 1)

    return wrong


def _other_default(dy, x, weight, eps=1e-5):
    return _backward()(dy, x, weight, eps)


def _dweight_first(dy, x, weight, eps=1e-6):
    return _backward()(dy, x, weight, eps)[::-1]


def _x_for_x_hat(dy, x, weight, eps=1e-6):
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    g = dy * weight
    return rstd * (g - x * (g * x).mean(-1, keepdim=True)), (dy * x * rstd).reshape(-1, x.shape[-1]).sum(0)


def _by_differences(dy, x, weight, eps=1e-6):
    dx, step = torch.zeros_like(x), 1e-6
    forward = lambda x: (x * weight * dy / (x.square().mean(-1, keepdim=True) + eps).sqrt()).sum()  # noqa: E731
    for i in range(x.numel()):
        bump = torch.zeros_like(x)
        bump.view(-1)[i] = step
        dx.view(-1)[i] = (forward(x + bump) - forward(x - bump)) / (2 * step)
    return dx, _backward()(dy, x, weight, eps)[1]


MISTAKES["rms_norm_backward"] = (
    Mistake(
        _backward(gamma="none"),
        "dx 里没有乘 γ：先算 g = dy · weight，再往回传。",
        "γ is missing from dx: begin with g = dy · weight.",
    ),
    Mistake(
        _backward(gamma="last"),
        "dx 最后才乘 γ，太晚了：先算 g = dy · weight，第二项由 g 求出。",
        "dx is multiplied by γ at the end, which is too late: begin with g = dy · weight and take the second term from g.",
    ),
    Mistake(
        _backward(gamma="twice"),
        "dx 里乘了两次 γ。",
        "dx carries γ twice.",
    ),
    Mistake(
        _backward(stretch=0.0),
        "dx 里只有直接的那一项：均方根也依赖 x，还缺一项。",
        "dx has the direct way only. The root mean square depends on x too: a term is missing.",
    ),
    Mistake(
        _backward(shift=True),
        "这是 LayerNorm 的反向：RMSNorm 没有减均值，不用减去 g 的均值。",
        "This is LayerNorm's backward pass. RMSNorm subtracts no mean, so the mean of g stays.",
    ),
    Mistake(
        _backward(centre=True, shift=True),
        "这是 LayerNorm 的反向：RMSNorm 不减均值，x 和 g 的均值都不要减。",
        "This is LayerNorm's backward pass. RMSNorm subtracts no mean, neither that of x nor that of g.",
    ),
    Mistake(
        _backward(centre=True),
        "x 先减去了均值：RMSNorm 的 x̂ 是 x 除以均方根，不减均值。",
        "x is centred first; RMSNorm's x̂ is x itself over its root mean square.",
    ),
    Mistake(
        _backward(stretch=-1.0),
        "第二项的符号反了：应为减。",
        "The second term has the wrong sign; it is subtracted.",
    ),
    Mistake(
        _x_for_x_hat,
        "第二项里你用了 x：两处都应是归一化之后的 x̂。",
        "The second term has x in it; both times it should be the normalised x̂.",
    ),
    Mistake(
        _backward(means=False),
        "第二项里应该是均值，你用了求和（差一个因子 d）。",
        "The second term needs a mean; yours is a sum, larger by a factor of d.",
    ),
    Mistake(_backward(scale=0), "dx 没有除以均方根。", "dx is not divided by the root mean square."),
    Mistake(
        _backward(scale=2),
        "dx 除以均方根除了两次。",
        "dx is divided by the root mean square twice.",
    ),
    Mistake(_backward(outside=True), "ε 加在了根号外面。", "ε stands outside the root."),
    Mistake(_backward(eps=0.0), "ε 没有用上。", "ε is not used."),
    Mistake(
        _backward(eps=1e-6),
        "ε 写死成了 1e-6：要用传进来的 eps。",
        "ε is fixed at 1e-6; use the eps that is passed in.",
    ),
    Mistake(
        _other_default,
        "ε 的默认值是 1e-6，你用了 LayerNorm 的 1e-5。",
        "The default of ε is 1e-6; yours is LayerNorm's 1e-5.",
    ),
    Mistake(
        _backward(terms="x"),
        "dweight 要用归一化之后的 x̂，你用了 x。",
        "dweight needs the normalised x̂; yours has x.",
    ),
    Mistake(
        _backward(terms="weighted"),
        "dweight 里多乘了 γ：它由 dy · x̂ 求和。",
        "dweight carries an extra γ: it is the sum of dy · x̂.",
    ),
    Mistake(
        _backward(averaged=True),
        "dweight 对词元取了平均：应为求和。",
        "dweight is averaged over the tokens; it is a sum.",
    ),
    Mistake(
        _dweight_first,
        "结果的次序反了：先 dx，后 dweight。",
        "The results are in the wrong order: dx, then dweight.",
    ),
    Mistake(
        _backward(rows=lambda x: tuple(range(x.dim() - 1))),
        "输入只有一维时，要求和的维是空的，而 torch 的 sum(()) 会把所有元素加起来。先 reshape(-1, d)，再 sum(0)。",
        "With a single vector there is no dimension to sum over, and torch's sum(()) adds up everything. Use reshape(-1, d), then sum(0).",
    ),
    Mistake(
        _backward(rows=lambda x: 0),
        "dweight 只对第 0 维求了和：除最后一维以外都要求和。",
        "dweight is summed over dimension 0 only; sum over all but the last.",
    ),
    Mistake(
        _by_differences,
        "这是差分得到的近似，输入很小时就看得出来。要用推导出来的梯度公式。",
        "This is an approximation by differences, and with very small inputs it shows. Use the formula of the gradient.",
    ),
)
