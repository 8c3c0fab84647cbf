"""What `measure` finds in a model with layers merged, for `models.deep_mlp` of infinite width at initialisation."""

import math

from ..residual import PostNorm, PreNorm
from .gaussian import gaussian_difference, gaussian_moments
from .laws import require_law, unit_norms
from .probes import mean_field


def merged(placement, depth, start, gain=1.0, activation="relu", norm="layer_norm"):
    """Relative difference of the last hidden state when the layers from `start` on are merged two by two.

    Merged layers read the same state and are added before any norm that follows, see `measure.Merged`. What is followed
    is the covariance of the two streams, the one as built and the merged one; the outputs of a branch, whose weights
    they share, have the covariance E φ(z) φ(z').

    Args: placement: "pre_norm" or "post_norm". start: 1 … depth, the first layer that is merged. depth, gain,
        activation: as in `mean_field`; the input has variance 1. norm: one that sets the variance.
    Raises: ValueError for another wiring or norm.
    """
    placement, norm = require_law(placement, norm, (PostNorm, PreNorm), unit_norms())
    value = gain**2 * gaussian_moments(activation, 1.0)[0]

    def shared(correlation):
        return value - gain**2 * gaussian_difference(activation, 1.0, correlation) / 2

    q = covariance = mean_field(placement, start - 1, gain, activation, norm=norm)[0][-1]
    for _ in range(start, depth, 2):
        first = covariance / q
        if placement is PreNorm:  # the stale branch reads y, the other one x + f(x)
            second = covariance / math.sqrt(q * (q + value))
            q, covariance = q + 2 * value, covariance + shared(first) + shared(second)
        else:
            s = 1 / math.sqrt(1 + value)
            covariance = s * (s * (first + shared(first)) + shared(s * first)) / math.sqrt(1 + 2 * value)
    if (depth - start) % 2 == 0:  # the last layer has no partner
        step = shared(covariance / q)
        scale = 1.0 if placement is PreNorm else 1 + value
        q, covariance = (q + value) / scale, (covariance + step) / scale
    return math.sqrt(max(2 - 2 * covariance / q, 0.0))
