"""What the claims of chapter 01 are measured by, see `normcourse.claims`."""

import pandas as pd
import torch

from ... import data
from ..learning_rates import loss_difference

DEFAULT, HE = 3**-0.5, 2**0.5  # gains: torch.nn.Linear's, and the one that keeps a plain ReLU net's second moment


def half_per_layer():
    """What a factor of 0.5 per layer leaves after 10 and 50 layers, multiplied in single precision; exact."""
    rows = [(str(depth), (torch.tensor(0.5) ** depth).item()) for depth in (10, 50)]
    return pd.DataFrame(rows, columns=["setting", "value"])


def input_gradient(skip, gain, seed, *, bias=False, depth=50, d=512):
    """log10 of the gradient norm at the input of `depth` blocks f(x) = W₂ relu(W₁ x + b₁) + b₂, 1 at the output.

    Args: skip: x + f(x) instead of f(x). gain: of weights from N(0, gain²/d). bias: b uniform in ±1/√d, as
        `torch.nn.Linear` draws it, instead of 0.
    """
    generator = torch.Generator().manual_seed(seed)
    x = h = torch.randn(1, d, generator=generator, requires_grad=True)
    for _ in range(depth):
        W1, W2 = torch.randn(2, d, d, generator=generator).mul_(gain / d**0.5)
        b1, b2 = (2 * torch.rand(2, d, generator=generator) - 1) / d**0.5 if bias else (0, 0)
        f = torch.relu(h @ W1 + b1) @ W2 + b2
        h = h + f if skip else f
    direction = torch.randn(h.shape, generator=generator)
    (h * direction / direction.norm()).sum().backward()
    return x.grad.double().norm().log10().item()


def without_skips():
    """`input_gradient` of 50 layers without skips, for three initialisations and three seeds."""
    settings = {
        "default": {"gain": DEFAULT},
        "default_with_biases": {"gain": DEFAULT, "bias": True},
        "variance_kept": {"gain": 2**0.25},  # of two matrices and one relu, which halves the second moment: g⁴ / 2 = 1
    }
    rows = [(name, s, input_gradient(False, seed=s, **given)) for name, given in settings.items() for s in range(3)]
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def deeper_is_worse(depth=30, shallow=4):
    """Training loss of a plain network of 30 layers minus that of one of 4, each at its best; recorded."""
    parts = []
    for name, run in (("without_biases", "degradation"), ("with_biases", "degradation_with_biases")):
        grid = data.recorded(run)
        if "placement" in grid:
            grid = grid[grid["placement"] == "plain"]
        for gain, initialisation in ((DEFAULT, "default"), (HE, "he")):
            runs = grid[(grid["gain"] - gain).abs() < 1e-3]
            deep, flat = (runs[runs["depth"] == layers] for layers in (depth, shallow))
            parts.append(loss_difference(f"{initialisation}_{name}", deep, flat))
    return pd.concat(parts)
