"""One block in mean-field theory: a law for each wiring, and for each norm one for the variance that it leaves.

A law belongs to exactly the class that it is registered for: a class derived from it may compute something else.
"""

import math
from typing import NamedTuple

import torch

from ..norms import NORMS, LayerNorm, NoNorm, RMSNorm
from ..residual import (
    PLACEMENTS,
    DeepNorm,
    Highway,
    LayerScale,
    PeriNorm,
    Plain,
    PostNorm,
    PreNorm,
    Residual,
    ResPostNorm,
    ReZero,
    ScaledPreNorm,
)
from .gaussian import DENSITY, Z, gaussian_moments

LAWS = {}  # class of a wiring or norm -> its law


class Step(NamedTuple):
    """One block in mean-field theory."""

    forward: float  # variance after it
    backward: float  # factor of the squared gradient on its way through
    reads: float  # variance of what the branch reads
    writes: float  # variance of the branch's output
    reaches: float  # factor of the squared gradient on its way to the branch's output
    skip: float = 1.0  # s in x_{l+1} = s·x_l + …, a norm after the sum included


def law(*classes):
    """Decorator: the function is the law of these classes.

    Of a norm: the variance that it makes of a variance q; a squared gradient is multiplied by that over q on its way
    back. Of a wiring: the `Step` of block `layer` of `depth` from (q, branch, norm, layer, depth), where q is the
    variance of its input, branch(q, scale=1.0) gives the variance of the branch's output and the factor of a squared
    gradient through it, its weights multiplied by `scale`, and norm is the norm's law.
    """

    def register(function):
        LAWS.update(dict.fromkeys(classes, function))
        return function

    return register


def has_law(placement, norm="layer_norm"):
    """Whether there is a closed form for this wiring with this norm; a wiring without norms has one with any."""
    placement, norm = PLACEMENTS.find(placement), NORMS.find(norm)
    return placement in LAWS and (norm in LAWS or not placement.uses_norm)


def require_law(placement, norm, placements=LAWS, norms=LAWS):
    """The classes of both; a ValueError says which wirings, or norms, of these have a closed form."""
    placement, norm = PLACEMENTS.find(placement), NORMS.find(norm)
    if placement not in placements:
        raise ValueError(f"no closed form for placement {_name(placement)}; known are {_names(PLACEMENTS, placements)}")
    if placement.uses_norm and norm not in norms:
        both = f"placement {_name(placement)} with norm {_name(norm)}"
        raise ValueError(f"no closed form for {both}; known are {_names(NORMS, norms)}")
    return placement, norm


def walk(placement, norm, depth, gain, activation, variance, bias):
    """The variances after 0 … depth blocks of `models.deep_mlp`, and the `Step` of each block.

    Raises: as `require_law`.
    """
    placement, norm = require_law(placement, norm)

    def branch(q, scale=1.0):
        value, slope = gaussian_moments(activation, q) if q > 0 else (0.0, 0.0)
        return (scale * gain) ** 2 * value + bias**2, (scale * gain) ** 2 * slope

    variances, steps = [variance], []
    for layer in range(1, depth + 1):
        steps.append(LAWS[placement](variances[-1], branch, LAWS.get(norm), layer, depth))
        variances.append(steps[-1].forward)
    return variances, steps


def _name(cls):
    return repr(getattr(cls, "name", None) or getattr(cls, "__name__", cls))


def _names(registry, classes):
    return ", ".join(name for name, cls in registry.items() if cls in classes)


@law(LayerNorm, RMSNorm)
def unit_variance(q):
    """The same law for both, as what they see here has mean 0: the inputs, and whatever a matrix or bias with entries
    of mean 0 put out, W φ(x) + b for every φ. Where features have another mean (inputs with a mean, a branch that ends
    in a ReLU) q is the variance for LayerNorm, and the mean square for RMSNorm, and the two part."""
    return 1.0


def unit_norms():
    """The norms that turn every variance into 1."""
    return [cls for cls, rule in LAWS.items() if rule is unit_variance]


@law(NoNorm)
def unchanged(q):
    return q


@law(Plain)
def plain(q, branch, norm, layer, depth):
    value, slope = branch(q)
    return Step(value, slope, q, value, 1, skip=0.0)


@law(Residual)
def residual(q, branch, norm, layer, depth):
    value, slope = branch(q)
    return Step(q + value, 1 + slope, q, value, 1)


@law(Highway)
def highway(q, branch, norm, layer, depth):
    """The gate T = sigmoid(√q z − 2) is independent of f and x in the limit; its own slope carries a gradient too."""
    value, slope = branch(q)
    gate = torch.sigmoid(math.sqrt(q) * Z - 2)
    shut, open_, gate_slope = (float(DENSITY @ t.square()) for t in (1 - gate, gate, gate * (1 - gate)))
    forward, backward = open_ * value + shut * q, shut + open_ * slope + gate_slope * (value + q)
    return Step(forward, backward, q, value, open_, skip=float(DENSITY @ (1 - gate)))


@law(PostNorm)
def post_norm(q, branch, norm, layer, depth):
    value, slope = branch(q)
    after = norm(q + value)
    through = after / (q + value)
    return Step(after, (1 + slope) * through, q, value, through, skip=math.sqrt(through))


@law(PreNorm)
def pre_norm(q, branch, norm, layer, depth):
    reads = norm(q)
    value, slope = branch(reads)
    return Step(q + value, 1 + slope * reads / q, reads, value, 1)


@law(ResPostNorm)
def res_post_norm(q, branch, norm, layer, depth):
    value, slope = branch(q)
    added = norm(value)
    return Step(q + added, 1 + slope * added / value, q, value, added / value)


@law(PeriNorm)
def peri_norm(q, branch, norm, layer, depth):
    reads = norm(q)
    value, slope = branch(reads)
    added = norm(value)
    return Step(q + added, 1 + slope * (reads / q) * (added / value), reads, value, added / value)


@law(DeepNorm)
def deep_norm(q, branch, norm, layer, depth):
    alpha, beta = DeepNorm.constants(depth)
    value, slope = branch(q, scale=beta)
    total = alpha**2 * q + value
    after = norm(total)
    through = after / total
    return Step(after, (alpha**2 + slope) * through, q, value, through, skip=alpha * math.sqrt(through))


@law(ReZero)
def rezero(q, branch, norm, layer, depth):
    return Step(q, 1.0, q, branch(q)[0], 0)


@law(LayerScale)
def layer_scale(q, branch, norm, layer, depth):
    scale, reads = LayerScale.initial(depth), norm(q)
    value, slope = branch(reads)
    return Step(q + scale**2 * value, 1 + scale**2 * slope * reads / q, reads, value, scale**2)


@law(ScaledPreNorm)
def scaled_pre_norm(q, branch, norm, layer, depth):
    reads = norm(q) / layer
    value, slope = branch(reads)
    return Step(q + value, 1 + slope * reads / q, reads, value, 1)
