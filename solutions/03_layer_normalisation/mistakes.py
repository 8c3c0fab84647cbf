"""The mistakes that people make in exercise 03."""

import torch

from normcourse.check import Mistake

MISTAKES = {}

# layer_norm ----------------------------------------------------------------------------------------------------------


def _layer_norm(
    centre=True,
    biased=True,
    root="inside",
    axis=-1,
    keep=True,
    gamma=True,
    beta=True,
    wide=True,
    detach=False,
    square=False,
):
    """A layer norm with mistakes to switch on, so that each wrong version is one line below."""

    def wrong(x, weight=None, bias=None, eps=1e-5):
        h = x.float() if wide == "always" or (wide and x.dtype == torch.float16) else x
        mean = h.mean(axis, keepdim=keep)
        var = h.var(axis, unbiased=not biased, keepdim=keep)
        if axis is None:
            mean, var = h.mean(), h.var(unbiased=False)
        if root == "rms":
            mean, var = 0.0, h.square().mean(axis, keepdim=True)
        if square:
            var = h.square().mean(axis, keepdim=True) - mean.square()
        if detach:
            mean, var = mean.detach(), var.detach()
        if not centre:
            mean = 0.0
        divisor = {
            "rms": (var + eps).sqrt(),
            "inside": (var + eps).sqrt(),
            "outside": var.sqrt() + eps,
            "none": var.sqrt(),
            "variance": var + eps,
        }[root]
        y = (h - mean) / divisor
        y = y * weight if gamma and weight is not None else y
        y = y + bias if beta and bias is not None else y
        return y.to(x.dtype)

    return wrong


def _built_in_eps(x, weight=None, bias=None, eps=1e-5):
    return _layer_norm()(x, weight, bias, 1e-5)


def _bias_before_weight(x, weight=None, bias=None, eps=1e-5):
    shifted = bias if weight is None or bias is None else bias * weight
    return _layer_norm()(x, weight, shifted, eps)


def _asks_for_truth(x, weight=None, bias=None, eps=1e-5):
    return _layer_norm(gamma=bool(weight), beta=bool(bias))(x, weight, bias, eps)


def _keeps_fp32(x, weight=None, bias=None, eps=1e-5):
    return _layer_norm()(x.float(), weight, bias, eps)


MISTAKES["layer_norm"] = (
    Mistake(
        _layer_norm(root="outside"),
        "ε 加在了根号外面：应为 sqrt(var + ε)，你算的是 sqrt(var) + ε。",
        "ε stands outside the root: it should be sqrt(var + ε), yours is sqrt(var) + ε.",
    ),
    Mistake(
        _layer_norm(biased=False),
        "方差除以了 d − 1：层归一化除以 d（torch 的 var 默认除以 d − 1）。",
        "The variance is divided by d − 1; layer normalisation divides by d (torch's var divides by d − 1 unless told otherwise).",
    ),
    Mistake(
        _layer_norm(root="outside", biased=False),
        "两处错误：ε 在根号外面，方差又除以了 d − 1。",
        "Two mistakes: ε stands outside the root, and the variance is divided by d − 1.",
    ),
    Mistake(
        _layer_norm(axis=0),
        "统计量取错了轴：每一行用自己的均值和方差（最后一维），你是对整批取的。",
        "The statistics are taken over the wrong axis: each row needs its own mean and variance (the last dimension); yours are taken over the batch.",
    ),
    Mistake(
        _layer_norm(axis=1),
        "统计量取在第 1 维上：二维时碰巧是特征，多一维就不是了。用 dim=-1。",
        "The statistics are taken over dimension 1. In a matrix that happens to be the features; with one more dimension it is not. Use dim=-1.",
    ),
    Mistake(
        _layer_norm(keep=False),
        "求均值或方差时少了 keepdim=True：最后一维没有了，和 x 的各行对不齐。",
        "keepdim=True is missing where a mean or variance is taken: without the last dimension it does not line up with the rows of x.",
    ),
    Mistake(
        _asks_for_truth,
        "含多个数的张量没有真假之分，`if weight:` 会出错：写成 `if weight is not None:`，bias 也一样。",
        "A tensor of several numbers is neither true nor false, so `if weight:` fails: write `if weight is not None:`, and likewise for bias.",
    ),
    Mistake(
        _layer_norm(root="none"),
        "ε 没有用上：方差很小的时候结果就不对了。",
        "ε is not used; the result is off where the variance is small.",
    ),
    Mistake(_built_in_eps, "ε 写死成了 1e-5：要用传进来的 eps。", "ε is fixed at 1e-5; use the eps that is passed in."),
    Mistake(
        _layer_norm(root="variance"),
        "除以的是方差，忘了开根号。",
        "You divide by the variance: the square root is missing.",
    ),
    Mistake(
        _layer_norm(axis=None),
        "均值和方差是对整个张量取的：每一行要用自己的（最后一维）。",
        "Mean and variance are those of the whole tensor: each row needs its own, over the last dimension.",
    ),
    Mistake(
        _layer_norm(root="rms"),
        "这是 RMSNorm：没有减去均值，除的也是均方根。",
        "This is RMSNorm: the mean is not subtracted, and you divide by the root mean square.",
    ),
    Mistake(_layer_norm(centre=False), "没有减去均值。", "The mean is not subtracted."),
    Mistake(_layer_norm(gamma=False), "没有乘缩放 γ（weight）。", "The scale γ (weight) is not applied."),
    Mistake(_layer_norm(beta=False), "没有加平移 β（bias）。", "The shift β (bias) is not added."),
    Mistake(_layer_norm(gamma=False, beta=False), "γ 和 β 都没有用上。", "Neither γ nor β is applied."),
    Mistake(
        _bias_before_weight,
        "先加了 β 再乘 γ：β 也被放大了。先乘 γ，再加 β。",
        "β is added too early and is scaled by γ with the rest. Multiply by γ first, then add β.",
    ),
    Mistake(
        _layer_norm(detach=True),
        "均值和方差被 detach 了（或者放在 no_grad 里）：它们也依赖 x，梯度也要经过它们。",
        "Mean and variance are detached (or computed under no_grad). They depend on x, and gradients must flow through them.",
    ),
    Mistake(
        _layer_norm(wide=False),
        "你在半精度里求和：x − μ 的平方会溢出，或者丢掉有效数字。先转成 fp32 再算，最后转回去。",
        "The sums are taken in half precision, where squares overflow or lose their digits. Convert to fp32 first, and back at the end.",
    ),
    Mistake(
        _layer_norm(wide="always"),
        "fp64 也转成了 fp32，丢了精度：只有半精度才要转。",
        "fp64 goes through fp32 and loses digits: convert half precision only.",
    ),
    Mistake(
        _keeps_fp32,
        "返回了 fp32：结果要和输入的数据类型相同。",
        "The result stays in fp32; it should have the dtype of the input.",
    ),
    Mistake(
        _layer_norm(square=True),
        "方差用 E[x²] − E[x]² 计算：均值比标准差大很多时，两个大数相减，有效数字就丢光了。先减均值，再平方。",
        "The variance is E[x²] − E[x]². Where the mean is much larger than the standard deviation, two large numbers cancel. Subtract the mean first, then square.",
    ),
)


# layer_norm_backward -------------------------------------------------------------------------------------------------


def _backward(
    shift=1.0,
    stretch=1.0,
    gamma="first",
    scale=1,
    biased=True,
    root="inside",
    eps=None,
    rows=None,
    means=True,
    averaged=False,
    terms="x_hat",
    order=(0, 1, 2),
):
    """The backward pass with mistakes to switch on."""
    given = eps

    def wrong(dy, x, weight, eps=1e-5):
        eps = eps if given is None else given
        var = x.var(-1, unbiased=not biased, keepdim=True)
        divisor = {"inside": (var + eps).sqrt(), "outside": var.sqrt() + eps, "none": var + eps}
        rstd = 1 / divisor[root]
        centred = x - x.mean(-1, keepdim=True)
        x_hat = centred if terms == "centred" else centred * rstd
        g = dy * weight if gamma == "first" else dy
        collect = torch.mean if means else torch.sum
        dx = g - shift * collect(g, -1, keepdim=True) - stretch * x_hat * collect(g * x_hat, -1, keepdim=True)
        dx = dx * weight if gamma == "last" else dx
        parts = dy * (x if terms == "x" else x_hat), dy
        if rows is None:
            parts = [part.reshape(-1, x.shape[-1]) for part in parts]
            sums = [part.mean(0) if averaged else part.sum(0) for part in parts]
        else:
            sums = [part.sum(rows(x)) for part in parts]
        results = dx * rstd**scale, *sums
        return [results[i] for i in order]

    return wrong


def _without_the_mean(dy, x, weight, eps=1e-5):
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    x_hat, g, d = x * rstd, dy * weight, x.shape[-1]
    dx = (g - x_hat * (g * x_hat).mean(-1, keepdim=True)) * rstd
    return dx, (dy * x_hat).reshape(-1, d).sum(0), dy.reshape(-1, d).sum(0)


def _by_differences(dy, x, weight, eps=1e-5):
    dx, step = torch.zeros_like(x), 1e-6
    forward = lambda x: (_layer_norm()(x, weight, None, eps) * dy).sum()  # noqa: E731
    for i in range(x.numel()):
        bump = torch.zeros_like(x)
        bump.view(-1)[i] = step
        dx.view(-1)[i] = (forward(x + bump) - forward(x - bump)) / (2 * step)
    _, dweight, dbias = _backward()(dy, x, weight, eps)
    return dx, dweight, dbias


def _dy_through_gamma_twice(dy, x, weight, eps=1e-5):
    dx, dweight, dbias = _backward()(dy, x, weight, eps)
    return dx, dweight * weight, dbias * weight


MISTAKES["layer_norm_backward"] = (
    Mistake(
        _backward(gamma="none"),
        "dx 里没有乘 γ：先算 g = dy · weight，再往回传。",
        "γ is missing from dx: begin with g = dy · weight.",
    ),
    Mistake(
        _backward(gamma="last"),
        "dx 最后才乘 γ，太晚了：先算 g = dy · weight，两项都由 g 求出。",
        "dx is multiplied by γ at the end, which is too late: begin with g = dy · weight and take both terms from g.",
    ),
    Mistake(
        _backward(shift=0.0, stretch=0.0),
        "dx 里只有直接的那一项：均值和方差也依赖 x，还缺两项。",
        "dx has the direct way only. Mean and variance depend on x too: two terms are missing.",
    ),
    Mistake(
        _backward(shift=0.0),
        "dx 里缺了经过均值的一项：要减去 g 的均值。",
        "The way through the mean is missing from dx: subtract the mean of g.",
    ),
    Mistake(
        _backward(stretch=0.0),
        "dx 里缺了经过方差的一项：要减去 x̂ 乘以 g·x̂ 的均值。",
        "The way through the variance is missing from dx: subtract x̂ times the mean of g·x̂.",
    ),
    Mistake(
        _backward(shift=-1.0, stretch=-1.0),
        "dx 里两项的符号都反了：应为减。",
        "Both terms of dx have the wrong sign; they are subtracted.",
    ),
    Mistake(
        _backward(shift=-1.0),
        "dx 里经过均值的一项符号反了：应减去 g 的均值。",
        "The way through the mean has the wrong sign in dx: the mean of g is subtracted.",
    ),
    Mistake(
        _backward(stretch=-1.0),
        "dx 里经过方差的一项符号反了：应减去 x̂ 乘以 g·x̂ 的均值。",
        "The way through the variance has the wrong sign in dx: x̂ times the mean of g·x̂ is subtracted.",
    ),
    Mistake(
        _without_the_mean,
        "这是 RMSNorm 的反向：层归一化的 x̂ 要先减去均值，dx 里还要减去 g 的均值。",
        "This is RMSNorm's backward pass. In layer normalisation x̂ is centred, and the mean of g is subtracted in dx.",
    ),
    Mistake(_backward(scale=0), "dx 没有除以 σ，即 √(σ² + ε)。", "dx is not divided by σ, that is, by √(σ² + ε)."),
    Mistake(
        _backward(means=False),
        "两项里应该是均值，你用了求和（差一个因子 d）。",
        "The two terms need means; yours are sums, larger by a factor of d.",
    ),
    Mistake(_backward(biased=False), "方差除以了 d − 1，应为 d。", "The variance is divided by d − 1; it should be d."),
    Mistake(_backward(root="outside"), "ε 加在了根号外面。", "ε stands outside the root."),
    Mistake(
        _backward(root="none"),
        "除以的是 σ² + ε，忘了开根号：x̂ 和 dx 都要除以 √(σ² + ε)。",
        "You divide by σ² + ε, without the root: both x̂ and dx are divided by √(σ² + ε).",
    ),
    Mistake(
        _backward(scale=2),
        "dx 最后除以了 σ² + ε：应除以它的平方根，一次就够。",
        "At the end dx is divided by σ² + ε; divide by its root, once.",
    ),
    Mistake(_backward(eps=0.0), "ε 没有用上：应为 √(σ² + ε)。", "ε is not used; it should be √(σ² + ε)."),
    Mistake(
        _backward(eps=1e-5),
        "ε 写死成了 1e-5：要用传进来的 eps。",
        "ε is fixed at 1e-5; use the eps that is passed in.",
    ),
    Mistake(
        _backward(terms="x"),
        "dweight 要用归一化之后的 x̂，你用了 x。",
        "dweight needs the normalised x̂; yours has x.",
    ),
    Mistake(
        _backward(terms="centred"),
        "x̂ 应是 (x − μ)/√(σ² + ε)，你用的是 x − μ，没有除。",
        "x̂ is (x − μ)/√(σ² + ε); yours is x − μ, not divided.",
    ),
    Mistake(
        _backward(averaged=True),
        "dweight 和 dbias 对词元取了平均：应为求和。",
        "dweight and dbias are averaged over the tokens; they are sums.",
    ),
    Mistake(
        _backward(order=(0, 2, 1)),
        "结果的次序反了：dx、dweight、dbias。",
        "The results are in the wrong order: dx, dweight, dbias.",
    ),
    Mistake(
        _dy_through_gamma_twice,
        "dweight 和 dbias 里多乘了 γ：它们直接由 dy 求和。",
        "dweight and dbias carry an extra γ: they are sums of dy itself.",
    ),
    Mistake(
        _backward(rows=lambda x: tuple(range(x.dim() - 1))),
        "输入只有一维时，要求和的维是空的，而 torch 的 sum(()) 会把所有元素加起来。先 reshape(-1, d)，再 sum(0)。",
        "With a single vector there is no dimension to sum over, and torch's sum(()) adds up everything. Use reshape(-1, d), then sum(0).",
    ),
    Mistake(
        _backward(rows=lambda x: 0),
        "dweight 和 dbias 只对第 0 维求了和：除最后一维以外都要求和。",
        "dweight and dbias are summed over dimension 0 only; sum over all but the last.",
    ),
    Mistake(
        _by_differences,
        "这是差分得到的近似，输入很小时就看得出来。要用推导出来的梯度公式。",
        "This is an approximation by differences, and with very small inputs it shows. Use the formula of the gradient.",
    ),
)


# welford -------------------------------------------------------------------------------------------------------------


def _welford(biased=True, both_new=False, both_old=False, start=1, least=1):
    def wrong(x):
        mean = torch.zeros_like(x[..., 0])
        squares = torch.zeros_like(mean)
        for k, value in enumerate(x.unbind(-1), start=start):
            old = value - mean
            mean = mean + old / max(k, least)
            new = value - mean
            squares = squares + (new * new if both_new else old * old if both_old else old * new)
        return mean, squares / (x.shape[-1] - (not biased))

    return wrong


def _two_large_numbers(x):
    mean = x.mean(-1)
    return mean, x.square().mean(-1) - mean.square()


def _sum_of_squares(x):
    mean, var = _welford()(x)
    return mean, var * x.shape[-1]


def _standard_deviation(x):
    mean, var = _welford()(x)
    return mean, var.sqrt()


def _variance_first(x):
    return _welford()(x)[::-1]


def _kept_dimension(x):
    mean, var = _welford()(x)
    return mean[..., None], var[..., None]


MISTAKES["welford"] = (
    Mistake(
        _two_large_numbers,
        "这是 E[x²] − E[x]²：均值大时两个大数相减，有效数字就丢光了。照公式逐个更新。",
        "This is E[x²] − E[x]²: with a large mean two large numbers cancel. Update one by one as in the formula.",
    ),
    Mistake(_welford(biased=False), "方差除以了 d − 1，应为 d。", "The variance is divided by d − 1; it should be d."),
    Mistake(
        _welford(both_old=True),
        "M 的更新用了两次旧的均值：应为（x − 旧均值）（x − 新均值）。",
        "M is updated with the old mean twice; it is (x − old mean)(x − new mean).",
    ),
    Mistake(
        _welford(both_new=True),
        "M 的更新用了两次新的均值：先存下 x − 旧均值，再更新。",
        "M is updated with the new mean twice; store x − old mean before updating.",
    ),
    *(
        Mistake(
            _welford(start=0, least=least),
            "计数少了 1：第一个数的 k 是 1，第二个数的 k 是 2。",
            "The count is one behind: for the first number k is 1, for the second it is 2.",
        )
        for least in (0, 1)
    ),
    Mistake(
        _variance_first,
        "结果的次序反了：先均值，后方差。",
        "The results are in the wrong order: mean, then variance.",
    ),
    Mistake(_sum_of_squares, "返回的是偏差的平方和 M，还要除以 d。", "You return the sum M; divide it by d."),
    Mistake(
        _standard_deviation,
        "返回的是标准差，要的是方差。",
        "You return the standard deviation; the variance is asked for.",
    ),
    Mistake(
        _kept_dimension,
        "最后一维还留着：结果的形状是 x.shape[:-1]。",
        "The last dimension is still there; the results have shape x.shape[:-1].",
    ),
)


# merge_statistics ----------------------------------------------------------------------------------------------------


def _merge(between=2, weights="counts", factor=lambda a, b, n: a * b, minus=(0, 0)):
    """minus: what is taken off the counts of the parts and of the whole where variances are added up."""

    def wrong(count_a, mean_a, var_a, count_b, mean_b, var_b):
        n = count_a + count_b
        shares = {"equal": (0.5, 0.5), "swapped": (count_b / n, count_a / n)}
        a, b = shares.get(weights, (count_a / n, count_b / n))
        gap = mean_b - mean_a
        part, whole = minus
        var = (a - part / n) * var_a + (b - part / n) * var_b
        var = var_a + var_b if weights == "none" else var
        var = var + factor(a, b, n) * {0: torch.zeros_like(gap), 1: gap, 2: gap**2, "abs": gap.abs()}[between]
        return n, a * mean_a + b * mean_b, var * n / (n - whole)

    return wrong


def _means_averaged(count_a, mean_a, var_a, count_b, mean_b, var_b):
    n, _, var = _merge()(count_a, mean_a, var_a, count_b, mean_b, var_b)
    return n, (mean_a + mean_b) / 2, var


def _divides_by_count_a(count_a, mean_a, var_a, count_b, mean_b, var_b):
    n = count_a + count_b
    spread = (count_a * var_a + count_b * var_b + (mean_b - mean_a) ** 2 * count_a * count_b / n) / n
    return n, mean_a + (mean_b - mean_a) * count_b / count_a, spread


def _standard_deviation_of_both(*parts):
    n, mean, var = _merge()(*parts)
    return n, mean, var.sqrt()


def _returns_the_sum(count_a, mean_a, var_a, count_b, mean_b, var_b):
    n, mean, var = _merge()(count_a, mean_a, var_a, count_b, mean_b, var_b)
    return n, mean, n * var


MISTAKES["merge_statistics"] = (
    Mistake(
        _merge(between=0),
        "缺了两个均值之间的方差：均值不同时，合起来比各自更分散。",
        "The variance between the two means is missing: where they differ, the whole is more spread out than its parts.",
    ),
    Mistake(
        _merge(weights="equal"),
        "两份各算了一半：要按个数加权。",
        "Each part counts as a half; weight them by their counts.",
    ),
    Mistake(
        _means_averaged,
        "均值各算了一半：要按个数加权。",
        "The means count as a half each; weight them by their counts.",
    ),
    Mistake(
        _merge(weights="swapped"),
        "两份的权重对调了：权重是自己的个数除以总数。",
        "The weights are swapped: each part's weight is its own count over the total.",
    ),
    Mistake(
        _merge(factor=lambda a, b, n: 1.0),
        "两个均值之差的平方前面缺了 n_a n_b / n²。",
        "The squared difference of the means lacks its factor n_a n_b / n².",
    ),
    Mistake(
        _merge(factor=lambda a, b, n: a * b * n),
        "两个均值之差的平方前面，n_a n_b 只除以了 n：应除以 n²。",
        "Before the squared difference of the means, n_a n_b is divided by n; it should be n².",
    ),
    *(
        Mistake(
            _merge(between=power),
            "两个均值之差没有平方：(μ_b − μ_a)²。",
            "The difference of the means is not squared: (μ_b − μ_a)².",
        )
        for power in (1, "abs")
    ),
    Mistake(
        _merge(weights="none"),
        "两个方差直接相加了：要按个数加权平均。",
        "The two variances are added as they are; average them, weighted by their counts.",
    ),
    *(
        Mistake(
            _merge(minus=minus, factor=factor),
            "这里的方差除以个数，不是个数减 1。",
            "The variances here are divided by the count, not by the count − 1.",
        )
        for minus, factor in (
            ((1, 1), lambda a, b, n: a * b * (n - 1) / n),
            ((1, 1), lambda a, b, n: a * b),
            ((0, 1), lambda a, b, n: a * b),
        )
    ),
    Mistake(
        _standard_deviation_of_both,
        "返回的是标准差，要的是方差。",
        "You return the standard deviation; the variance is asked for.",
    ),
    Mistake(
        _divides_by_count_a,
        "均值的修正应除以总数，你除以了第一份的个数（它可能是 0）。",
        "The correction of the mean is divided by the total; you divide by the first count, which may be 0.",
    ),
    Mistake(
        _returns_the_sum,
        "返回的是偏差的平方和，还要除以总数。",
        "You return the sum of squares; divide it by the total.",
    ),
)
