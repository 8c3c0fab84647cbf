"""LayerNorm, RMSNorm, Dynamic Tanh and, for contrast, BatchNorm, in plain torch: each forward, then its derivative by
hand.

Notation: d is the size of the last dimension, x̂ the normalised x, rstd = 1/σ the reciprocal of what x is divided by.
"""

from numbers import Integral

import torch
from torch import nn

from .registry import BLUE, GREEN, ORANGE, PURPLE, VERMILLION, Look, Registry

NORMS = Registry("norm")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """Layer normalisation over the last dimension: y = (x − mean) / sqrt(var + eps) · weight + bias.

    var is the biased variance (divided by d, not d − 1), and eps stands inside the root.

    Args:
        x: (..., d), any floating dtype. Half precision is computed in fp32.
        weight: γ of shape (d,), or None for 1.
        bias: β of shape (d,), or None for 0.
        eps: > 0, in units of x².

    Returns: y with the shape and dtype of x.
    Raises: TypeError for integer tensors; ValueError for wrong shapes or eps <= 0.
    Source: Ba, Kiros & Hinton, "Layer Normalization" (2016), section 3.
    """
    check_arguments(x, eps, weight=weight, bias=bias)
    x_hat, _ = _standardise(x, eps)
    return _scale_and_shift(x_hat, weight, bias).to(x.dtype)


def layer_norm_backward(dy, x, weight=None, eps=1e-5):
    """Gradients of `layer_norm` with respect to x, weight and bias, given dy = ∂loss/∂y.

    With g = dy · weight:  dx = rstd · (g − mean(g) − x̂ · mean(g · x̂)).
    The two means are the two directions that LayerNorm removes: shifting all of x, and stretching x − mean.

    Args: dy like x (..., d); x, weight and eps as they were given to `layer_norm` (weight None counts as 1).
    Returns: dx like x; dweight and dbias of shape (d,), in the dtype of weight (of x without one).
    """
    check_arguments(x, eps, weight=weight, dy=dy)
    x_hat, rstd = _standardise(x, eps)
    g = _scale_and_shift(dy.to(x_hat.dtype), weight)
    dx = rstd * (g - g.mean(-1, keepdim=True) - x_hat * (g * x_hat).mean(-1, keepdim=True))
    return dx.to(x.dtype), _sum_rows(dy * x_hat, x, weight), _sum_rows(dy.to(x_hat.dtype), x, weight)


def rms_norm(x, weight=None, eps=1e-6):
    """RMS normalisation over the last dimension: y = x / sqrt(mean(x²) + eps) · weight.

    Arguments, result and errors are those of `layer_norm`, without the bias.
    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4.
    """
    check_arguments(x, eps, weight=weight)
    x_hat, _ = _divide_by_rms(x, eps)
    return _scale_and_shift(x_hat, weight).to(x.dtype)


def rms_norm_backward(dy, x, weight=None, eps=1e-6):
    """Gradients of `rms_norm` with respect to x and weight, given dy = ∂loss/∂y.

    With g = dy · weight:  dx = rstd · (g − x̂ · mean(g · x̂)). One direction is removed: stretching x.
    """
    check_arguments(x, eps, weight=weight, dy=dy)
    x_hat, rstd = _divide_by_rms(x, eps)
    g = _scale_and_shift(dy.to(x_hat.dtype), weight)
    dx = rstd * (g - x_hat * (g * x_hat).mean(-1, keepdim=True))
    return dx.to(x.dtype), _sum_rows(dy * x_hat, x, weight)


def dynamic_tanh(x, alpha=0.5, weight=None, bias=None):
    """Dynamic Tanh: y = tanh(α x) · weight + bias. It squeezes large entries, but divides by no statistic of x.

    Args:
        x: (..., d), any floating dtype. Half precision is computed in fp32.
        alpha: α, a number or a tensor with one element.
        weight, bias: γ and β as in `layer_norm`.

    Returns: y with the shape and dtype of x.
    Raises: TypeError for integer tensors; ValueError for wrong shapes.
    Source: Zhu, Chen, He, LeCun & Liu, "Transformers without Normalization" (2025), section 4.
    """
    _check_alpha(alpha)
    check_arguments(x, weight=weight, bias=bias)
    return _scale_and_shift(torch.tanh(alpha * _wide(x)), weight, bias).to(x.dtype)


def dynamic_tanh_backward(dy, x, alpha=0.5, weight=None):
    """Gradients of `dynamic_tanh` with respect to x, alpha, weight and bias, given dy = ∂loss/∂y.

    With t = tanh(α x) and s = dy · weight · (1 − t²):  dx = α s,  dα = Σ x s. No direction is removed.

    Args: dy like x (..., d); x, alpha and weight as they were given to `dynamic_tanh`.
    Returns: dx like x; dalpha like alpha (a 0-d tensor in the dtype of x for a number); dweight and dbias as in
        `layer_norm_backward`.
    """
    _check_alpha(alpha)
    check_arguments(x, weight=weight, dy=dy)
    t = torch.tanh(alpha * _wide(x))
    s = _scale_and_shift(dy.to(t.dtype), weight) * (1 - t.square())
    dalpha = (s * x).sum()
    dalpha = dalpha.to(alpha.dtype).view_as(alpha) if isinstance(alpha, torch.Tensor) else dalpha.to(x.dtype)
    return (alpha * s).to(x.dtype), dalpha, _sum_rows(dy * t, x, weight), _sum_rows(dy.to(t.dtype), x, weight)


def batch_norm(x, weight=None, bias=None, eps=1e-5):
    """Batch normalisation with the statistics of this batch: each feature over all other dimensions.

    x is (..., d) with the features last, so (batch, d) and (batch, sequence, d) both work; weight, bias, eps and
    errors are those of `layer_norm`. With a single row every feature equals its own mean and y is bias.
    Source: Ioffe & Szegedy, "Batch Normalization" (2015), algorithm 1.
    """
    check_arguments(x, eps, weight=weight, bias=bias)
    rows = _wide(x).flatten(0, -2) if x.dim() > 1 else _wide(x)[None]
    centred = rows - rows.mean(0)
    x_hat = centred * torch.rsqrt(centred.square().mean(0) + eps)
    return _scale_and_shift(x_hat.view(x.shape), weight, bias).to(x.dtype)


@NORMS.register
class LayerNorm(nn.Module):
    """`layer_norm` as a module; its state dict is the one of `torch.nn.LayerNorm(hidden_size)`."""

    name, title, look = "layer_norm", ("层归一化", "LayerNorm"), Look(BLUE, "o")
    formula = "(x − mean) / √(var + ε) · γ + β"

    def __init__(self, hidden_size, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.hidden_size, self.eps = _check_size(hidden_size), eps
        _add_parameters(self, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """weight 1 and bias 0, as at first; after `to_empty` they hold anything."""
        _fill(self.weight, 1.0)
        _fill(self.bias, 0.0)

    def forward(self, x):
        _check_width(x, self.hidden_size, self)
        return layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.hidden_size}, eps={self.eps}, elementwise_affine={self.weight is not None}"


@NORMS.register
class RMSNorm(nn.Module):
    """`rms_norm` as a module; its state dict is the one of `torch.nn.RMSNorm(hidden_size)`."""

    name, title, look = "rms_norm", ("RMSNorm", "RMSNorm"), Look(ORANGE, "s")
    formula = "x / √(mean(x²) + ε) · γ"

    def __init__(self, hidden_size, eps=1e-6, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.hidden_size, self.eps = _check_size(hidden_size), eps
        _add_parameters(self, elementwise_affine, False, device, dtype)
        self.reset_parameters()

    def reset_parameters(self):
        _fill(self.weight, 1.0)

    def forward(self, x):
        _check_width(x, self.hidden_size, self)
        return rms_norm(x, self.weight, self.eps)

    extra_repr = LayerNorm.extra_repr


@NORMS.register
class BatchNorm(nn.Module):
    """`batch_norm` as a module, features last; state dict and momentum are those of `torch.nn.BatchNorm1d`.

    In training it uses the statistics of the batch and keeps a running average of them; in evaluation it uses the
    average. With momentum=None that is the plain average of all batches. An empty batch leaves it alone, and so does a
    single row the variance; torch refuses a single row.
    """

    name, title, look = "batch_norm", ("批归一化", "BatchNorm"), Look(GREEN, "D", "--")
    formula = "(x − mean) / √(var + ε) · γ + β, over the batch"

    def __init__(self, hidden_size, eps=1e-5, elementwise_affine=True, momentum=0.1, device=None, dtype=None):
        super().__init__()
        self.hidden_size, self.eps, self.momentum = _check_size(hidden_size), eps, momentum
        _add_parameters(self, elementwise_affine, elementwise_affine, device, dtype)
        self.register_buffer("running_mean", torch.empty(hidden_size, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.empty(hidden_size, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.empty((), device=device, dtype=torch.long))
        self.reset_parameters()

    def reset_running_stats(self):
        for statistic, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
            _fill(statistic, value)

    def reset_parameters(self):
        self.reset_running_stats()
        LayerNorm.reset_parameters(self)

    def forward(self, x):
        _check_width(x, self.hidden_size, self)
        check_arguments(x, self.eps)
        if not self.training:
            x_hat = (_wide(x) - _wide(self.running_mean)) * torch.rsqrt(_wide(self.running_var) + self.eps)
            return _scale_and_shift(x_hat, self.weight, self.bias).to(x.dtype)
        with torch.no_grad():
            rows = _wide(x).reshape(-1, self.hidden_size)
            self.num_batches_tracked += 1
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            if len(rows) > 0:
                self._follow(self.running_mean, rows.mean(0), share)
            if len(rows) > 1:
                self._follow(self.running_var, rows.var(0), share)
        return batch_norm(x, self.weight, self.bias, self.eps)

    def _follow(self, average, now, share):
        """average ← average + share·(now − average), rounded once to the dtype of the average."""
        average.copy_(_wide(average) + share * (now - _wide(average)))

    extra_repr = LayerNorm.extra_repr


@NORMS.register
class DyT(nn.Module):
    """`dynamic_tanh` as a module; its state dict is the one of the paper's code: alpha (1,), weight and bias.

    Args: alpha: the initial value of the learned α.
    """

    name, title, look = "dyt", ("DyT", "DyT"), Look(PURPLE, "v", "--")
    formula = "tanh(α·x) · γ + β"

    def __init__(self, hidden_size, alpha=0.5, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.hidden_size, self.initial_alpha = _check_size(hidden_size), float(alpha)
        self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        _add_parameters(self, elementwise_affine, elementwise_affine, device, dtype)
        self.reset_parameters()

    def reset_parameters(self):
        _fill(self.alpha, self.initial_alpha)
        LayerNorm.reset_parameters(self)

    def forward(self, x):
        _check_width(x, self.hidden_size, self)
        return dynamic_tanh(x, self.alpha, self.weight, self.bias)

    def extra_repr(self):
        return f"{self.hidden_size}, elementwise_affine={self.weight is not None}"


@NORMS.register
class NoNorm(nn.Identity):
    """x as it is, in the place of a norm. As `nn.Identity` it takes any arguments and has no parameters."""

    name, title, look = "none", ("没有归一化", "no norm"), Look(VERMILLION, "^")
    formula = "x"


def _standardise(x, eps):
    """x̂ and rstd of LayerNorm. Subtracting the mean before squaring keeps digits that E[x²] − E[x]² would cancel."""
    centred = _wide(x) - _wide(x).mean(-1, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
    return centred * rstd, rstd


def _divide_by_rms(x, eps):
    rstd = torch.rsqrt(_wide(x).square().mean(-1, keepdim=True) + eps)
    return _wide(x) * rstd, rstd


def _wide(x):
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _scale_and_shift(x_hat, weight=None, bias=None):
    y = x_hat if weight is None else x_hat * weight
    return y if bias is None else y + bias


def _sum_rows(terms, x, weight):
    return terms.reshape(-1, terms.shape[-1]).sum(0).to(x.dtype if weight is None else weight.dtype)


def check_arguments(x, eps=1.0, dy=None, **parameters):
    """Raises TypeError or ValueError, in words, for what no norm can work with: an x that is no floating tensor
    (..., d), an eps that is not > 0, a parameter not of shape (d,), a dy not like x."""
    if x.dtype not in DTYPES:  # fp8 has too few digits for a mean, and torch no arithmetic for it
        raise TypeError(
            f"x has dtype {x.dtype}; a norm needs a floating dtype of 16, 32 or 64 bits: convert with x.float()"
        )
    if x.dim() == 0:
        raise ValueError("x is a single number; a norm needs at least one dimension: (..., hidden_size)")
    for name, parameter in {**parameters, "dy": dy}.items():
        if parameter is not None and not isinstance(parameter, torch.Tensor):
            raise TypeError(
                f"{name} is {parameter!r}; expected a tensor (the size to normalise is that of x's last dimension)"
            )
    if not eps > 0:
        raise ValueError(f"eps is {eps}; it must be > 0, or a constant row divides by zero")
    if dy is not None and dy.shape != x.shape:
        raise ValueError(f"dy has shape {tuple(dy.shape)}, but x has shape {tuple(x.shape)}; they must be the same")
    for name, parameter in parameters.items():
        if parameter is not None and parameter.shape != x.shape[-1:]:
            raise ValueError(f"{name} has shape {tuple(parameter.shape)}, but the last dimension of x is {x.shape[-1]}")


def _add_parameters(module, weight, bias, device, dtype):
    for name, wanted in (("weight", weight), ("bias", bias)):
        parameter = nn.Parameter(torch.empty(module.hidden_size, device=device, dtype=dtype)) if wanted else None
        module.register_parameter(name, parameter)


def _fill(tensor, value):
    if tensor is not None:
        nn.init.constant_(tensor, value)


def _check_alpha(alpha):
    if isinstance(alpha, torch.Tensor) and alpha.numel() != 1:
        raise ValueError(f"alpha has shape {tuple(alpha.shape)}; expected a number or a tensor with one element")


def _check_size(hidden_size):
    if not isinstance(hidden_size, Integral) or hidden_size < 1:
        raise ValueError(f"hidden_size is {hidden_size!r}; expected a whole number >= 1")
    return hidden_size


def _check_width(x, hidden_size, module):
    if x.dim() == 0 or x.shape[-1] != hidden_size:
        name = type(module).__name__
        raise ValueError(
            f"x has shape {tuple(x.shape)}, but this {name} was made for a last dimension of {hidden_size}"
        )
