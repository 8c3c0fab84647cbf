import torch
import torch.nn.functional as F

from normcourse.norms import batch_norm as the_package
from tests.answers import honest, mutant

# masked_moments


def zeroed(x, mask):
    return x.masked_fill(~mask.unsqueeze(-1), 0)


@mutant("masked_moments", "padding is counted")
def counts_the_padding(x, mask):
    rows = x.reshape(-1, x.shape[-1])
    return rows.mean(0), rows.var(0, unbiased=False)


@mutant("masked_moments", "set to 0 but still counts")
def divides_by_everything(x, mask):
    rows = zeroed(x, mask).reshape(-1, x.shape[-1])
    return rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)


@mutant("masked_moments", "variance has padding in it")
def zeros_in_the_variance(x, mask):
    h = zeroed(x, mask)
    mean = h.sum((0, 1)) / mask.sum()
    return mean, ((h - mean) ** 2).sum((0, 1)) / mask.sum()


@mutant("masked_moments", "nan times 0")
def times_the_mask(x, mask):
    m = mask.unsqueeze(-1).to(x.dtype)
    n = m.sum()
    mean = torch.einsum("bsd,bso->d", x, m) / n
    return mean, torch.einsum("bsd,bso->d", (x - mean) ** 2, m) / n


@mutant("masked_moments", "n − 1")
def sample_variance(x, mask):
    return x[mask].mean(0), torch.var(x[mask], dim=0)


@mutant("masked_moments", "weigh more")
def sentence_by_sentence(x, mask):
    pairs = [(row[m].mean(0), row[m].var(0, unbiased=False)) for row, m in zip(x, mask)]
    means, variances = zip(*pairs)
    return sum(means) / len(means), sum(variances) / len(variances)


@mutant("masked_moments", "cancel")
def squares_minus_square(x, mask):
    rows = x[mask]
    return rows.mean(0), (rows * rows).mean(0) - rows.mean(0) ** 2


@mutant("masked_moments", "standard deviation")
def deviation(x, mask):
    return x[mask].mean(0), x[mask].std(0, unbiased=False)


@mutant("masked_moments", "as in LayerNorm")
def over_features(x, mask):
    return x[mask].mean(1), x[mask].var(1, unbiased=False)


@mutant("masked_moments", "inverted")
def the_others(x, mask):
    rows = x[torch.logical_not(mask)]
    return rows.mean(0), rows.var(0, unbiased=False)


@mutant("masked_moments")
def prefix_of_every_sentence(x, mask):
    rows = torch.cat([row[: int(m.sum())] for row, m in zip(x, mask)])  # padding is not always behind
    return rows.mean(0), rows.var(0, unbiased=False)


@honest("masked_moments")
def by_indices(x, mask):
    where = mask.flatten().nonzero()[:, 0]
    rows = x.flatten(0, 1).index_select(0, where).double()
    mean = rows.mean(0)
    return mean.to(x.dtype), rows.sub(mean).pow(2).mean(0).to(x.dtype)


@honest("masked_moments")
def with_where(x, mask):
    m, n, h = mask[..., None], mask.sum(), x.float() if x.itemsize == 2 else x
    mean = torch.where(m, h, 0).sum((0, 1)) / n
    squares = torch.where(m, h - mean, 0).square()
    return mean.to(x.dtype), (squares.sum((0, 1)) / n).to(x.dtype)


@honest("masked_moments")
def token_by_token(x, mask):
    rows = [x[i, j].double() for i, j in mask.nonzero().tolist()]
    mean, squares = torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    for n, row in enumerate(rows, 1):  # Welford
        step = row - mean
        mean = mean + step / n
        squares = squares + step * (row - mean)
    return mean.to(x.dtype), (squares / len(rows)).to(x.dtype)


@honest("masked_moments")
def with_nanmean(x, mask):
    h = torch.where(mask[..., None], x.double(), float("nan"))
    mean = h.nanmean((0, 1))
    return mean.to(x.dtype), (h - mean).square().nanmean((0, 1)).to(x.dtype)


# update_running


def rows_of(x):
    return x.flatten(0, -2)


@mutant("update_running", "wrong way round")
def momentum_of_the_old(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    return running_mean.lerp(rows.mean(0), 1 - momentum), running_var.lerp(rows.var(0), 1 - momentum)


@mutant("update_running", "divided by n")
def population_variance(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    var = ((rows - rows.mean(0)) ** 2).mean(0)
    return running_mean.lerp(rows.mean(0), momentum), running_var.lerp(var, momentum)


@mutant("update_running", "old statistics are lost")
def only_this_batch(running_mean, running_var, x, momentum=0.1):
    return rows_of(x).mean(0), rows_of(x).var(0)


@mutant("update_running", "grow without end")
def accumulates(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    return running_mean + momentum * rows.mean(0), running_var + momentum * rows.var(0)


@mutant("update_running", "averaged over positions")
def batch_then_positions(running_mean, running_var, x, momentum=0.1):
    mean, var = x.mean(0), x.var(0)
    while mean.dim() > 1:
        mean, var = mean.mean(0), var.mean(0)
    return running_mean.lerp(mean, momentum), running_var.lerp(var, momentum)


@mutant("update_running", "standard deviation")
def running_deviation(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    return running_mean.lerp(rows.mean(0), momentum), running_var.lerp(rows.std(0), momentum)


@mutant("update_running", "wrong order")
def variance_first(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    return running_var.lerp(rows.var(0), momentum), running_mean.lerp(rows.mean(0), momentum)


@mutant("update_running")
def always_a_tenth(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    return 0.9 * running_mean + 0.1 * rows.mean(0), 0.9 * running_var + 0.1 * rows.var(0)


@mutant("update_running")
def about_the_running_mean(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    mean = running_mean.lerp(rows.mean(0), momentum)
    var = (rows - mean).square().sum(0) / (len(rows) - 1)
    return mean, running_var.lerp(var, momentum)


@mutant("update_running")
def in_place(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    running_mean.lerp_(rows.mean(0), momentum)
    running_var.lerp_(rows.var(0), momentum)
    return running_mean, running_var


@honest("update_running")
def by_steps(running_mean, running_var, x, momentum=0.1):
    n, rows = x.numel() // x.shape[-1], rows_of(x)
    mean = rows.sum(0) / n
    var = (rows - mean).pow(2).sum(0) / (n - 1)
    return running_mean + momentum * (mean - running_mean), running_var + momentum * (var - running_var)


@honest("update_running")
def with_lerp(running_mean, running_var, x, momentum=0.1):
    var, mean = torch.var_mean(rows_of(x), dim=0)
    return torch.lerp(running_mean, mean, momentum), torch.lerp(running_var, var, momentum)


@honest("update_running")
def with_cov(running_mean, running_var, x, momentum=0.1):
    rows = rows_of(x)
    var = torch.cov(rows.T).reshape(x.shape[-1], -1).diagonal()
    weights = torch.tensor([1 - momentum, momentum], dtype=x.dtype)
    return weights @ torch.stack([running_mean, rows.mean(0)]), weights @ torch.stack([running_var, var])


# batch_norm_sequence


def normalise(h, axes, eps):
    centred = h - h.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)


def widened(x):
    return x.float() if x.dtype == torch.float16 else x


@mutant("batch_norm_sequence", "only cut differently")
def by_view(x, weight, bias, eps=1e-5):
    b, t, d = x.shape
    y = normalise(widened(x).reshape(b, d, t), (0, 2), eps).reshape(b, t, d)
    return (y * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "This is LayerNorm")
def layer_norm_instead(x, weight, bias, eps=1e-5):
    return (normalise(widened(x), -1, eps) * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "over the sentences only")
def per_position(x, weight, bias, eps=1e-5):
    return (normalise(widened(x), 0, eps) * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "InstanceNorm")
def per_sentence(x, weight, bias, eps=1e-5):
    return (normalise(widened(x), 1, eps) * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "whole tensor")
def over_everything(x, weight, bias, eps=1e-5):
    h = widened(x)
    y = (h - h.mean()) / (h.var(unbiased=False) + eps).sqrt()
    return (y * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "outside the root")
def eps_outside(x, weight, bias, eps=1e-5):
    h = widened(x)
    y = (h - h.mean((0, 1))) / (h.std((0, 1), unbiased=False) + eps)
    return (y * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "n − 1")
def sample_variance_again(x, weight, bias, eps=1e-5):
    h = widened(x)
    y = (h - h.mean((0, 1))) / (h.var((0, 1)) + eps).sqrt()
    return (y * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "root is missing")
def no_root(x, weight, bias, eps=1e-5):
    h = widened(x)
    y = (h - h.mean((0, 1))) / (h.var((0, 1), unbiased=False) + eps)
    return (y * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "γ is not used")
def no_scale(x, weight, bias, eps=1e-5):
    return (normalise(widened(x), (0, 1), eps) + bias).to(x.dtype)


@mutant("batch_norm_sequence", "β is not used")
def no_shift(x, weight, bias, eps=1e-5):
    return (normalise(widened(x), (0, 1), eps) * weight).to(x.dtype)


@mutant("batch_norm_sequence", "fixed at 1e-5")
def eps_fixed(x, weight, bias, eps=1e-5):
    return (normalise(widened(x), (0, 1), 1e-5) * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "detached")
def without_their_gradient(x, weight, bias, eps=1e-5):
    h = widened(x)
    with torch.no_grad():
        mean, rstd = h.mean((0, 1)), (h.var((0, 1), unbiased=False) + eps).rsqrt()
    return ((h - mean) * rstd * weight + bias).to(x.dtype)


@mutant("batch_norm_sequence", "dtype of x")
def stays_wide(x, weight, bias, eps=1e-5):
    return normalise(widened(x), (0, 1), eps) * weight + bias


@honest("batch_norm_sequence")
def by_transposing(x, weight, bias, eps=1e-5):
    h = widened(x).transpose(1, 2)
    y = normalise(h, (0, 2), eps) * weight[:, None] + bias[:, None]
    return y.transpose(1, 2).to(x.dtype)


@honest("batch_norm_sequence")
def as_rows(x, weight, bias, eps=1e-5):
    rows = widened(x).reshape(-1, x.shape[-1])
    var, mean = torch.var_mean(rows, dim=0, correction=0)
    return torch.addcmul(bias, (rows - mean) / torch.sqrt(var + eps), weight).view_as(x).to(x.dtype)


@honest("batch_norm_sequence")
def feature_by_feature(x, weight, bias, eps=1e-5):
    columns = []
    for i in range(x.shape[2]):
        h = widened(x)[:, :, i]
        h = h - h.mean()
        columns.append(h / (h.square().mean() + eps) ** 0.5 * weight[i] + bias[i])
    return torch.stack(columns, -1).to(x.dtype)


@mutant("batch_norm_sequence")
def the_package_itself(x, weight, bias, eps=1e-5):
    return the_package(x, weight, bias, eps)


@mutant("batch_norm_sequence")
def the_ready_made_one(x, weight, bias, eps=1e-5):
    y = F.batch_norm(x.mT.to(weight.dtype), None, None, weight, bias, training=True, eps=eps)
    return y.mT.to(x.dtype)
