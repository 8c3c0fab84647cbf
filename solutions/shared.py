"""What several exercises use: what tasks forbid, how exact a formula is, and how inputs are drawn."""

import math

import torch

BUILT_IN = (
    *("layer_norm", "native_layer_norm", "native_layer_norm_backward", "group_norm", "native_group_norm"),
    *("native_group_norm_backward", "batch_norm", "native_batch_norm", "native_batch_norm_backward"),
    *("native_batch_norm_legit", "native_batch_norm_legit_functional", "batch_norm_impl_index", "instance_norm"),
    *("rms_norm", "fused_rms_norm", "fused_rms_norm_backward", "normalize"),
    *("batch_norm_with_update", "batch_norm_with_update_functional", "batch_norm_no_update", "batch_norm_backward"),
)
READY_MADE = ("normcourse.norms", "normcourse.fused")
FORMULA = {torch.float64: 1e-11, torch.float32: 1e-4}  # a formula is this good, finite differences are not
STRICT = 3e-14  # the same in fp64, for rows that are `along`
DIFFERENTIATION = ("backward", "grad", "vjp", "jvp", "jacobian", "jacrev", "jacfwd", "make_dual")


def normal(generator, *shape, mean=0.0, std=1.0, dtype=torch.float32):
    return (mean + std * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype)


def between(g, low, high):
    return int(torch.randint(low, high + 1, (), generator=g))


def uniform(g, low, high):
    return low + (high - low) * float(torch.rand((), generator=g))


def even(generator, *shape, mean=0.0, std=1.0, dtype=torch.float32):
    """As `normal`, but rows have exactly the spreads std … 2·std about their own means, which differ: what a wrong ε does
    to them is no matter of chance."""
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x - x.mean(-1, keepdim=True)
    x = x / x.square().mean(-1, keepdim=True).sqrt() + 0.5
    return (mean + std * _one_to_two(shape) * x).to(dtype)


def even_squares(generator, *shape, mean=0.0, std=1.0, dtype=torch.float32):
    """As `normal`, but rows have exactly the root mean squares r … 2·r, where r² = mean² + std²: no two rows have the
    same, and what a wrong ε does to them is no matter of chance."""
    x = normal(generator, *shape, mean=mean, std=std, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-300)
    return (math.hypot(mean, std) * _one_to_two(shape) * x).to(dtype)


def along(g, rows, d, centred):
    """(dy, x, weight) in fp64 for a norm's backward pass: most of dy · weight lies along the normalised rows. Of that the
    gradient keeps nothing, but the loss is some 4·d by it, and so is its rounding: differences between losses are off by
    several times `STRICT`, however many points they use, and formulas by a seventh of it.

    centred: whether the norm takes off the mean.
    """
    x = normal(g, rows, d, mean=0.5, dtype=torch.float64)
    normed = x - centred * x.mean(-1, keepdim=True)
    normed = normed / normed.square().mean(-1, keepdim=True).sqrt()
    weight = 0.5 + torch.rand(d, generator=g, dtype=torch.float64)
    return (4 * normed + normal(g, rows, d, dtype=torch.float64)) / weight, x, weight


def _one_to_two(shape):
    """A factor per row."""
    return torch.linspace(1, 2, math.prod(shape[:-1])).reshape(*shape[:-1], 1) if len(shape) > 1 else 1.5
