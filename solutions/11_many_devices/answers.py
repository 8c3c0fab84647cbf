import torch

from tests.answers import honest, mutant

# merge


@mutant("merge", "A term is missing")
def no_term_between(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * count_b / n, squares_a + squares_b


@mutant("merge", "comes with a factor")
def gap_without_factor(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * count_b / n, squares_a + squares_b + gap**2


@mutant("merge", "comes with a factor")
def factor_is_the_product(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * count_b / n, squares_a + squares_b + gap**2 * count_a * count_b


@mutant("merge", "simply averaged")
def means_averaged(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * 0.5, squares_a + squares_b + gap**2 * count_a * count_b / n


@mutant("merge", "weights are swapped")
def weights_swapped(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * count_a / n, squares_a + squares_b + gap**2 * count_a * count_b / n


@mutant("merge", "divided by the count")
def gives_the_variance(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * count_b / n, (squares_a + squares_b + gap**2 * count_a * count_b / n) / n


@mutant("merge", "still count_a")
def count_of_one_side(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    if n == 0:
        return 0, mean_a, squares_a
    return count_a, mean_a + gap * count_b / n, squares_a + squares_b + gap**2 * count_a * count_b / n


@mutant("merge", "wrong sign")
def gap_reversed(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_a - mean_b
    if n == 0:
        return 0, mean_a, squares_a
    return n, mean_a + gap * count_b / n, squares_a + squares_b + gap**2 * count_a * count_b / n


@mutant("merge")
def no_guard(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n, gap = count_a + count_b, mean_b - mean_a
    share = torch.tensor(float(count_b)) / n
    return n, mean_a + gap * share, squares_a + squares_b + gap**2 * count_a * share


@mutant("merge", "two large numbers cancel")
def back_to_squares(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    n = count_a + count_b
    if n == 0:
        return 0, mean_a, squares_a
    mean = mean_a + (mean_b - mean_a) * count_b / n
    raw = squares_a + count_a * mean_a**2 + squares_b + count_b * mean_b**2
    return n, mean, raw - n * mean**2


@honest("merge")
def by_the_share(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    if not count_b:
        return count_a, mean_a, squares_a
    share = count_b / (count_a + count_b)
    gap = mean_b - mean_a
    return count_a + count_b, mean_a + share * gap, squares_a + squares_b + share * count_a * gap * gap


@honest("merge")
def about_the_common_mean(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    total = count_a + count_b
    mean = mean_a.lerp(mean_b, count_b / max(total, 1))
    shifts = count_a * (mean_a - mean) ** 2 + count_b * (mean_b - mean) ** 2
    return total, mean, squares_a + shifts + squares_b


@honest("merge")
def in_fp64(count_a, mean_a, squares_a, count_b, mean_b, squares_b):
    counts = torch.tensor([count_a, count_b], dtype=torch.float64)
    means = torch.stack([mean_a, mean_b]).double()
    total = counts.sum().clamp(min=1.0)
    mean = (counts[:, None] * means).sum(0) / total
    squares = squares_a.double() + squares_b.double() + (counts[:, None] * (means - mean).square()).sum(0)
    return count_a + count_b, mean.float(), squares.float()


# split_layer_norm


def all_reduce(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return [total] * len(parts)


@mutant("split_layer_norm", "own statistics, which is GroupNorm")
def each_by_itself(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    means = [x.mean(-1, keepdim=True) for x in h]
    centred = [x - m for x, m in zip(h, means)]
    variances = [c.square().mean(-1, keepdim=True) for c in centred]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "variance is of a rank's own slice")
def variance_of_the_slice(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [c.square().mean(-1, keepdim=True) for c in centred]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "own mean, and the differences")
def deviations_from_own_means(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [
        total / n for total in all_reduce([(x - x.mean(-1, keepdim=True)).square().sum(-1, keepdim=True) for x in h])
    ]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "means of the slices are averaged")
def average_of_means(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / len(h) for total in all_reduce([x.mean(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / n for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "variances of the slices are averaged")
def average_of_variances(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / len(h) for total in all_reduce([c.square().mean(-1, keepdim=True) for c in centred])]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "not divided by the number")
def not_divided(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "two large numbers cancel")
def from_squares(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [
        total / n - m.square() for total, m in zip(all_reduce([x.square().sum(-1, keepdim=True) for x in h]), means)
    ]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm")
def count_less_one(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / (n - 1) for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "outside the root")
def eps_outside(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / n for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / (torch.sqrt(v) + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "weights are not applied")
def no_weights(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / n for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, _w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "biases are not added")
def no_biases(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / n for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, w, _b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w).to(x.dtype))
    return outputs


@mutant("split_layer_norm", "compute in fp16")
def in_half(slices, weights, biases, eps):
    h = [x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / n for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append((c / torch.sqrt(v + eps) * w + b).to(x.dtype))
    return outputs


@mutant("split_layer_norm")
def left_in_fp32(slices, weights, biases, eps):
    h = [x.float() if x.dtype == torch.float16 else x for x in slices]
    n = sum(x.shape[-1] for x in h)
    means = [total / n for total in all_reduce([x.sum(-1, keepdim=True) for x in h])]
    centred = [x - m for x, m in zip(h, means)]
    variances = [total / n for total in all_reduce([x.square().sum(-1, keepdim=True) for x in centred])]
    outputs = []
    for _x, c, v, w, b in zip(slices, centred, variances, weights, biases):
        outputs.append(c / torch.sqrt(v + eps) * w + b)
    return outputs


@honest("split_layer_norm")
def in_two_reductions(slices, weights, biases, eps):
    d = sum(part.size(-1) for part in slices)
    mean = all_reduce([part.float().sum(-1) for part in slices])[0] / d
    squares = all_reduce([((part.float() - mean[..., None]) ** 2).sum(-1) for part in slices])[0]
    rstd = (squares / d + eps).rsqrt()
    result = []
    for part, weight, bias in zip(slices, weights, biases):
        y = (part.float() - mean.unsqueeze(-1)) * rstd.unsqueeze(-1) * weight + bias
        result.append(y.to(part.dtype))
    return result


@honest("split_layer_norm")
def squares_in_fp64(slices, weights, biases, eps):
    """E[x²] − E[x]², which fp64 can afford here; both sums in one reduction."""
    wide = [part.double() for part in slices]
    packed = [torch.stack([part.sum(-1), part.pow(2).sum(-1)]) for part in wide]
    n = sum(part.shape[-1] for part in slices)
    outputs = []
    for part, x, total, weight, bias in zip(slices, wide, all_reduce(packed), weights, biases):
        mean, square = total / n
        variance = square - mean**2
        y = (x - mean[..., None]) / torch.sqrt(variance + eps)[..., None]
        outputs.append((y * weight + bias).to(part.dtype))
    return outputs


@honest("split_layer_norm")
def own_statistics_then_merged(slices, weights, biases, eps):
    wide = [part.to(torch.float32) for part in slices]
    widths = [part.shape[-1] for part in wide]
    total, own = sum(widths), [part.mean(dim=-1, keepdim=True) for part in wide]
    mean = all_reduce([width * m for width, m in zip(widths, own)])[0] / total
    pieces = []
    for part, m, width in zip(wide, own, widths):
        pieces.append((part - m).square().sum(dim=-1, keepdim=True) + width * (m - mean).square())
    variance = all_reduce(pieces)[0] / total
    return [
        ((x - mean) * torch.rsqrt(variance + eps) * w + b).type_as(part)
        for part, x, w, b in zip(slices, wide, weights, biases)
    ]


# split_layer_norm_backward


@mutant("split_layer_norm_backward", "averages of g and g·x̂ are over a rank's own slice")
def averages_of_the_slice(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [p.mean(-1, keepdim=True) for p in parts]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - m - x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "statistics of a rank's own slice")
def statistics_of_the_slice(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [p.mean(-1, keepdim=True) for p in parts]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - m - x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "Nothing is reduced")
def nothing_reduced(dys, slices, weights, eps):

    def average(parts):
        return [p.mean(-1, keepdim=True) for p in parts]

    def other(parts):
        return [p.mean(-1, keepdim=True) for p in parts]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - m - x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "average of g is missing")
def no_mean_of_g(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "average of g·x̂ is missing")
def no_mixed_term(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - m) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "Neither average")
def statistics_taken_as_fixed(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * g for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "dy times weight")
def weights_left_out(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy for dy in dys]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - m - x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "1/sqrt(variance + ε) is missing")
def not_scaled(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [g - m - x * k for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "they should be averages")
def sums_not_averages(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return all_reduce([p.sum(-1, keepdim=True) for p in parts])

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g - m - x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward", "subtracted, not added")
def added(dys, slices, weights, eps):
    n = sum(x.shape[-1] for x in slices)

    def average(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    def other(parts):
        return [t / n for t in all_reduce([p.sum(-1, keepdim=True) for p in parts])]

    centred = [x - m for x, m in zip(slices, average(slices))]
    rs = [torch.rsqrt(v + eps) for v in average([c.square() for c in centred])]
    xs = [c * r for c, r in zip(centred, rs)]
    gs = [dy * w for dy, w in zip(dys, weights)]
    rest = zip(other(gs), other([g * x for g, x in zip(gs, xs)]))
    return [r * (g + m + x * k) for r, g, x, (m, k) in zip(rs, gs, xs, rest)]


@mutant("split_layer_norm_backward")
def by_autograd(dys, slices, weights, eps):
    xs = [x.detach().requires_grad_() for x in slices]
    n = sum(x.shape[-1] for x in slices)
    with torch.enable_grad():
        mean = all_reduce([x.sum(-1, keepdim=True) for x in xs])[0] / n
        variance = all_reduce([(x - mean).square().sum(-1, keepdim=True) for x in xs])[0] / n
        loss = sum(((x - mean) * torch.rsqrt(variance + eps) * w * dy).sum() for x, w, dy in zip(xs, weights, dys))
        return list(torch.autograd.grad(loss, xs))


@honest("split_layer_norm_backward")
def step_by_step(dys, slices, weights, eps):
    d = sum(x.size(-1) for x in slices)
    mean = all_reduce([x.sum(-1, keepdim=True) for x in slices])[0] / d
    variance = all_reduce([(x - mean).pow(2).sum(-1, keepdim=True) for x in slices])[0] / d
    rstd = 1 / torch.sqrt(variance + eps)
    sums, results = [], []
    for dy, x, weight in zip(dys, slices, weights):
        g = dy * weight
        sums.append(torch.stack([g.sum(-1), (g * (x - mean) * rstd).sum(-1)]))
    first, second = all_reduce(sums)[0] / d
    for dy, x, weight in zip(dys, slices, weights):
        x_hat = (x - mean) * rstd
        results.append(rstd * (dy * weight - first.unsqueeze(-1) - x_hat * second.unsqueeze(-1)))
    return results


@honest("split_layer_norm_backward")
def variance_and_mean_as_chains(dys, slices, weights, eps):
    """Through the variance and the mean, as the chain rule has it."""
    n = float(sum(x.shape[-1] for x in slices))
    mean = all_reduce([x.sum(-1, keepdim=True) for x in slices])[0] / n
    centred = [x - mean for x in slices]
    inner = all_reduce([(c * c).sum(-1, keepdim=True) for c in centred])[0] / n + eps
    gs = [dy * w for dy, w in zip(dys, weights)]
    through = all_reduce([(g * c).sum(-1, keepdim=True) for g, c in zip(gs, centred)])[0]
    d_variance = -0.5 * through * inner**-1.5
    d_mean = -all_reduce([g.sum(-1, keepdim=True) for g in gs])[0] * inner**-0.5
    return [g * inner**-0.5 + d_variance * 2 * c / n + d_mean / n for g, c in zip(gs, centred)]


@honest("split_layer_norm_backward")
def in_fp64_and_back(dys, slices, weights, eps):
    xs, gs = [x.double() for x in slices], [dy.double() * w.double() for dy, w in zip(dys, weights)]
    n = sum(x.shape[-1] for x in xs)
    both = all_reduce([torch.stack([x.sum(-1), x.square().sum(-1)]) for x in xs])[0] / n
    mean, rstd = both[0, ..., None], torch.rsqrt(both[1] - both[0].square() + eps)[..., None]
    x_hats = [(x - mean) * rstd for x in xs]
    sums = all_reduce([torch.stack([g.sum(-1), (g * h).sum(-1)]) for g, h in zip(gs, x_hats)])[0] / n
    out = [rstd * (g - sums[0, ..., None] - h * sums[1, ..., None]) for g, h in zip(gs, x_hats)]
    return [dx.to(x.dtype) for dx, x in zip(out, slices)]
