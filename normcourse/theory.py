"""The closed forms that are drawn over the measurements: networks of infinite width at initialisation.

In a wide layer W φ(x) with W ~ N(0, gain²/width), the entries of x are as good as Gaussian, and everything follows from
two averages over a standard normal z:  E φ(√q z)²  for the forward pass and  E φ'(√q z)²  for the backward pass.
Sources: Poole et al. (2016), Schoenholz et al., "Deep Information Propagation" (2017); for the residual stack Yang &
Schoenholz, "Mean Field Residual Networks" (2017).
"""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch

from .models import ACTIVATIONS
from .residual import PLACEMENTS, find

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


@lru_cache(maxsize=100_000)
def gaussian_difference(activation, q, correlation):
    """E (φ(√q z) − φ(√q z'))² for two standard normals z and z' of this correlation, q > 0.

    For ReLU the closed form of Cho & Saul, "Kernel Methods for Deep Learning" (2009), for order n = 1; else a
    quadrature.
    """
    correlation = min(max(correlation, -1.0), 1.0)
    if activation == "linear":
        return 2 * q * (1 - correlation)
    if activation == "relu":
        angle = math.acos(correlation)
        return q * (1 - (math.sin(angle) + (math.pi - angle) * correlation) / math.pi)
    z = torch.linspace(-6, 6, 61, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    phi = find(activation, ACTIVATIONS, "activation")()
    other = correlation * z[:, None] + math.sqrt(1 - correlation**2) * z
    return float(density @ (phi(math.sqrt(q) * z)[:, None] - phi(math.sqrt(q) * other)).square() @ density)


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
    variances, steps = _walk(placement, depth, gain, activation, variance, bias)
    return variances, _gradients(steps)


def weight_gradients(placement, depth, width, gain=1.0, activation="relu", variance=1.0, bias=0.0):
    """Norm of the gradient with respect to the weight matrix of each block, where `measure.gradient_norms` sends back
    a random direction of unit length (through the final norm, if the placement has one).

    The gradient of W is δ φ(h)ᵀ: δ is what reaches the branch, h what the branch reads.

    Args: width: of the layers; the others as in `mean_field`.
    Returns: list of length depth, for the blocks 1 … depth.
    """
    variances, steps = _walk(placement, depth, gain, activation, variance, bias)
    last = 1 / math.sqrt(variances[-1]) if PLACEMENTS[placement].final_norm else 1.0
    return [
        last * gradient * math.sqrt(step.reaches * width * gaussian_moments(activation, step.reads)[0])
        for gradient, step in zip(_gradients(steps)[1:], steps)
    ]


def identity_path(depth, gain=1.0, activation="relu", variance=1.0, bias=0.0):
    """Post-Norm: what of the gradient comes back through the skips alone, past all branches.

    Every norm divides by √(1 + v); where the branch has the variance of the stream, v = 1, this is 2^(−l/2).
    Returns: list of length depth + 1 as in `mean_field`.
    """
    _, steps = _walk("post_norm", depth, gain, activation, variance, bias)
    return _gradients([step._replace(backward=step.reaches) for step in steps])


def amplification(placement, depth, gain=1.0, activation="relu", variance=1.0):
    """What `measure.amplification` gives for a random step: the change of the output, ‖ΔF‖² / (‖F‖² size²).

    Each block adds its own change, v · size², to what comes from below, and passes both on with the factor that a
    squared gradient has on its way back.
    """
    variances, steps = _walk(placement, depth, gain, activation, variance, 0.0)
    change = 0.0
    for step in steps:
        change = step.backward * change + step.reaches * step.writes
    return change / variances[-1]


def updates(placement, depth, gain=1.0, activation="relu", variance=1.0, bias=0.0):
    """How far one layer of `models.deep_mlp` turns the hidden state, for infinite width, at initialisation.

    Every wiring gives x_{l+1} = s·x_l + something that fresh random weights made: at right angles to all that was there
    before. With the variances q this leaves the cosine s √(q_l / q_{l+1}) and the relative update
    √(q_{l+1} / q_l + 1 − 2 s); where s = 1, which is every wiring x + …, that is √(v / q_l). The cosine of x_l with the
    input is the product of the cosines up to l.

    Arguments and errors as in `mean_field`.
    Returns: two lists of length depth over the layers 1 … depth: ‖x_l − x_{l−1}‖ / ‖x_{l−1}‖, and the cosine of x_l and
        x_{l−1}.
    """
    variances, _ = mean_field(placement, depth, gain, activation, variance, bias)
    relative, cosines = [], []
    for q, after in itertools.pairwise(variances):
        skip = _skip(placement, q, gain, activation, bias, depth)
        relative.append(math.sqrt(max(after / q + 1 - 2 * skip, 0.0)))
        cosines.append(skip * math.sqrt(q / after))
    return relative, cosines


def stale_branches(placement, depth, gain=1.0, activation="relu", variance=1.0, bias=0.0):
    """What `measure.stale_branches` measures, for infinite width at initialisation: √(E(φ(z) − φ(z'))² / E φ(z)²).

    z and z' are two standard normals whose correlation is the cosine of neighbouring layers, see `updates`. The bias,
    which is the same in both, counts in the branch's size only.

    Args: placement: "pre_norm", "post_norm", "scaled_pre_norm", "peri_norm" or "layer_scale", whose branches read a
        normalised state (for Post-Norm, with `variance` 1). The others as in `mean_field`.
    Returns: a list of length depth − 1 over the layers 2 … depth.
    """
    if placement not in _NORMALISED:
        raise ValueError(f"no closed form for placement {placement!r}; known are {', '.join(_NORMALISED)}")
    _, cosines = updates(placement, depth, gain, activation, variance, bias)
    differences = []
    for layer, cosine in enumerate(cosines[:-1], 2):
        q = 1 / layer if placement == "scaled_pre_norm" else 1.0
        size = gain**2 * gaussian_moments(activation, q)[0] + bias**2
        differences.append(gain * math.sqrt(gaussian_difference(activation, q, cosine) / size))
    return differences


def merged(placement, depth, start, gain=1.0, activation="relu"):
    """Relative difference of the last hidden state when the layers from `start` on are merged two by two.

    Merged layers read the same state and are added before any norm that follows, see `measure.Merged`. What is followed
    is the covariance of the two streams, the one as built and the merged one; the outputs of a branch, whose weights
    they share, have the covariance E φ(z) φ(z').

    Args: placement: "pre_norm" or "post_norm". start: 1 … depth, the first layer that is merged. depth, gain,
        activation: as in `mean_field`; the input has variance 1.
    """
    if placement not in ("pre_norm", "post_norm"):
        raise ValueError(f"no closed form for placement {placement!r}; known are pre_norm, post_norm")
    value = gain**2 * gaussian_moments(activation, 1.0)[0]

    def shared(correlation):
        return value - gain**2 * gaussian_difference(activation, 1.0, correlation) / 2

    q = covariance = mean_field(placement, start - 1, gain, activation)[0][-1]
    for _ in range(start, depth, 2):
        first = covariance / q
        if placement == "pre_norm":  # the stale branch reads y, the other one x + f(x)
            second = covariance / math.sqrt(q * (q + value))
            q, covariance = q + 2 * value, covariance + shared(first) + shared(second)
        else:
            s = 1 / math.sqrt(1 + value)
            covariance = s * (s * (first + shared(first)) + shared(s * first)) / math.sqrt(1 + 2 * value)
    if (depth - start) % 2 == 0:  # the last layer has no partner
        step = shared(covariance / q)
        scale = 1.0 if placement == "pre_norm" else 1 + value
        q, covariance = (q + value) / scale, (covariance + step) / scale
    return math.sqrt(max(2 - 2 * covariance / q, 0.0))


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


def _walk(placement, depth, gain, activation, variance, bias):
    if placement not in _STEPS:
        raise ValueError(f"no closed form for placement {placement!r}; known are {', '.join(_STEPS)}")

    def branch(q, scale=1.0):
        value, slope = gaussian_moments(activation, q) if q > 0 else (0.0, 0.0)
        return (scale * gain) ** 2 * value + bias**2, (scale * gain) ** 2 * slope

    variances, steps = [variance], []
    for layer in range(1, depth + 1):
        steps.append(_Step(*_STEPS[placement](variances[-1], branch, layer, depth)))
        variances.append(steps[-1].forward)
    return variances, steps


def _gradients(steps):
    gradients = [1.0]
    for step in reversed(steps):
        gradients.append(gradients[-1] * math.sqrt(step.backward))
    return gradients[::-1]


class _Step(NamedTuple):
    """One block in mean-field theory."""

    forward: float  # variance after it
    backward: float  # factor of the squared gradient on its way through
    reads: float  # variance of what the branch reads
    writes: float  # variance of the branch's output
    reaches: float  # factor of the squared gradient on its way to the branch's output


def _plain(q, branch, layer, depth):
    value, slope = branch(q)
    return value, slope, q, value, 1


def _residual(q, branch, layer, depth):
    value, slope = branch(q)
    return q + value, 1 + slope, q, value, 1


def _highway(q, branch, layer, depth):
    """The gate T = sigmoid(√q z − 2) is independent of f and x in the limit; its own slope carries a gradient too."""
    value, slope = branch(q)
    gate = torch.sigmoid(math.sqrt(q) * _Z - 2)
    shut, open_, gate_slope = (float(_DENSITY @ t.square()) for t in (1 - gate, gate, gate * (1 - gate)))
    return open_ * value + shut * q, shut + open_ * slope + gate_slope * (value + q), q, value, open_


def _post_norm(q, branch, layer, depth):
    value, slope = branch(q)
    return 1.0, (1 + slope) / (q + value), q, value, 1 / (q + value)


def _pre_norm(q, branch, layer, depth):
    value, slope = branch(1.0)
    return q + value, 1 + slope / q, 1.0, value, 1


def _res_post_norm(q, branch, layer, depth):
    value, slope = branch(q)
    return q + 1, 1 + slope / value, q, value, 1 / value


def _peri_norm(q, branch, layer, depth):
    value, slope = branch(1.0)
    return q + 1, 1 + slope / (q * value), 1.0, value, 1 / value


def _deep_norm(q, branch, layer, depth):
    """α² = √depth and β² = 1/√(4·depth), see `residual.DeepNorm`."""
    skip = depth**0.5
    value, slope = branch(q, scale=(4 * depth) ** -0.25)
    return 1.0, (skip + slope) / (skip * q + value), q, value, 1 / (skip * q + value)


def _rezero(q, branch, layer, depth):
    return q, 1.0, q, branch(q)[0], 0


def _layer_scale(q, branch, layer, depth):
    scale = 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6
    value, slope = branch(1.0)
    return q + scale**2 * value, 1 + scale**2 * slope / q, 1.0, value, scale**2


def _scaled_pre_norm(q, branch, layer, depth):
    value, slope = branch(1 / layer)
    return q + value, 1 + slope / (layer * q), 1 / layer, value, 1


# The branches of these read a state of known variance, whatever the layer.
_NORMALISED = ("pre_norm", "post_norm", "scaled_pre_norm", "peri_norm", "layer_scale")


def _skip(placement, q, gain, activation, bias, depth):
    """The factor s of the skip in x_{l+1} = s·x_l + …, once the norm after it is counted."""
    if placement == "plain":
        return 0.0
    if placement == "highway":
        return float(_DENSITY @ (1 - torch.sigmoid(math.sqrt(q) * _Z - 2)))
    if placement not in ("post_norm", "deep_norm"):
        return 1.0
    skip, scale = (depth**0.25, (4 * depth) ** -0.25) if placement == "deep_norm" else (1.0, 1.0)
    value = (scale * gain) ** 2 * gaussian_moments(activation, q)[0] + bias**2
    return skip / math.sqrt(skip**2 * q + value)


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
