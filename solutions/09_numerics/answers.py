import math

import torch

from tests.answers import honest, mutant

# absorb


@mutant("absorb", "A term is missing")
def only_within(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new = x.mean(-1)
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return count + m, (count * mean + m * new) / (count + m), squares + inside


@mutant("absorb", "a factor of count")
def between_without_weights(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new = x.mean(-1)
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return count + m, (count * mean + m * new) / (count + m), squares + inside + (new - mean) ** 2


@mutant("absorb", "simply averaged")
def mean_of_means(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new = x.mean(-1)
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return count + m, (mean + new) / 2, squares + inside + (new - mean) ** 2 * count * m / (count + m)


@mutant("absorb", "divided by the count")
def variance_in_place_of_squares(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new, n = x.mean(-1), count + m
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return n, mean + (new - mean) * m / n, (squares + inside + (new - mean) ** 2 * count * m / n) / n


@mutant("absorb", "m times as much")
def variance_of_the_chunk(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new, n = x.mean(-1), count + m
    inside = ((x - new[..., None]) ** 2).mean(-1)
    return n, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@mutant("absorb", "half precision")
def never_widened(count, mean, squares, chunk):
    m, n = chunk.shape[-1], count + chunk.shape[-1]
    new = chunk.mean(-1)
    inside = ((chunk - new[..., None]) ** 2).sum(-1)
    return n, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@mutant("absorb", "rounded to half precision")
def mean_rounded(count, mean, squares, chunk):
    m, n = chunk.shape[-1], count + chunk.shape[-1]
    new, x = chunk.mean(-1).float(), chunk.float()
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return n, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@mutant("absorb", "cancel where the mean is large")
def textbook(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new, n = x.mean(-1), count + m
    inside = (x * x).sum(-1) - m * new**2
    return n, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@mutant("absorb", "goes up by 1")
def counts_calls(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new, n = x.mean(-1), count + m
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return count + 1, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@mutant("absorb")
def begins_anew(count, mean, squares, chunk):
    x = chunk.float()
    new = x.mean(-1)
    return chunk.shape[-1], new, ((x - new[..., None]) ** 2).sum(-1)


@mutant("absorb", "float64; expected torch.float32")
def in_fp64(count, mean, squares, chunk):
    x, m = chunk.double(), chunk.shape[-1]
    new, n = x.mean(-1), count + m
    inside = ((x - new[..., None]) ** 2).sum(-1)
    return n, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@mutant("absorb", "without calling PyTorch's var")
def ready_made(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    new, n = x.mean(-1), count + m
    inside = x.var(-1, correction=0) * m
    return n, mean + (new - mean) * m / n, squares + inside + (new - mean) ** 2 * count * m / n


@honest("absorb")
def one_by_one(count, mean, squares, chunk):
    for value in chunk.float().unbind(-1):
        count += 1
        before = value - mean
        mean = mean + before / count
        squares = squares + before * (value - mean)
    return count, mean, squares


@honest("absorb")
def about_the_common_mean(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.size(-1)
    n = count + m
    common = mean + (x - mean.unsqueeze(-1)).sum(-1) / n
    moved = count * (mean - common).square()
    return n, common, squares + moved + (x - common.unsqueeze(-1)).square().sum(-1)


@honest("absorb")
def in_fp64_and_back(count, mean, squares, chunk):
    x, m = chunk.to(torch.float64), chunk.shape[-1]
    new = x.mean(dim=-1)
    gap = new - mean.double()
    n = torch.tensor(float(count + m), dtype=torch.float64)
    both = mean.double() + gap * m / n
    inside = torch.linalg.vector_norm(x - new.unsqueeze(-1), dim=-1) ** 2
    return count + m, both.float(), (squares.double() + inside + gap**2 * count * m / n).float()


@honest("absorb")
def deviations_from_the_first(count, mean, squares, chunk):
    x, m = chunk.float(), chunk.shape[-1]
    first = x[..., :1]
    shifted = x - first
    centre = shifted.mean(-1, keepdim=True)
    new = (first + centre).squeeze(-1)
    inside = (shifted - centre).pow(2).sum(-1)
    n = count + m
    return n, (count / n) * mean + (m / n) * new, squares + inside + (new - mean).pow(2) * (count * m / n)


# log_rms


def half_to_float(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


@mutant("log_rms", "overflow or vanish")
def straightforward(x):
    return half_to_float(x).square().mean(-1).sqrt().log().to(x.dtype)


@mutant("log_rms", "of the whole tensor")
def one_scale(x):
    h = half_to_float(x)
    largest = h.abs().max()
    return (torch.log(largest) + 0.5 * torch.log(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms", "not added back")
def scale_forgotten(x):
    h = half_to_float(x)
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (0.5 * torch.log(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms", "not averaged")
def log_of_the_length(x):
    h = half_to_float(x)
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (largest.squeeze(-1).log() + 0.5 * torch.log(((h / largest) ** 2).sum(-1))).to(x.dtype)


@mutant("log_rms", "root is missing")
def root_forgotten(x):
    h = half_to_float(x)
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (largest.squeeze(-1).log() + torch.log(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms", "gives nan (0/0)")
def zeros_forgotten(x):
    h = half_to_float(x)
    largest = h.abs().amax(-1, keepdim=True)
    return (largest.squeeze(-1).log() + 0.5 * torch.log(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms", "1e-08 is added to the squares")
def with_an_eps(x):
    h = half_to_float(x)
    return (0.5 * torch.log(h.square().mean(-1) + 1e-8)).to(x.dtype)


@mutant("log_rms", "1e-12 is added: a row of zeros")
def with_a_small_eps(x):
    h = half_to_float(x)
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (largest.squeeze(-1).log() + 0.5 * torch.log(((h / largest) ** 2).mean(-1) + 1e-12)).to(x.dtype)


@mutant("log_rms", "base 2")
def base_two(x):
    h = half_to_float(x)
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (largest.squeeze(-1).log2() + 0.5 * torch.log2(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms", "fp64 goes through fp32")
def always_fp32(x):
    h = x.float()
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (largest.squeeze(-1).log() + 0.5 * torch.log(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms", "gets no gradient")
def through_numpy(x):
    h = half_to_float(x).detach()
    largest = h.abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    return (largest.squeeze(-1).log() + 0.5 * torch.log(((h / largest) ** 2).mean(-1))).to(x.dtype)


@mutant("log_rms")
def writes_over_its_input(x):
    largest = x.detach().abs().amax(-1, keepdim=True)
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    with torch.no_grad():
        x /= largest
    return (largest.squeeze(-1).float().log() + 0.5 * x.float().square().mean(-1).log()).to(x.dtype)


@honest("log_rms")
def by_logsumexp(x):
    h = half_to_float(x)
    zero = h == 0
    logs = torch.where(zero, -math.inf, torch.where(zero, 1.0, h.abs()).log())
    return (0.5 * (torch.logsumexp(2 * logs, -1) - math.log(x.shape[-1]))).to(x.dtype)


@honest("log_rms")
def by_powers_of_two(x):
    h = x if x.dtype == torch.float64 else x.float()
    largest = h.detach().abs().amax(-1, keepdim=True)
    exponent = torch.where(largest > 0, largest, 1.0).log2().floor().double()
    scaled = h.double() * 2.0**-exponent
    return (0.5 * scaled.square().mean(-1).log() + exponent[..., 0] * math.log(2)).to(x.dtype)


@honest("log_rms")
def wide_and_scaled(x):
    h = x.double()
    top = h.abs().amax(dim=-1, keepdim=True).clamp(min=1e-300)
    unit_rms = torch.sqrt(torch.mean((h / top) ** 2, dim=-1))
    return (torch.log(unit_rms) + torch.log(top).squeeze(-1)).to(x.dtype)


@honest("log_rms")
def row_by_row(x):
    rows = []
    for row in half_to_float(x).reshape(-1, x.shape[-1]):
        largest = row.abs().max()
        if largest == 0:
            rows.append(row.sum() - math.inf)
        else:
            rows.append(largest.log() + ((row / largest) ** 2).mean().log() / 2)
    return torch.stack(rows).reshape(x.shape[:-1]).to(x.dtype)


# quantise_channels


@mutant("quantise_channels", "one scale for the whole tensor")
def per_tensor(x, bits):
    scale = (x.float().abs().max() / (2 ** (bits - 1) - 1)).expand(x.shape[-1])
    return torch.round(x.float() / scale).to(torch.int8), scale.clone()


@mutant("quantise_channels", "a scale per token")
def per_token(x, bits):
    scale = x.float().abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.round(x.float() / scale).to(torch.int8), scale.squeeze(-1)


@mutant("quantise_channels", "over dimension 0 only")
def for_matrices(x, bits):
    scale = x.float().abs().amax(0, keepdim=True) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.round(x.float() / scale).to(torch.int8), scale.squeeze(0)


@mutant("quantise_channels", "yours is 2^(bits−1).")
def one_too_many(x, bits):
    scale = x.float().abs().amax(tuple(range(x.dim() - 1))) / 2 ** (bits - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.round(x.float() / scale).clamp(-(2**7), 127).to(torch.int8), scale


@mutant("quantise_channels", "fixed at 127")
def always_eight_bits(x, bits):
    scale = x.float().abs().amax(tuple(range(x.dim() - 1))) / 127
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.round(x.float() / scale).to(torch.int8), scale


@mutant("quantise_channels", "cuts the fraction off")
def truncated(x, bits):
    scale = x.float().abs().amax(tuple(range(x.dim() - 1))) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.trunc(x.float() / scale * (1 + 1e-6)).to(torch.int8), scale


@mutant("quantise_channels", "without abs")
def largest_without_abs(x, bits):
    scale = x.float().amax(tuple(range(x.dim() - 1))) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.round(x.float() / scale).clamp(-128, 127).to(torch.int8), scale


@mutant("quantise_channels")
def zero_channel_forgotten(x, bits):
    scale = x.float().abs().amax(tuple(range(x.dim() - 1))) / (2 ** (bits - 1) - 1)
    return torch.round(x.float() / scale).to(torch.int8), scale


@mutant("quantise_channels", "inverse of the scale")
def inverse_scale(x, bits):
    inverse = (2 ** (bits - 1) - 1) / x.float().abs().amax(tuple(range(x.dim() - 1))).clamp(min=1e-12)
    return torch.round(x.float() * inverse).to(torch.int8), inverse


@mutant("quantise_channels", "order is reversed")
def scale_first(x, bits):
    scale = x.float().abs().amax(tuple(range(x.dim() - 1))) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale, torch.round(x.float() / scale).to(torch.int8)


@mutant("quantise_channels")
def scale_stays_in_fp16(x, bits):
    scale = x.abs().amax(tuple(range(x.dim() - 1))) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return torch.round(x / scale).to(torch.int8), scale


@mutant("quantise_channels")
def small_channels_clamped(x, bits):
    scale = x.float().abs().amax(tuple(range(x.dim() - 1))).clamp(min=1.0) / (2 ** (bits - 1) - 1)
    return torch.round(x.float() / scale).to(torch.int8), scale


@honest("quantise_channels")
def channel_by_channel(x, bits):
    top, integers, scales = 2 ** (bits - 1) - 1, [], []
    for channel in x.float().unbind(-1):
        size = channel.abs().max().item()
        scales.append(size / top if size else 1.0)
        integers.append(torch.round(channel / scales[-1]).to(torch.int8))
    return torch.stack(integers, -1), torch.tensor(scales)


@honest("quantise_channels")
def times_the_inverse(x, bits):
    h = x.to(torch.float64).flatten(0, -2) if x.dim() > 2 else x.double()
    size, top = h.abs().max(0).values, (1 << bits - 1) - 1
    size = torch.where(size > 0, size, float(top))
    q = (h * (top / size)).round().clamp(-top, top)
    return q.reshape(x.shape).char(), (size / top).float()


@honest("quantise_channels")
def in_place_on_a_copy(x, bits):
    top = 2 ** (bits - 1) - 1
    flat = x.reshape(-1, x.shape[-1]).clone().float()
    scale = flat.abs().amax(0).div_(top)
    scale[scale == 0] = 1
    return flat.div_(scale).round_().to(torch.int8).view(x.shape), scale


# sum_error_bound


def factor_of(k, u):
    return k * u / (1 - k * u) if k * u < 1 else math.inf


@mutant("sum_error_bound", "u is half of eps")
def eps_for_u(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    return factor_of(k, torch.finfo(x.dtype).eps) * x.double().abs().sum(-1)


@mutant("sum_error_bound", "One addition too many")
def n_additions(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) + 1 if pairwise else n
    return factor_of(k, torch.finfo(x.dtype).eps / 2) * x.double().abs().sum(-1)


@mutant("sum_error_bound", "sum of absolute values. Errors")
def of_the_sum(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    return factor_of(k, torch.finfo(x.dtype).eps / 2) * x.double().sum(-1).abs()


@mutant("sum_error_bound", "denominator")
def first_order(x, pairwise):
    n = x.shape[-1]
    k, u = math.ceil(math.log2(n)) if pairwise else n - 1, torch.finfo(x.dtype).eps / 2
    return (k * u if k * u < 1 else math.inf) * x.double().abs().sum(-1)


@mutant("sum_error_bound", "no bound then")
def beyond_its_range(x, pairwise):
    n = x.shape[-1]
    k, u = math.ceil(math.log2(n)) if pairwise else n - 1, torch.finfo(x.dtype).eps / 2
    return k * u / (1 - k * u) * x.double().abs().sum(-1)


@mutant("sum_error_bound", "pairwise is ignored")
def always_in_a_row(x, pairwise):
    return factor_of(x.shape[-1] - 1, torch.finfo(x.dtype).eps / 2) * x.double().abs().sum(-1)


@mutant("sum_error_bound", "11 numbers need four levels")
def rounded_down(x, pairwise):
    n = x.shape[-1]
    k = int(math.log2(n)) if pairwise else n - 1
    return factor_of(k, torch.finfo(x.dtype).eps / 2) * x.double().abs().sum(-1)


@mutant("sum_error_bound", "in the dtype of x")
def summed_narrow(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    return factor_of(k, torch.finfo(x.dtype).eps / 2) * x.abs().sum(-1).double()


@mutant("sum_error_bound", "only the factor")
def no_sizes(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    return torch.full(x.shape[:-1], factor_of(k, torch.finfo(x.dtype).eps / 2), dtype=torch.float64)


@mutant("sum_error_bound")
def of_fp32_only(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    return factor_of(k, 2.0**-24) * x.double().abs().sum(-1)


@mutant("sum_error_bound")
def of_everything(x, pairwise):
    n = x.shape[-1]
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    return factor_of(k, torch.finfo(x.dtype).eps / 2) * x.double().abs().sum()


@honest("sum_error_bound")
def by_counting_levels(x, pairwise):
    n, levels = x.size(-1), 0
    while n > 1:
        n, levels = (n + 1) // 2, levels + 1
    k = levels if pairwise else x.size(-1) - 1
    u = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 2**-24, torch.float64: 2**-53}[x.dtype]
    total = torch.linalg.vector_norm(x.double(), ord=1, dim=-1)
    return total * (k * u / (1 - k * u)) if k * u < 1 else torch.full_like(total, float("inf"))


@honest("sum_error_bound")
def by_bits(x, pairwise):
    k = (x.shape[-1] - 1).bit_length() if pairwise else x.shape[-1] - 1
    ku = torch.tensor(k * torch.finfo(x.dtype).eps / 2, dtype=torch.float64)
    factor = torch.where(ku < 1, ku / (1 - ku), torch.tensor(math.inf, dtype=torch.float64))
    return factor * x.to(torch.float64).abs().sum(dim=-1)


@honest("sum_error_bound")
def row_after_row(x, pairwise):
    n, bounds = x.shape[-1], []
    k = math.ceil(math.log2(n)) if pairwise else n - 1
    inverse = 2 / torch.finfo(x.dtype).eps  # 1/u
    for row in x.reshape(-1, n).tolist():
        total = math.fsum(map(abs, row))
        bounds.append(k / (inverse - k) * total if k < inverse else math.inf)
    return torch.tensor(bounds, dtype=torch.float64).reshape(x.shape[:-1])
