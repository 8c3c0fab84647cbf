"""The mistakes that people make in exercise 11."""

import torch

from normcourse.check import Mistake

MISTAKES = {}

# merge ---------------------------------------------------------------------------------------------------------------


def _merge(shift="both", weight="share", variance=False, counted="sum", guard=True, textbook=False, sign=1):
    """The merge with mistakes to switch on."""

    def wrong(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
        count = count_a + count_b
        n = count if count or not guard else 1
        gap = sign * (mean_b - mean_a)
        if n == 0:
            return count, mean_a / 0, squares_a / 0
        share = {"share": count_b / n, "half": 0.5, "swapped": count_a / n, "none": 0.0}[weight]
        factor = {
            "both": count_a * count_b / n,
            "none": 0,
            "one": 1,
            "n_b": count_b,
            "n": n,
            "product": count_a * count_b,
        }
        mean = mean_a + gap * share
        squares = squares_a + squares_b + gap.square() * factor[shift]
        if textbook:
            raw = squares_a + count_a * mean_a.square() + squares_b + count_b * mean_b.square()
            squares = raw - n * mean.square()
        count = {"sum": count, "a": count_a, "b": count_b}[counted]
        return count, mean, squares / n if variance else squares

    return wrong


MISTAKES["merge"] = (
    Mistake(
        _merge(shift="none"),
        "少了一项：两方的均值不同，差的平方也要加进 squares。",
        "A term is missing: the two sides have different means, and the square of that difference belongs in squares.",
    ),
    *(
        Mistake(
            _merge(shift=shift),
            "均值之差的平方，前面的系数应为 n_a · n_b / (n_a + n_b)。",
            "The square of the difference of the means comes with a factor of n_a · n_b / (n_a + n_b).",
        )
        for shift in ("one", "n_b", "n", "product")
    ),
    Mistake(
        _merge(weight="half"),
        "两个均值直接取了平均：要按个数加权。",
        "The two means are simply averaged; weigh them by their counts.",
    ),
    Mistake(
        _merge(weight="swapped"),
        "权重反了：均值从 mean_a 出发，按 n_b 所占的比例移向 mean_b。",
        "The weights are swapped: from mean_a the mean moves towards mean_b by the share of n_b.",
    ),
    Mistake(
        _merge(weight="none"), "均值还是 mean_a：没有合并。", "The mean is still mean_a: nothing was merged into it."
    ),
    Mistake(
        _merge(sign=-1),
        "差的符号反了：应为 mean_b − mean_a。",
        "The difference has the wrong sign: it should be mean_b − mean_a.",
    ),
    Mistake(
        _merge(variance=True),
        "squares 除以了个数：它是偏差的平方和，不是方差。",
        "squares is divided by the count; it is the sum of squared deviations and not the variance.",
    ),
    Mistake(
        _merge(counted="a"), "个数还是 count_a：要加上 count_b。", "The count is still count_a: add count_b to it."
    ),
    Mistake(
        _merge(counted="b"), "个数是 count_b：要加上 count_a。", "The count is that of count_b: add count_a to it."
    ),
    Mistake(
        _merge(guard=False),
        "双方都是空的时候除以了 0：这时三样都应是 0。",
        "Where both sides are empty you divide by 0; all three should be 0 then.",
    ),
    Mistake(
        _merge(textbook=True),
        "你先还原成平方和再相减：均值大的时候，两个大数相消。直接用两个均值之差。",
        "You go back to sums of squares and subtract: where means are large, two large numbers cancel. Use the difference of the means.",
    ),
)

# split_layer_norm ----------------------------------------------------------------------------------------------------


def _statistics(slices, mean="all", variance="all", unbiased=False):
    """Means and variances of each rank, with mistakes to switch on."""
    count, ranks = sum(x.shape[-1] for x in slices), len(slices)
    sums = [x.sum(-1, keepdim=True) for x in slices]
    own = [x.mean(-1, keepdim=True) for x in slices]
    means = {
        "all": [sum(sums) / count] * ranks,
        "own": own,
        "average": [sum(own) / ranks] * ranks,
        "width": [sum(sums) / x.shape[-1] for x in slices],
        "first": [own[0]] * ranks,
    }[mean]
    centred = [x - m for x, m in zip(slices, means)]
    squares = [h.square().sum(-1, keepdim=True) for h in centred]
    inside = [(x - m).square().sum(-1, keepdim=True) for x, m in zip(slices, own)]
    n = count - 1 if unbiased else count
    variances = {
        "all": [sum(squares) / n] * ranks,
        "own": [s / x.shape[-1] for s, x in zip(squares, slices)],
        "within": [sum(inside) / n] * ranks,
        "average": [sum(s / x.shape[-1] for s, x in zip(squares, slices)) / ranks] * ranks,
        "sum": [sum(squares)] * ranks,
        "textbook": [sum(x.square().sum(-1, keepdim=True) for x in slices) / n - means[0].square()] * ranks,
    }[variance]
    return centred, variances


def _split(wide=True, root="inside", gamma=True, beta=True, joined=False, **statistics):
    def wrong(slices, weights, biases, eps):
        h = [x.float() if x.dtype == torch.float16 and wide else x for x in slices]
        outputs = []
        for x, centred, v, w, b in zip(slices, *_statistics(h, **statistics), weights, biases):
            divisor = {"inside": (v + eps).sqrt(), "outside": v.sqrt() + eps, "none": v.sqrt()}[root]
            y = centred / divisor * (w if gamma else 1) + (b if beta else 0)
            outputs.append(y.to(x.dtype))
        return torch.cat(outputs, -1) if joined else outputs

    return wrong


def _in_fp32(slices, weights, biases, eps):
    return [y.float() for y in _split()(slices, weights, biases, eps)]


MISTAKES["split_layer_norm"] = (
    Mistake(
        _split(mean="own", variance="own"),
        "每个进程用了自己的统计量：这是每段一组的组归一化。均值和方差都要经过 all_reduce。",
        "Each rank uses its own statistics, which is GroupNorm with a group per slice. Mean and variance both have to go through all_reduce.",
    ),
    Mistake(
        _split(mean="own"),
        "均值还是自己那一段的：先 all_reduce 各段的和。",
        "The mean is still that of a rank's own slice: all_reduce the sums first.",
    ),
    Mistake(
        _split(variance="own"),
        "方差只看了自己那一段：偏差的平方和也要 all_reduce。",
        "The variance is of a rank's own slice: the sum of squared deviations has to be all_reduced too.",
    ),
    Mistake(
        _split(variance="within"),
        "各段的偏差是从自己的均值算起的，段与段之间的差别丢了：要从总的均值算起。",
        "Deviations are from each slice's own mean, and the differences between slices are lost. Take them from the mean of all.",
    ),
    Mistake(
        _split(mean="average"),
        "对各段的均值取了平均：各段不一样宽，要用和除以总数。",
        "The means of the slices are averaged; slices are not equally wide, so divide the sum by the number of all features.",
    ),
    Mistake(
        _split(variance="average"),
        "对各段的方差取了平均：各段不一样宽，要用和除以总数。",
        "The variances of the slices are averaged; slices are not equally wide, so divide the sum by the number of all features.",
    ),
    Mistake(
        _split(mean="width"),
        "除以了自己这一段的宽度：要除以所有进程的特征总数。",
        "You divide by the width of a rank's own slice; divide by the number of features of all ranks.",
    ),
    Mistake(
        _split(mean="first"),
        "均值是 0 号进程的：要取遍所有进程。",
        "The mean is that of rank 0; it should be over all ranks.",
    ),
    Mistake(
        _split(variance="sum"),
        "偏差的平方和没有除以特征总数。",
        "The sum of squared deviations is not divided by the number of features.",
    ),
    Mistake(
        _split(variance="textbook"),
        "方差用了 E[x²] − E[x]²：均值大的时候两个大数相消。先减均值，再平方，再规约一次。",
        "The variance is E[x²] − E[x]², where two large numbers cancel if the mean is large. Subtract the mean, square, and reduce once more.",
    ),
    Mistake(
        _split(unbiased=True),
        "方差除以了个数减一：应除以个数。",
        "The variance is divided by the count less one; divide by the count.",
    ),
    Mistake(
        _split(root="outside"),
        "ε 加在了根号外面：应为 sqrt(方差 + ε)。",
        "ε stands outside the root: it should be sqrt(variance + ε).",
    ),
    Mistake(_split(root="none"), "ε 没有用上。", "ε is not used."),
    Mistake(_split(gamma=False), "没有乘 weights。", "weights are not applied."),
    Mistake(_split(beta=False), "没有加 biases。", "biases are not added."),
    Mistake(
        _split(wide=False),
        "你在 fp16 里计算，平方会溢出：先把各段转成 fp32。",
        "You compute in fp16, where squares overflow: convert the slices to fp32 first.",
    ),
    Mistake(
        _in_fp32,
        "返回的是 fp32：每一段的数据类型要和输入相同。",
        "The result is in fp32; each output should have the dtype of its slice.",
    ),
)

# split_layer_norm_backward -------------------------------------------------------------------------------------------


def _back(first=True, second=True, average="all", gamma=True, rstd=True, root="inside", plus=False, **statistics):
    def wrong(dys, slices, weights, eps):
        count = sum(x.shape[-1] for x in slices)
        centred, variances = _statistics(slices, **statistics)
        scales = [1 / {"inside": (v + eps).sqrt(), "outside": v.sqrt() + eps}[root] for v in variances]
        x_hats = [h * scale for h, scale in zip(centred, scales)]
        gs = [dy * w if gamma else dy for dy, w in zip(dys, weights)]

        def averages(parts):
            sums = [part.sum(-1, keepdim=True) for part in parts]
            return {
                "all": [sum(sums) / count] * len(parts),
                "own": [s / part.shape[-1] for s, part in zip(sums, parts)],
                "width": [sum(sums) / part.shape[-1] for part in parts],
                "sum": [sum(sums)] * len(parts),
            }[average]

        both = zip(averages(gs), averages([g * x_hat for g, x_hat in zip(gs, x_hats)]))
        results = []
        for scale, g, x_hat, (mean, mixed) in zip(scales, gs, x_hats, both):
            away = (mean if first else 0) + (x_hat * mixed if second else 0)
            dx = g + away if plus else g - away
            results.append(dx * scale if rstd else dx)
        return results

    return wrong


MISTAKES["split_layer_norm_backward"] = (
    Mistake(
        _back(average="own"),
        "g 和 g·x̂ 的平均只看了自己那一段：也要 all_reduce。",
        "The averages of g and g·x̂ are over a rank's own slice; they have to be all_reduced too.",
    ),
    Mistake(
        _back(mean="own", variance="own"),
        "x̂ 用的是自己那一段的统计量：前向那两个规约在这里也要做。",
        "x̂ is made with the statistics of a rank's own slice; the two reductions of the forward pass are needed here as well.",
    ),
    Mistake(
        _back(mean="own", variance="own", average="own"),
        "没有任何规约：每个进程各算各的。统计量和两个平均都要取遍所有进程。",
        "Nothing is reduced: each rank is by itself. Statistics and both averages have to be over all ranks.",
    ),
    Mistake(_back(first=False), "少了 g 的平均那一项。", "The average of g is missing."),
    Mistake(_back(second=False), "少了 x̂ 乘以 g·x̂ 的平均那一项。", "The term x̂ times the average of g·x̂ is missing."),
    Mistake(
        _back(first=False, second=False),
        "两个平均都没有减：均值和方差也依赖 x。",
        "Neither average is subtracted; mean and variance depend on x as well.",
    ),
    Mistake(_back(gamma=False), "g 应为 dy 乘以 weight。", "g should be dy times weight."),
    Mistake(
        _back(rstd=False),
        "没有乘以 1/sqrt(方差 + ε)。",
        "The factor 1/sqrt(variance + ε) is missing.",
    ),
    Mistake(
        _back(average="width"),
        "除以了自己这一段的宽度：要除以所有进程的特征总数。",
        "You divide by the width of a rank's own slice; divide by the number of features of all ranks.",
    ),
    Mistake(
        _back(average="sum"),
        "两项用了和：应为平均，要除以特征总数。",
        "The two terms are sums; they should be averages, divided by the number of features.",
    ),
    Mistake(_back(plus=True), "两项是减去，不是加上。", "The two terms are subtracted, not added."),
    Mistake(
        _back(mean="average"),
        "对各段的均值取了平均：各段不一样宽，要用和除以总数。",
        "The means of the slices are averaged; slices are not equally wide, so divide the sum by the number of all features.",
    ),
    Mistake(
        _back(variance="within"),
        "方差里各段的偏差是从自己的均值算起的：要从总的均值算起。",
        "In the variance, deviations are from each slice's own mean; take them from the mean of all.",
    ),
    Mistake(
        _back(unbiased=True),
        "方差除以了个数减一：应除以个数。",
        "The variance is divided by the count less one; divide by the count.",
    ),
    Mistake(
        _back(root="outside"),
        "ε 加在了根号外面：应为 sqrt(方差 + ε)。",
        "ε stands outside the root: it should be sqrt(variance + ε).",
    ),
)
