import torch
import torch.nn.functional as F
from torch import nn

from normcourse.norms import RMSNorm as ThePackage
from normcourse.norms import rms_norm_backward as the_package_backward
from tests.answers import honest, mutant


def over_rows(terms):
    return terms.reshape(-1, terms.shape[-1]).sum(0)


# RMSNorm


def widened(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class WithWeight(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps


@mutant("RMSNorm", "outside the root")
class EpsOutside(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h / (h.pow(2).mean(-1, keepdim=True).sqrt() + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "ε is not used")
class NoEps(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h / torch.sqrt((h * h).mean(-1, keepdim=True)) * self.weight).to(x.dtype)


@mutant("RMSNorm", "fixed at 1e-5")
class EpsFixed(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h / torch.sqrt((h * h).mean(-1, keepdim=True) + 1e-5) * self.weight).to(x.dtype)


@mutant("RMSNorm", "LayerNorm's 1e-5")
class EpsOfLayerNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(hidden_size)), eps

    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "mean is subtracted")
class LayerNormInstead(WithWeight):
    def forward(self, x):
        h = widened(x)
        h = h - h.mean(-1, keepdim=True)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "standard deviation")
class ByTheStandardDeviation(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h / torch.sqrt(h.var(-1, keepdim=True, correction=0) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "wrong axis")
class OverTheBatch(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(0) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "over dimension 1")
class OnlyForMatrices(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "whole tensor")
class OverEverything(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean() + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "of length 1")
class UnitLength(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().sum(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "root is missing")
class NoRoot(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h / (h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "scale γ")
class WeightUnused(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


@mutant("RMSNorm", "starts at 0")
class StartsAtZero(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(hidden_size)), eps

    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "1 + weight")
class OnePlusWeight(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)).to(x.dtype)


@mutant("RMSNorm", "detached")
class Detached(WithWeight):
    def forward(self, x):
        h = widened(x)
        with torch.no_grad():
            rms = torch.sqrt(h.square().mean(-1, keepdim=True) + self.eps)
        return (h / rms * self.weight).to(x.dtype)


@mutant("RMSNorm", "half precision")
class NoUpcast(WithWeight):
    def forward(self, x):
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "fp64 goes through fp32")
class AlwaysInFp32(WithWeight):
    def forward(self, x):
        h = x.to(torch.float32)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "fp64 goes through fp32")
class AlwaysInFp32AsInLlama(WithWeight):
    def forward(self, x):
        rms = torch.sqrt((x.float() ** 2).mean(-1, keepdim=True) + self.eps)
        return self.weight.to(x.dtype) * (x.float() / rms).to(x.dtype)


@mutant("RMSNorm", "keepdim=True is missing")
class WithoutKeepdim(WithWeight):
    def forward(self, x):
        h = widened(x)
        return (h / torch.sqrt((h * h).mean(-1) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "stays in fp32")
class DtypeLost(WithWeight):
    def forward(self, x):
        h = widened(x)
        return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight


@mutant("RMSNorm", "float32; expected torch.float16")
class DtypeOfTheWeight(WithWeight):
    """As Llama does it; with γ in fp32 the product is promoted."""

    def forward(self, x):
        h = widened(x)
        return self.weight * (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


@mutant("RMSNorm", "writes to its input")
class EditedInPlace(WithWeight):
    def forward(self, x):
        rms = torch.sqrt(widened(x).square().mean(-1, keepdim=True) + self.eps)
        with torch.no_grad():
            x /= rms
        return (x * self.weight).to(x.dtype)


@mutant("RMSNorm", "without calling PyTorch's rms_norm")
class BuiltIn(WithWeight):
    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


@mutant("RMSNorm", "without calling PyTorch's fused_rms_norm")
class BuiltIntoAten(WithWeight):
    def forward(self, x):
        return torch.ops.aten._fused_rms_norm(x, [x.shape[-1]], self.weight.to(x.dtype), self.eps)[0]


@mutant("RMSNorm", "without calling normcourse.norms")
class FromThePackage(ThePackage):
    pass


@mutant("RMSNorm", "parameters are []")
class NotAParameter(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight, self.eps = torch.ones(hidden_size), eps

    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm", "['bias', 'weight']")
class WithABias(WithWeight):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__(hidden_size, eps)
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight + self.bias).to(x.dtype)


@mutant("RMSNorm", "shape (1,); expected (3,)")
class OneWeight(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(1)), eps

    def forward(self, x):
        h = widened(x)
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mutant("RMSNorm")
class Constant(WithWeight):
    def forward(self, x):
        return torch.ones_like(x) * self.weight.to(x.dtype)


@honest("RMSNorm")
class ByTheLength(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.full((hidden_size,), 1.0)))
        self.epsilon = eps

    def forward(self, inputs):
        h, d = inputs.double(), inputs.size(-1)
        length = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
        return (h * d**0.5 / (length**2 + d * self.epsilon) ** 0.5 * self.weight).type_as(inputs)


@honest("RMSNorm")
class AsInLlama(WithWeight):
    """Rounded before the weight and after."""

    def forward(self, x):
        h = x.to(torch.float32) if x.element_size() == 2 else x
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight.to(x.dtype) * h.to(x.dtype)


@honest("RMSNorm")
class TokenByToken(WithWeight):
    def forward(self, x):
        tokens = []
        for token in widened(x).reshape(-1, x.shape[-1]):
            rms = (sum(value * value for value in token) / len(token) + self.eps) ** 0.5
            tokens.append(token / rms * self.weight)
        return torch.stack(tokens).reshape(x.shape).to(x.dtype)


@honest("RMSNorm")
class InPlaceOnItsOwnCopy(WithWeight):
    def forward(self, x):
        h = widened(x)
        y = h.clone()
        y *= h.square().mean(-1, keepdim=True).add_(self.eps).rsqrt_()
        return y.mul(self.weight).to(x.dtype)


@honest("RMSNorm")
class ScaledFirst(WithWeight):
    """Divided by the largest entry first, so that nothing overflows."""

    def forward(self, x):
        h = widened(x)
        largest = h.detach().abs().amax(-1, keepdim=True).clamp(min=1e-6)
        h = h / largest
        return (h / torch.sqrt((h * h).mean(-1, keepdim=True) + self.eps / largest**2) * self.weight).to(x.dtype)


# mean_share


@mutant("mean_share", "divide by the variance")
def over_the_variance(x):
    h = widened(x)
    return (h.mean(-1) ** 2 / h.var(-1, correction=0)).nan_to_num().to(x.dtype)


@mutant("mean_share", "share of the power is its square")
def the_cosine(x):
    h = widened(x)
    return (h.mean(-1).abs() / (h**2).mean(-1).sqrt()).nan_to_num().to(x.dtype)


@mutant("mean_share", "not squared")
def mean_not_squared(x):
    h = widened(x)
    return (h.mean(-1).abs() / (h**2).mean(-1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "too large by a factor of d")
def sums_for_averages(x):
    h = widened(x)
    return (h.sum(-1) ** 2 / (h**2).sum(-1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "square of the sum")
def sum_in_the_numerator(x):
    h = widened(x).double()
    return (h.sum(-1) ** 2 / (h**2).mean(-1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "sum of the squares")
def sum_in_the_denominator(x):
    h = widened(x)
    return (h.mean(-1) ** 2 / (h**2).sum(-1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "in percent")
def in_percent(x):
    h = widened(x)
    return (100 * h.mean(-1) ** 2 / (h**2).mean(-1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "everything but the mean")
def what_is_left(x):
    h = widened(x)
    return (1 - h.mean(-1) ** 2 / (h**2).mean(-1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "average over all tokens first")
def one_number(x):
    h = widened(x)
    return (h.mean(-1).square().mean() / h.square().mean()).to(x.dtype)


@mutant("mean_share", "At the end you average")
def mean_of_shares(x):
    h = widened(x)
    return (h.mean(-1) ** 2 / (h**2).mean(-1)).nan_to_num().mean().to(x.dtype)


@mutant("mean_share", "Wrong axis")
def share_over_the_batch(x):
    h = widened(x)
    return (h.mean(0) ** 2 / (h**2).mean(0)).nan_to_num().to(x.dtype)


@mutant("mean_share", "over dimension 1")
def share_over_dimension_1(x):
    h = widened(x)
    return (h.mean(1) ** 2 / (h**2).mean(1)).nan_to_num().to(x.dtype)


@mutant("mean_share", "still there")
def dimension_kept(x):
    h = widened(x)
    return (h.mean(-1, keepdim=True) ** 2 / (h**2).mean(-1, keepdim=True)).nan_to_num().to(x.dtype)


@mutant("mean_share", "0/0")
def zeros_forgotten(x):
    h = widened(x)
    return (h.mean(-1) ** 2 / (h**2).mean(-1)).to(x.dtype)


@mutant("mean_share", "added to the denominator")
def eps_in_the_denominator(x):
    h = widened(x)
    return (h.mean(-1) ** 2 / ((h**2).mean(-1) + 1e-6)).to(x.dtype)


@mutant("mean_share", "1e-12 is added to the denominator")
def small_eps_in_the_denominator(x):
    h = widened(x)
    return (h.mean(-1).square() / (h.square().mean(-1) + 1e-12)).to(x.dtype)


@mutant("mean_share", "half precision")
def share_without_upcast(x):
    return (x.mean(-1) ** 2 / (x**2).mean(-1)).nan_to_num()


@mutant("mean_share", "stays in fp32")
def share_in_fp32(x):
    h = widened(x)
    return (h.mean(-1) ** 2 / (h**2).mean(-1)).nan_to_num()


@mutant("mean_share", "writes to its input")
def squares_in_place(x):
    mean = widened(x).mean(-1)
    power = x.square_().mean(-1) if x.dtype == torch.float64 else widened(x).square().mean(-1)
    return (mean**2 / power).nan_to_num().to(x.dtype)


@mutant("mean_share")
def always_one_over_d(x):
    return torch.full(x.shape[:-1], 1 / x.shape[-1], dtype=x.dtype)


@honest("mean_share")
def cosine_squared(x):
    h = x.double()
    length = h.norm(dim=-1) * x.shape[-1] ** 0.5
    cosine = h.sum(-1) / torch.where(length > 0, length, torch.ones_like(length))
    return (cosine**2).to(x.dtype)


@honest("mean_share")
def by_the_power_that_is_left(x):
    h = widened(x)
    power = (h * h).mean(-1)
    mean = h.mean(-1)
    share = mean.square() / power
    share[power == 0] = 0
    return share.type_as(x)


@honest("mean_share")
def token_after_token(x):
    shares = []
    for token in x.reshape(-1, x.shape[-1]).double():
        power = float(token @ token) * len(token)
        shares.append(float(token.sum()) ** 2 / power if power else 0.0)
    return torch.tensor(shares, dtype=x.dtype).reshape(x.shape[:-1])


@honest("mean_share")
def by_projection(x):
    h = widened(x)
    along = h.mean(-1, keepdim=True).expand_as(h)
    return torch.nan_to_num(along.pow(2).sum(-1) / h.pow(2).sum(-1)).to(x.dtype)


# fold_layer_norm


@mutant("fold_layer_norm", "wrong way")
def centred_along_the_inputs(A, a, gamma, beta, W, b):
    return A - A.mean(1, keepdim=True), a - a.mean(), W * gamma, b + W @ beta


@mutant("fold_layer_norm", "one overall mean")
def one_mean_for_all(A, a, gamma, beta, W, b):
    return A - A.mean(), a - a.mean(), W * gamma, b + W @ beta


@mutant("fold_layer_norm", "a keeps its mean")
def bias_not_centred(A, a, gamma, beta, W, b):
    return A - A.mean(0), a, W * gamma, b + W @ beta


@mutant("fold_layer_norm", "A and a are unchanged")
def nothing_centred(A, a, gamma, beta, W, b):
    return A.clone(), a.clone(), W * gamma, b + W @ beta


@mutant("fold_layer_norm", "Only a loses")
def only_the_bias_centred(A, a, gamma, beta, W, b):
    return A, a - a.mean(), W * gamma, b + W @ beta


@mutant("fold_layer_norm", "layer after")
def centred_too_late(A, a, gamma, beta, W, b):
    scaled = W * gamma
    return A, a, scaled - scaled.mean(-1, keepdim=True), b + W @ beta


@mutant("fold_layer_norm", "rows of W")
def gamma_on_the_rows(A, a, gamma, beta, W, b):
    scaled = gamma.diag() @ W if W.shape[0] == W.shape[1] else W * gamma
    return A - A.mean(0), a - a.mean(), scaled, b + W @ beta


@mutant("fold_layer_norm", "multiplies the rows of W")
def gamma_on_the_rows_always(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), gamma[:, None] * W, b + W @ beta


@mutant("fold_layer_norm", "divided by γ")
def gamma_divides(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W / gamma, b + W @ beta


@mutant("fold_layer_norm", "not folded into W")
def gamma_forgotten(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W, b + W @ beta


@mutant("fold_layer_norm", "folded into the layer before")
def gamma_before_the_norm(A, a, gamma, beta, W, b):
    return gamma.diag() @ (A - A.mean(0)), gamma * (a - a.mean()), W, b + W @ beta


@mutant("fold_layer_norm", "subtracted from b")
def beta_subtracted(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W * gamma, b - W @ beta


@mutant("fold_layer_norm", "wrong order")
def the_layer_after_first(A, a, gamma, beta, W, b):
    return W * gamma, b + W @ beta, A - A.mean(0), a - a.mean()


@mutant("fold_layer_norm", "wrong order")
def matrices_first(A, a, gamma, beta, W, b):
    return A - A.mean(0), W * gamma, a - a.mean(), b + W @ beta


@mutant("fold_layer_norm", "wrong order")
def biases_first(A, a, gamma, beta, W, b):
    return a - a.mean(), A - A.mean(0), b + W @ beta, W * gamma


@mutant("fold_layer_norm", "original W")
def beta_scaled(A, a, gamma, beta, W, b):
    W = W * gamma
    return A - A.mean(0), a - a.mean(), W, b + W @ beta


@mutant("fold_layer_norm", "through W first")
def beta_added(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W * gamma, b + (beta if len(beta) == len(b) else W @ beta)


@mutant("fold_layer_norm", "transpose of W")
def beta_through_the_transpose(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W * gamma, b + (W.T @ beta if len(beta) == len(b) else W @ beta)


@mutant("fold_layer_norm", "b is lost")
def bias_lost(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W * gamma, W @ beta


@mutant("fold_layer_norm", "not folded into b")
def beta_forgotten(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W * gamma, b


@mutant("fold_layer_norm", "writes to its input")
def weights_edited_in_place(A, a, gamma, beta, W, b):
    A -= A.mean(0)
    W *= gamma
    return A, a - a.mean(), W, b + (W / gamma) @ beta


@mutant("fold_layer_norm", "3 tensors")
def after_bias_not_returned(A, a, gamma, beta, W, b):
    return A - A.mean(0), a - a.mean(), W * gamma


@mutant("fold_layer_norm")
def rms_instead_of_mean(A, a, gamma, beta, W, b):
    return A / A.square().mean(0).sqrt(), a - a.mean(), W * gamma, b + W @ beta


@honest("fold_layer_norm")
def with_a_projection(A, a, gamma, beta, W, b):
    d = len(a)
    P = torch.eye(d, dtype=a.dtype) - torch.ones(d, d, dtype=a.dtype) / d
    return P @ A, P @ a, W @ torch.diag(gamma), b + W @ beta


@honest("fold_layer_norm")
def in_loops(A, a, gamma, beta, W, b):
    A, a, scaled, b = A.clone(), a.clone(), W.clone(), b.clone()
    for i in range(A.shape[1]):
        A[:, i] -= A[:, i].mean()
    a -= a.mean()
    for j in range(W.shape[1]):
        b += W[:, j] * beta[j]
        scaled[:, j] *= gamma[j]
    return [A, a, scaled, b]


@honest("fold_layer_norm")
def with_linear_and_einsum(before, before_bias, scale, shift, after, after_bias):
    joint = torch.cat([before, before_bias[:, None]], 1)
    joint = joint - joint.mean(0, keepdim=True)
    return joint[:, :-1], joint[:, -1], torch.einsum("kd,d->kd", after, scale), F.linear(shift, after, after_bias)


# rms_norm_backward


def pieces(dy, x, weight, eps):
    rstd = (x.pow(2).mean(-1, keepdim=True) + eps) ** -0.5
    return x * rstd, rstd, dy * weight


@mutant("rms_norm_backward", "γ is missing")
def dx_without_weight(dy, x, weight, eps=1e-6):
    x_hat, rstd, _ = pieces(dy, x, weight, eps)
    return rstd * (dy - x_hat * (dy * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward")
def dx_with_weight_twice(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return weight * rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "too late")
def weight_at_the_end(dy, x, weight, eps=1e-6):
    x_hat, rstd, _ = pieces(dy, x, weight, eps)
    return rstd * (dy - x_hat * (dy * x_hat).mean(-1, True)) * weight, over_rows(dy * x_hat)


@mutant("rms_norm_backward", "γ twice")
def weight_applied_twice(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy * weight, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "a term is missing")
def rms_as_a_constant(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * g, over_rows(dy * x_hat)


@mutant("rms_norm_backward", "LayerNorm's backward")
def as_in_layer_norm(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "LayerNorm's backward")
def wholly_layer_norm(dy, x, weight, eps=1e-6):
    rstd, g = torch.rsqrt(x.var(-1, keepdim=True, correction=0) + eps), dy * weight
    x_hat = (x - x.mean(-1, keepdim=True)) * rstd
    return rstd * (g - g.mean(-1, True) - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "centred first")
def centred_input(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x - x.mean(-1, keepdim=True), weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "wrong sign")
def plus_for_minus(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g + x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "has x in it")
def x_not_normalised(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x * (g * x).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "needs a mean")
def sum_for_mean(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).sum(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "not divided by the root mean square")
def not_divided(dy, x, weight, eps=1e-6):
    x_hat, _, g = pieces(dy, x, weight, eps)
    return g - x_hat * (g * x_hat).mean(-1, True), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "twice")
def divided_twice(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd**2 * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "outside the root")
def eps_outside(dy, x, weight, eps=1e-6):
    rstd = 1 / (x.pow(2).mean(-1, keepdim=True).sqrt() + eps)
    x_hat, g = x * rstd, dy * weight
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "ε is not used")
def eps_unused(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, 0.0)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "fixed at 1e-6")
def eps_always_the_default(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, 1e-6)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "LayerNorm's 1e-5")
def eps_of_layer_norm(dy, x, weight, eps=1e-5):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x_hat)


@mutant("rms_norm_backward", "normalised x̂")
def dweight_with_x(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(dy * x)


@mutant("rms_norm_backward", "averaged over the tokens")
def dweight_averaged(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    terms = (dy * x_hat).reshape(-1, x.shape[-1])
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), terms.mean(0)


@mutant("rms_norm_backward", "wrong order")
def dweight_before_dx(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return over_rows(dy * x_hat), rstd * (g - x_hat * (g * x_hat).mean(-1, True))


@mutant("rms_norm_backward", "extra γ")
def dweight_with_weight(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), over_rows(g * x_hat)


@mutant("rms_norm_backward", "dimension 0 only")
def first_dimension_only(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), (dy * x_hat).sum(0)


@mutant("rms_norm_backward", "adds up everything")
def no_dimension_to_sum(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), (dy * x_hat).sum(tuple(range(x.dim() - 1)))


@mutant("rms_norm_backward", "has shape (4, 5); expected (5,)")
def dweight_not_summed(dy, x, weight, eps=1e-6):
    x_hat, rstd, g = pieces(dy, x, weight, eps)
    return rstd * (g - x_hat * (g * x_hat).mean(-1, True)), dy * x_hat


@mutant("rms_norm_backward", "differences")
def by_central_differences(dy, x, weight, eps=1e-6):
    flat, h = x.flatten(), 1e-6
    loss = lambda v: (pieces(dy, v.reshape(x.shape), weight, eps)[0] * weight * dy).sum()  # noqa: E731
    steps = h * torch.eye(x.numel(), dtype=x.dtype)
    dx = torch.stack([(loss(flat + step) - loss(flat - step)) / (2 * h) for step in steps])
    return dx.reshape(x.shape), over_rows(dy * pieces(dy, x, weight, eps)[0])


@mutant("rms_norm_backward", "without calling")
def with_autograd(dy, x, weight, eps=1e-6):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    return torch.autograd.grad(pieces(dy, x, weight, eps)[0] * weight, (x, weight), dy)


@mutant("rms_norm_backward", "without calling PyTorch's fused_rms_norm")
def backward_of_aten(dy, x, weight, eps=1e-6):
    size, aten = [x.shape[-1]], torch.ops.aten
    _, rstd = aten._fused_rms_norm(x, size, weight, eps)
    return aten._fused_rms_norm_backward(dy, x, size, rstd, weight, [True, True])


@mutant("rms_norm_backward", "without calling PyTorch's fused_rms_norm_backward")
def backward_of_aten_alone(dy, x, weight, eps=1e-6):
    _, rstd, _ = pieces(dy, x, weight, eps)
    return torch.ops.aten._fused_rms_norm_backward(dy, x, [x.shape[-1]], rstd, weight, [True, True])


@mutant("rms_norm_backward", "without calling normcourse.norms.rms_norm_backward")
def backward_of_the_package(dy, x, weight, eps=1e-6):
    return the_package_backward(dy, x, weight, eps)


@mutant("rms_norm_backward", "writes to its input dy")
def dy_edited_in_place(dy, x, weight, eps=1e-6):
    x_hat, rstd, _ = pieces(dy, x, weight, eps)
    dweight = over_rows(dy * x_hat)
    dy *= weight
    return rstd * (dy - x_hat * (dy * x_hat).mean(-1, True)), dweight


@honest("rms_norm_backward")
def in_two_steps(dy, x, weight, eps=1e-6):
    rms = torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + eps)
    drms = -(dy * weight * x).sum(-1, keepdim=True) / rms**2
    return dy * weight / rms + drms * x / (rms * x.shape[-1]), over_rows(dy * x / rms)


@honest("rms_norm_backward")
def jacobian_by_row(grad, x, gamma, eps=1e-6):
    d, dx = x.shape[-1], torch.empty_like(x)
    for row, out, g in zip(x.reshape(-1, d), dx.view(-1, d), (grad * gamma).reshape(-1, d)):
        rms = (row @ row / d + eps).sqrt()
        out.copy_((torch.eye(d, dtype=x.dtype) / rms - torch.outer(row, row) / (d * rms**3)) @ g)
    rstd = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return dx, torch.einsum("...d,...d->d", grad, x * rstd)


@honest("rms_norm_backward")
def with_few_registers(dy, x, weight, eps=1e-6):
    """dx = rstd·g + c·x, as kernels write it."""
    rstd = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    g = dy * weight
    c = -(rstd**3) * (g * x).mean(-1, keepdim=True)
    return [g.mul_(rstd).add_(c * x), (dy * x * rstd).reshape(-1, x.shape[-1]).sum(0)]
