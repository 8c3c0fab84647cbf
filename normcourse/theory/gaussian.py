"""Averages over Gaussian numbers and the spectra of Gaussian matrices, which the other closed forms are made of."""

import math
from functools import lru_cache

import torch

from ..models import ACTIVATIONS
from ..registry import find

Z = torch.linspace(-10, 10, 4000, dtype=torch.float64)  # an even number: 0, where ReLU has no slope, is not among them
DENSITY = torch.exp(-Z.square() / 2)
DENSITY /= DENSITY.sum()


@lru_cache(maxsize=100_000)
def gaussian_moments(activation, q):
    """E φ(√q z)² and E φ'(√q z)² for a standard normal z; `activation` is a key of `ACTIVATIONS`, q > 0 a variance."""
    x = (math.sqrt(q) * Z).requires_grad_()
    y = find(activation, ACTIVATIONS, "activation")()(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return float(DENSITY @ y.detach().square()), float(DENSITY @ slope.square())


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
