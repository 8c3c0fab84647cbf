"""What ranks tell each other about a token: count, mean and sum of squared deviations; and how two are merged."""

import torch


def of_slice(x):
    """x: (tokens, features of one rank). Returns (3, tokens): count, mean, sum of squared deviations from it."""
    mean = x.mean(-1)
    squares = (x - mean[:, None]).square().sum(-1)
    return torch.stack([torch.full_like(mean, x.shape[-1]), mean, squares])


def merge(one, other):
    """Those of both together (Chan, Golub & LeVeque 1979)."""
    count, gap = one[0] + other[0], other[1] - one[1]
    mean = one[1] + gap * other[0] / count
    squares = one[2] + other[2] + gap.square() * one[0] * other[0] / count
    return torch.stack([count, mean, squares])


def normalise(x, statistics, eps=1e-5):
    """The slice of a rank, normalised with statistics of whatever numbers they are."""
    count, mean, squares = statistics[:, :, None]
    return (x - mean) * torch.rsqrt(squares / count + eps)
