"""What the probes of `measure` of the same name give, for `models.deep_mlp` of infinite width at initialisation."""

import itertools
import math

from .gaussian import gaussian_difference, gaussian_moments
from .laws import LAWS, require_law, unit_norms, walk


def mean_field(placement, depth, gain=1.0, activation="relu", variance=1.0, bias=0.0, norm="layer_norm"):
    """Variance and gradient of `models.deep_mlp` in the limit of infinite width, at initialisation.

    A branch W φ(x) + b turns a variance q into v(q) = gain² E φ(√q z)² + bias², and multiplies a squared gradient by
    χ(q) = gain² E φ'(√q z)². A norm turns q into 1 and divides the squared gradient by q. For Post-Norm that makes
    (1 + χ) / (1 + v) per layer, for Pre-Norm 1 + χ / q.

    Args:
        placement, norm: keys of `residual.PLACEMENTS` and `norms.NORMS`, or classes; see `has_law`.
        depth, gain, activation, bias: as for `deep_mlp`.
        variance: of the input's entries.

    Raises: ValueError where the wiring has no law, or none with this norm.

    Returns: two lists of length depth + 1 over the layers 0 … depth: the variance of the hidden state's entries, and
        the root mean square gradient norm with respect to it, in units of the gradient at the last layer (before a
        final norm).
    """
    variances, steps = walk(placement, norm, depth, gain, activation, variance, bias)
    return variances, _gradients(steps)


def weight_gradients(placement, depth, width, gain=1.0, activation="relu", variance=1.0, bias=0.0, norm="layer_norm"):
    """Norm of the gradient with respect to the weight matrix of each block, where `measure.gradient_norms` sends back
    a random direction of unit length (through the final norm, if the placement has one).

    The gradient of W is δ φ(h)ᵀ: δ is what reaches the branch, h what the branch reads.

    Args: width: of the layers; the others as in `mean_field`.
    Returns: list of length depth, for the blocks 1 … depth.
    """
    variances, steps = walk(placement, norm, depth, gain, activation, variance, bias)
    placement, norm = require_law(placement, norm)
    last = math.sqrt(LAWS[norm](variances[-1]) / variances[-1]) if placement.final_norm else 1.0
    return [
        last * gradient * math.sqrt(step.reaches * width * gaussian_moments(activation, step.reads)[0])
        for gradient, step in zip(_gradients(steps)[1:], steps)
    ]


def identity_path(depth, gain=1.0, activation="relu", variance=1.0, bias=0.0):
    """Post-Norm: what of the gradient comes back through the skips alone, past all branches.

    Every norm divides by √(1 + v); where the branch has the variance of the stream, v = 1, this is 2^(−l/2).
    Returns: list of length depth + 1 as in `mean_field`.
    """
    _, steps = walk("post_norm", "layer_norm", depth, gain, activation, variance, bias)
    return _gradients([step._replace(backward=step.reaches) for step in steps])


def amplification(placement, depth, gain=1.0, activation="relu", variance=1.0, norm="layer_norm"):
    """What `measure.amplification` gives for a random step: the change of the output, ‖ΔF‖² / (‖F‖² size²).

    Each block adds its own change, v · size², to what comes from below, and passes both on with the factor that a
    squared gradient has on its way back.
    """
    variances, steps = walk(placement, norm, depth, gain, activation, variance, 0.0)
    change = 0.0
    for step in steps:
        change = step.backward * change + step.reaches * step.writes
    return change / variances[-1]


def updates(placement, depth, gain=1.0, activation="relu", variance=1.0, bias=0.0, norm="layer_norm"):
    """How far one layer of `models.deep_mlp` turns the hidden state, for infinite width, at initialisation.

    Every wiring gives x_{l+1} = s·x_l + something that fresh random weights made: at right angles to all that was there
    before. With the variances q this leaves the cosine s √(q_l / q_{l+1}) and the relative update
    √(q_{l+1} / q_l + 1 − 2 s); where s = 1, which is every wiring x + …, that is √(v / q_l). The cosine of x_l with the
    input is the product of the cosines up to l.

    Arguments and errors as in `mean_field`.
    Returns: two lists of length depth over the layers 1 … depth: ‖x_l − x_{l−1}‖ / ‖x_{l−1}‖, and the cosine of x_l and
        x_{l−1}.
    """
    variances, steps = walk(placement, norm, depth, gain, activation, variance, bias)
    relative, cosines = [], []
    for (q, after), step in zip(itertools.pairwise(variances), steps):
        relative.append(math.sqrt(max(after / q + 1 - 2 * step.skip, 0.0)))
        cosines.append(step.skip * math.sqrt(q / after))
    return relative, cosines


def stale_branches(placement, depth, gain=1.0, activation="relu", variance=1.0, bias=0.0, norm="layer_norm"):
    """What `measure.stale_branches` measures, for infinite width at initialisation: √(E(φ(z) − φ(z'))² / E φ(z)²).

    z and z' are two standard normals whose correlation is the cosine of neighbouring layers, see `updates`. The bias,
    which is the same in both, counts in the branch's size only.

    Args: placement: one whose branches read a normalised state (for Post-Norm and DeepNorm, with `variance` 1). norm:
        one that sets the variance. The others, and errors, as in `mean_field`.
    Returns: a list of length depth − 1 over the layers 2 … depth.
    """
    normalised = {cls for cls in LAWS if getattr(cls, "reads_normalised", False)}
    placement, norm = require_law(placement, norm, normalised, unit_norms())
    _, cosines = updates(placement, depth, gain, activation, variance, bias, norm)
    _, steps = walk(placement, norm, depth, gain, activation, variance, bias)
    differences = []
    for step, cosine in zip(steps[1:], cosines):
        weights = 1 - bias**2 / step.writes  # share of the branch's output that the bias has no part in
        change = gaussian_difference(activation, step.reads, cosine) / gaussian_moments(activation, step.reads)[0]
        differences.append(math.sqrt(weights * change))
    return differences


def path_shares(depth, gain=1.0, activation="relu", variance=1.0):
    """Share of the squared gradient that comes through k of `depth` residual branches, k = 0 … depth.

    Each branch multiplies the squared gradient by χ = gain² E φ'², the skip by 1, and paths add up at right angles: a
    binomial distribution with probability χ / (1 + χ). For activations whose slope depends on the variance (tanh) χ is
    that of the input.
    """
    chi = gain**2 * gaussian_moments(activation, variance)[1]
    p = chi / (1 + chi)
    return [math.comb(depth, k) * p**k * (1 - p) ** (depth - k) for k in range(depth + 1)]


def _gradients(steps):
    gradients = [1.0]
    for step in reversed(steps):
        gradients.append(gradients[-1] * math.sqrt(step.backward))
    return gradients[::-1]
