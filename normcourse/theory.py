"""The closed forms that are drawn over the measurements: networks of infinite width at initialisation.

In a wide layer W φ(x) with W ~ N(0, gain²/width), the entries of x are as good as Gaussian, and everything follows from
two averages over a standard normal z:  E φ(√q z)²  for the forward pass and  E φ'(√q z)²  for the backward pass.
Sources: Poole et al. (2016), Schoenholz et al., "Deep Information Propagation" (2017); for the residual stack Yang &
Schoenholz, "Mean Field Residual Networks" (2017).
"""

import math
from functools import lru_cache

import torch

from .models import ACTIVATIONS
from .residual import find

_Z = torch.linspace(-10, 10, 4000, dtype=torch.float64)  # an even number: 0, where ReLU has no slope, is not among them
_DENSITY = torch.exp(-_Z.square() / 2)
_DENSITY /= _DENSITY.sum()


@lru_cache(maxsize=100_000)
def gaussian_moments(activation, q):
    """E φ(√q z)² and E φ'(√q z)² for a standard normal z; `activation` is a key of `ACTIVATIONS`, q > 0 a variance."""
    x = (math.sqrt(q) * _Z).requires_grad_()
    y = find(activation, ACTIVATIONS, "activation")()(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return float(_DENSITY @ y.detach().square()), float(_DENSITY @ slope.square())


def mean_field(placement, depth, gain=1.0, activation="relu", variance=1.0, bias=0.0):
    """Variance and gradient of `models.deep_mlp` in the limit of infinite width, at initialisation.

    A branch W φ(x) + b turns a variance q into v(q) = gain² E φ(√q z)² + bias², and multiplies a squared gradient by
    χ(q) = gain² E φ'(√q z)². A norm turns q into 1 and divides the squared gradient by q. For Post-Norm that makes
    (1 + χ) / (1 + v) per layer, for Pre-Norm 1 + χ / q.

    Args:
        placement: a key of `residual.PLACEMENTS` except "hyper_connection"; its norm is layer_norm or rms_norm.
        depth, gain, activation, bias: as for `deep_mlp`.
        variance: of the input's entries.

    Returns: two lists of length depth + 1 over the layers 0 … depth: the variance of the hidden state's entries, and
        the root mean square gradient norm with respect to it, in units of the gradient at the last layer (before a
        final norm).
    """
    if placement not in _STEPS:
        raise ValueError(f"no closed form for placement {placement!r}; known are {', '.join(_STEPS)}")
    variances, factors = [variance], []

    def branch(q, scale=1.0):
        value, slope = gaussian_moments(activation, q) if q > 0 else (0.0, 0.0)
        return (scale * gain) ** 2 * value + bias**2, (scale * gain) ** 2 * slope

    for layer in range(1, depth + 1):
        forward, backward = _STEPS[placement](variances[-1], branch, layer, depth)
        variances.append(forward)
        factors.append(math.sqrt(backward))
    gradients = [1.0]
    for factor in reversed(factors):
        gradients.append(gradients[-1] * factor)
    return variances, gradients[::-1]


def gaussian_product(width, depth, gain=1.0):
    """Singular values of a product of `depth` square Gaussian matrices with entries from N(0, gain²/width).

    For a large number of factors the i-th largest grows like exp(depth · λ_i) with the Lyapunov exponents
    λ_i = log gain + ½ (ψ((width − i + 1) / 2) − log(width / 2)), ψ the digamma function.
    Source: Newman, "The distribution of Lyapunov exponents: exact results for random matrices" (1986).

    Returns: list of length width, largest first.
    """
    degrees = torch.arange(width, 0, -1, dtype=torch.float64)
    exponents = math.log(gain) + (torch.digamma(degrees / 2) - math.log(width / 2)) / 2
    return torch.exp(depth * exponents).tolist()


def skip_edges(a):
    """Smallest and largest singular value of I + a G, G with entries from N(0, 1/n), n large; from a = 1 on it is 0.

    The edges are the extrema of z(b) = 1/b² − a²/(b (b − 1)), from Dozier & Silverstein, "On the empirical distribution
    of eigenvalues of large dimensional information-plus-noise type matrices" (2007), equation 1.1 with A = I, c = 1.
    """
    if a == 0:
        return 1.0, 1.0
    s = a * a
    if abs(1 - s) < 1e-12:
        roots = [2 / 3]
    else:
        spread = math.sqrt(s * (s + 8))
        roots = [((4 - s) + sign * spread) / (4 * (1 - s)) for sign in (1, -1)]
    edges = sorted(1 / b**2 - s / (b * (b - 1)) for b in roots)
    return math.sqrt(max(edges[0], 0.0)) if a < 1 else 0.0, math.sqrt(edges[-1])


def path_shares(depth, gain=1.0, activation="relu", variance=1.0):
    """Share of the squared gradient that comes through k of `depth` residual branches, k = 0 … depth.

    Each branch multiplies the squared gradient by χ = gain² E φ'², the skip by 1, and paths add up at right angles: a
    binomial distribution with probability χ / (1 + χ). For activations whose slope depends on the variance (tanh) χ is
    that of the input.
    """
    chi = gain**2 * gaussian_moments(activation, variance)[1]
    p = chi / (1 + chi)
    return [math.comb(depth, k) * p**k * (1 - p) ** (depth - k) for k in range(depth + 1)]


# Each step: from the variance q of x, the variance after the block and the factor of the squared gradient through it.


def _plain(q, branch, layer, depth):
    return branch(q)


def _residual(q, branch, layer, depth):
    value, slope = branch(q)
    return q + value, 1 + slope


def _highway(q, branch, layer, depth):
    """The gate T = sigmoid(√q z − 2) is independent of f and x in the limit; its own slope carries a gradient too."""
    value, slope = branch(q)
    gate = torch.sigmoid(math.sqrt(q) * _Z - 2)
    shut, open_, gate_slope = (float(_DENSITY @ t.square()) for t in (1 - gate, gate, gate * (1 - gate)))
    return open_ * value + shut * q, shut + open_ * slope + gate_slope * (value + q)


def _post_norm(q, branch, layer, depth):
    value, slope = branch(q)
    return 1.0, (1 + slope) / (q + value)


def _pre_norm(q, branch, layer, depth):
    value, slope = branch(1.0)
    return q + value, 1 + slope / q


def _res_post_norm(q, branch, layer, depth):
    value, slope = branch(q)
    return q + 1, 1 + slope / value


def _peri_norm(q, branch, layer, depth):
    value, slope = branch(1.0)
    return q + 1, 1 + slope / (q * value)


def _deep_norm(q, branch, layer, depth):
    """α² = √depth and β² = 1/√(4·depth), see `residual.DeepNorm`."""
    skip = depth**0.5
    value, slope = branch(q, scale=(4 * depth) ** -0.25)
    return 1.0, (skip + slope) / (skip * q + value)


def _rezero(q, branch, layer, depth):
    return q, 1.0


def _layer_scale(q, branch, layer, depth):
    scale = 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6
    value, slope = branch(1.0)
    return q + scale**2 * value, 1 + scale**2 * slope / q


def _scaled_pre_norm(q, branch, layer, depth):
    value, slope = branch(1 / layer)
    return q + value, 1 + slope / (layer * q)


_STEPS = {
    "plain": _plain,
    "residual": _residual,
    "highway": _highway,
    "post_norm": _post_norm,
    "pre_norm": _pre_norm,
    "res_post_norm": _res_post_norm,
    "peri_norm": _peri_norm,
    "deep_norm": _deep_norm,
    "rezero": _rezero,
    "layer_scale": _layer_scale,
    "scaled_pre_norm": _scaled_pre_norm,
}
