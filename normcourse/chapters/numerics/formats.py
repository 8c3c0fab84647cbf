"""Numbers of few bits: what there is of them, sums and variances computed in them, and how wrong these can be.

Notation: u is the unit roundoff, half the distance from 1 to the next number; γ(k) = k u / (1 − k u) bounds what k
roundings in a row do (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, lemma 3.1).
"""

import math

import torch

_NAMES = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8 e4m3": "float8_e4m3fn",
    "fp8 e5m2": "float8_e5m2",
}
FLOATS = {name: getattr(torch, known) for name, known in _NAMES.items() if hasattr(torch, known)}
_BITS = {2: torch.int16, 1: torch.int8}


def every_number(dtype):
    """All positive finite numbers of a floating dtype of 8 or 16 bits, in order, in fp64: its bit patterns."""
    size = torch.finfo(dtype).bits // 8
    patterns = torch.arange(2 ** (8 * size - 1), dtype=torch.int32).to(_BITS[size])
    numbers = patterns.view(dtype).to(torch.float64)
    return numbers[numbers.isfinite() & (numbers > 0)]


def unit(dtype):
    """The unit roundoff u: the largest relative error of rounding to nearest (Higham, section 2.1)."""
    return torch.finfo(dtype).eps / 2


def quantise(x, bits, dims=None):
    """x on the grid of signed integers of so many bits, and back: fake quantisation with one absmax scale.

    dims: the dimensions that share a scale; all by default.
    """
    largest = x.abs().amax(dim=tuple(range(x.dim())) if dims is None else dims, keepdim=True)
    step = largest.clamp(min=1e-30) / (2 ** (bits - 1) - 1)
    return (x / step).round() * step


# Variance over dimension 0, each step rounded to the dtype of x -------------------------------------------------------


def running_sum(x):
    """One after the other."""
    total = x[0]
    for row in x[1:]:
        total = total + row
    return total


def pairwise_sum(x):
    """Neighbours first, then their sums; len(x) is a power of 2."""
    while len(x) > 1:
        x = x[::2] + x[1::2]
    return x[0]


def textbook(x):
    return running_sum(x * x) / len(x) - (running_sum(x) / len(x)) ** 2


def two_pass(x, add=running_sum):
    centred = x - add(x) / len(x)
    return add(centred * centred) / len(x)


def pairwise(x):
    return two_pass(x, pairwise_sum)


def welford(x):
    mean, squares = x[0], torch.zeros_like(x[0])
    for count, row in enumerate(x[1:], start=2):
        before = row - mean
        mean = mean + before / count
        squares = squares + before * (row - mean)
    return squares / len(x)


def in_fp32(x):
    return two_pass(x.float()).to(x.dtype)


METHODS = {
    "textbook": textbook,
    "two_pass": two_pass,
    "pairwise": pairwise,
    "welford": welford,
    "in_fp32": in_fp32,
}

# What their relative error can be at most -----------------------------------------------------------------------------


def gamma(k, u):
    return k * u / (1 - k * u) if k * u < 1 else math.inf


def variance_bound(method, n, u, ratio, farthest=4.0):
    """Largest relative error of a method's variance of n numbers, where nothing over- or underflows.

    ratio: |mean| over standard deviation σ. farthest: of a number from the mean, in σ; only Welford's depends on it.
    The derivations are beside the tests of this chapter.
    """
    power = 1 + ratio**2  # E[x²] / σ²
    if method == "textbook":
        return (gamma(n + 1, u) + gamma(2 * n + 1, u)) * power * (1 + u) + u
    if method in ("two_pass", "pairwise"):
        depth = n - 1 if method == "two_pass" else math.log2(n)
        shift = gamma(depth + 1, u) ** 2 * power  # the error of the mean, squared, over σ²
        return gamma(depth + 4, u) * (1 + shift) + shift
    if method == "welford":
        if (n + 3) * u >= 1:
            return math.inf
        mean = u * ((n + 1) / 2 * (ratio + farthest) + 4 * farthest) / (1 - (n + 3) * u)
        return gamma(n + 4, u) + (1 + gamma(n + 4, u)) * (8**0.5 * mean + mean**2)
    return u + (1 + u) * variance_bound("two_pass", n, unit(torch.float32), ratio)
